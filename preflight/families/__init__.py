"""What the parameters of each model family are, from its config alone: one file per group of families."""
