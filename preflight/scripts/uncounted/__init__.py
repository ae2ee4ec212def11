"""What a script does beside its trainer that no formula counts, or that one counts because it was read here."""
