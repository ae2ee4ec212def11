"""torchtune: its recipes and configs, what it makes of them, and writing them back."""
