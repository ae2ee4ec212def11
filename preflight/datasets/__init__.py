"""Rows of a dataset: where they are, what they hold, how long they are."""
