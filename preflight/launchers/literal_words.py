"""Words of a command line that a framework takes for Python's literals: `--a.b 1e-5`, `--a.c [1,2]`, `--a.d none`."""

from __future__ import annotations

import ast
from typing import Any


def literal_of(text: str) -> Any:
    """Return a word as a literal, as a word for nothing, yes or no, else as the text that it is."""
    special = {"none": None, "true": True, "false": False}
    if text.lower() in special:
        return special[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
