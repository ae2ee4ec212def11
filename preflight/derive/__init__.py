"""Tables and pages made from installed libraries: `python -m preflight.derive`. What only developers run, not in the wheel."""
