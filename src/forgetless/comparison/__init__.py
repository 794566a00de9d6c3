"""Methods compared fairly: one plan, one budget, the same splits, tuned alike, judged at equal learning."""
