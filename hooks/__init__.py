"""What preflight knows of the outside world: one file per fact, the first word is the hook it implements."""
