"""Losses that a script computes itself, followed operation by operation."""
