"""Layouts of model families: every parameter from a config alone."""
