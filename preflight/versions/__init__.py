"""What changed in which release of a library: one module per library, named like it, trl_pairs beside trl; and what is installed here."""
