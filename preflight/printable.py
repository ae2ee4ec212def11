r"""Text of files that others wrote, fit to be shown: a control character becomes `\x1b` or `\u009b`, and does nothing.

Every line goes through here on its way out (`streams.say`, the pages, the texts of exceptions), so that no place that
names a value of a file has to think of it. Colors of our own are marked with a secret until then.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable

from preflight.lazy_pattern import lazy_pattern

_CONTROL = lazy_pattern(
    # C0 but tab and newline, DEL and C1; what turns the direction of text around; other line ends.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
_SECRET = f"\x00{os.urandom(8).hex()}\x00"
"""What stands for the start of our own escape sequences; no file knows it."""
_PAINT = lazy_pattern(f"{_SECRET}\\d+m")

_NOT_BARE = lazy_pattern(f"[\t\n\udc80-\udcff]|{_CONTROL.pattern}")
_HALF = lazy_pattern("[\ud800-\udc7f\udd00-\udfff]")
_BARE = {byte: chr(byte) for byte in range(32, 127)} | {39: "\\'", 92: "\\\\"}


def printable(text: str) -> str:
    """Return a text with its control characters shown, tabs and ends of lines excepted, and our colors in force.

    From DEL on they are written as JSON writes them, which is the only place where they stand bare.
    """
    parts = [_CONTROL.sub(_shown, part) for part in text.split(_SECRET)]
    return "\x1b[".join(parts)


def text_of(lines: Iterable[str]) -> str:
    """Return lines as one text, in which each is one line whatever stands in it."""
    return "\n".join(line.replace("\n", "\\n") for line in lines)


def painted(text: str, code: str) -> str:
    """Return a text in a color of the terminal, once it is printable."""
    return f"{_SECRET}{code}m{text}{_SECRET}0m"


def unpainted(text: str) -> str:
    """Return a text without its colors, as wide as it is shown."""
    return _PAINT.sub("", text)


def shell_word(word: str) -> str:
    """Return a word as a shell takes it, on one line and with nothing left to show: such a word is a bash `$'...'`."""
    if not _NOT_BARE.search(word):
        return shlex.quote(word)
    # No program can be given half a character of UTF-16, which JSON can hold.
    data = _HALF.sub("\ufffd", word).encode("utf-8", "surrogateescape")
    return "$'" + "".join(_BARE.get(byte, f"\\x{byte:02x}") for byte in data) + "'"


def _shown(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x7F else f"\\u{number:04x}"
