"""Closed forms: what a plan and a model make of bytes, added up by `hooks/memory_*.py`."""
