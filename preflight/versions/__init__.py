"""What changed in which release of a library: one module per library, named like it; and what is installed here."""
