"""torchtitan: its configs, what it makes of them, and writing them back."""
