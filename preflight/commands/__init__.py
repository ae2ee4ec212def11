"""One file per command: its options, what it does, the exit code it returns."""
