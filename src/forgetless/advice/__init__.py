"""Which method fits which situation, and why."""
