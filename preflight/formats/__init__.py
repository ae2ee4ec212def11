"""Documents with marks: YAML, JSON and command lines read with their places, and edited there."""
