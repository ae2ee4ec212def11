"""Command lines and shell text, read and never run."""
