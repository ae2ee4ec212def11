"""LLaMA-Factory: its arguments, what it makes of them, and writing them back."""
