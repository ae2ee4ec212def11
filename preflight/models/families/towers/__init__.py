"""Vision towers and their projectors, by whose they are."""
