"""Plan fields back into files and flags."""
