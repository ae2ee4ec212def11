"""A training script, read and never run."""
