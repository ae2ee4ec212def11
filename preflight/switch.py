"""What the environment says of checks: off, warn, enforce, or nothing; read in one way by every door."""

from __future__ import annotations

from collections.abc import Mapping

VARIABLE = "PREFLIGHT"


def said(env: Mapping[str, str]) -> str:
    """Return the word, in lower case, without the spaces that a shell script left around it."""
    return env.get(VARIABLE, "").strip().lower()


def is_off(env: Mapping[str, str]) -> bool:
    """Tell whether nothing is to be checked."""
    return said(env) == "off"
