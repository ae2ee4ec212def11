"""What the environment says of checks: off, warn, enforce, or nothing; read in one way by every door."""

from __future__ import annotations

from collections.abc import Mapping

VARIABLE = "PREFLIGHT"
OFF = "off"
MODES = ("warn", "enforce")
"""What turns a guard on."""


def said(env: Mapping[str, str]) -> str:
    """Return the word, in lower case, without the spaces that a shell script left around it; every word for false is `off`."""
    word = env.get(VARIABLE, "").strip().lower()
    if not word or word in (OFF, *MODES):
        return word
    from preflight.bool_words import STRTOBOOL  # a process that says nothing imports nothing

    return OFF if STRTOBOOL.read(word) is False else word


def is_off(env: Mapping[str, str]) -> bool:
    """Tell whether nothing is to be checked."""
    return said(env) == OFF


def unknown_word(env: Mapping[str, str]) -> str:
    """Return a line about a word that means nothing here, for a door where somebody reads it; else nothing."""
    word = said(env)
    if not word or word in (OFF, *MODES):
        return ""
    words = ", ".join((OFF, *MODES))
    return f"{VARIABLE}={word}, which is none of {words} and changes nothing"
