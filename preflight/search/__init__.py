"""Remedies: which changes make a launch fit, and what the freest one is."""
