"""What adapters train, and what is frozen beside them."""
