"""What no formula counts, and how far a bound may be off."""
