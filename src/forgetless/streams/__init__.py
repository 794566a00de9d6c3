"""Task streams: what a sequence of tasks is, the built-in ones, and running a method through one."""
