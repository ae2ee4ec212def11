"""axolotl: its config, what it makes of it, and writing it back."""
