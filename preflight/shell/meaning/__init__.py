"""What statements and words come to: variables, expansions, builtins, the files that a script writes and reads."""
