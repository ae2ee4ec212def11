"""Loading JSON with marks: the values of json.loads, and errors that say what to change and where."""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import lru_cache
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from typing import Any

from preflight.errors import BadInput
from preflight.formats.document import Document, KeyPath, Mark, at, not_a_mapping
from preflight.formats.marks import Entries
from preflight.lazy_pattern import lazy_pattern

_SPACE = lazy_pattern(r"[ \t\n\r]*")
_NUMBER = lazy_pattern(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = lazy_pattern(r"[^\s,:\[\]{}\"]+")
_CONSTANTS = {
    "true": True,
    "false": False,
    "null": None,
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}
"""Infinity is not JSON, but Python reads it and accelerate writes it (steps_per_print)."""
_LOOK_ALIKES = {
    "True": "true",
    "False": "false",
    "None": "null",
    "yes": "true",
    "no": "false",
    "on": "true",
    "off": "false",
}


@lru_cache(maxsize=4)
def read_json(text: str, path: str, duplicates: str) -> Document:
    """Load JSON text; see load_json. A search writes a launch a hundred times and reads it back: nobody changes a document."""
    scanner = _Scanner(text, path, duplicates)
    try:
        value = scanner.document()
    except RecursionError as error:
        raise BadInput.one(f"{path} is nested too deeply", path) from error
    if not isinstance(value, dict):
        raise not_a_mapping(path, value)
    return Document(path, text, "json", value, scanner.marks, scanner.entries.problems)


class _Scanner:
    """A recursive-descent reader over one text."""

    def __init__(self, text: str, path: str, duplicates: str) -> None:
        self.text = text
        self.path = path
        self.entries = Entries(path, text, duplicates)
        self.marks = self.entries.marks
        self.line_ends = [match.start() for match in re.finditer("\n", text)]

    def document(self) -> Any:
        """Return the only value of the text."""
        if self.text.startswith("\ufeff"):
            raise self.error(
                0, "a byte order mark, which JSON readers refuse", "save as UTF-8 without BOM"
            )
        start = self.skip(0)
        if start == len(self.text):
            raise BadInput.one(
                f"{self.path} is empty", self.path, "give it the settings, or drop the file"
            )
        value, end = self.value(start, (), (-1, -1, self.line(start)))
        end = self.skip(end)
        if end < len(self.text):
            raise self.error(end, "something after the end of the JSON value", "remove it")
        return value

    def value(self, start: int, key_path: KeyPath, key: tuple[int, int, int]) -> tuple[Any, int]:
        """Return the value at `start` and the offset after it."""
        self.entries.refuse_more()
        first = self.text[start : start + 1]
        value: Any
        if first == "{":
            self.marks[key_path] = Mark(*key[:2], start, start, key[2], "flow_mapping")
            value, end = self.mapping(start, key_path)
            kind = "flow_mapping"
        elif first == "[":
            self.marks[key_path] = Mark(*key[:2], start, start, key[2], "flow_sequence")
            value, end = self.sequence(start, key_path)
            kind = "flow_sequence"
        elif first == '"':
            value, end = self.string(start)
            kind = "quoted"
        else:
            value, end = self.scalar(start)
            kind = "plain"
        self.marks[key_path] = Mark(*key[:2], start, end, key[2], kind)
        return value, end

    def mapping(self, start: int, key_path: KeyPath) -> tuple[dict[str, Any], int]:
        """Return the mapping that opens at `start` and the offset after it."""
        result: dict[str, Any] = {}
        lines: dict[str, int] = {}
        here = self.skip(start + 1)
        if self.text[here : here + 1] == "}":
            return result, here + 1
        while True:
            if self.text[here : here + 1] != '"':
                raise self.bad_key(here)
            key, key_end = self.string(here)
            line = self.line(here)
            if key in lines:
                self.entries.given_twice((*key_path, key), lines[key], line)
            lines[key] = line
            colon = self.skip(key_end)
            if self.text[colon : colon + 1] != ":":
                raise self.error(
                    colon, f'a `:` is missing after "{key}"', "write `:` and the value"
                )
            result[key], end = self.value(
                self.skip(colon + 1), (*key_path, key), (here, key_end, line)
            )
            here = self.after_entry(end, "}")
            if here < 0:
                return result, -here
            if self.text[here : here + 1] == "}":
                comma = self.text.rindex(",", 0, here)
                raise self.error(comma, "a comma after the last entry", "remove the comma")

    def sequence(self, start: int, key_path: KeyPath) -> tuple[list[Any], int]:
        """Return the list that opens at `start` and the offset after it."""
        result: list[Any] = []
        here = self.skip(start + 1)
        if self.text[here : here + 1] == "]":
            return result, here + 1
        while True:
            place = (-1, -1, self.line(here))
            item, end = self.value(here, (*key_path, str(len(result))), place)
            result.append(item)
            here = self.after_entry(end, "]")
            if here < 0:
                return result, -here
            if self.text[here : here + 1] == "]":
                comma = self.text.rindex(",", 0, here)
                raise self.error(comma, "a comma after the last entry", "remove the comma")

    def after_entry(self, end: int, closing: str) -> int:
        """Return where the next entry starts, or minus the offset after the closing bracket."""
        here = self.skip(end)
        found = self.text[here : here + 1]
        if found == ",":
            return self.skip(here + 1)
        if found == closing:
            return -(here + 1)
        if not found:
            raise self.error(
                here, f"the file ends before a closing `{closing}`", f"add the `{closing}`"
            )
        if found in "}]":
            raise self.error(
                here, f"`{found}` where `{closing}` must close", "close what was opened last"
            )
        raise self.error(
            end, "a comma is missing after this value", "write a `,` between two entries"
        )

    def string(self, start: int) -> tuple[str, int]:
        """Return the string that opens at `start` and the offset after it."""
        try:
            value, end = scanstring(self.text, start + 1, True)
        except JSONDecodeError as error:
            if "Unterminated" in error.msg:
                raise self.error(start, "a string that never ends", 'close it with a `"`') from None
            if "control character" in error.msg:
                shown = {"\n": "a line break", "\r": "a line break", "\t": "a tab"}
                name = shown.get(self.text[error.pos : error.pos + 1], "a control character")
                raise self.error(
                    error.pos, f"{name} inside a string", "close the string on its own line"
                ) from None
            raise self.error(
                error.pos, "an unknown `\\` escape", "write `\\\\` for a backslash"
            ) from None
        return value, end

    def scalar(self, start: int) -> tuple[Any, int]:
        """Return the number or constant at `start` and the offset after it."""
        match = _WORD.match(self.text, start)
        if match is None:
            found = self.text[start : start + 1]
            if not found:
                raise self.error(start, "the file ends where a value must be", "write the value")
            raise self.error(start, f"a value is missing before `{found}`", "write the value")
        word = match.group()
        if word in _CONSTANTS:
            return _CONSTANTS[word], match.end()
        number = _NUMBER.fullmatch(word)
        if number is None:
            raise self.bad_value(start, word)
        integer, fraction, exponent = number.groups()
        try:
            value = float(word) if fraction or exponent else int(integer)
        except ValueError:  # Python reads whole numbers of 4,300 digits at most.
            raise self.error(start, "a number with too many digits", "") from None
        return value, match.end()

    def bad_value(self, start: int, word: str) -> BadInput:
        """Return the error of a word that is no JSON value."""
        if word in _LOOK_ALIKES:
            return self.error(start, f"`{word}` is not JSON", f"write `{_LOOK_ALIKES[word]}`")
        if word == "NaN":
            return self.error(
                start, "`NaN` is not a JSON number", "write a number, or drop the key"
            )
        if word.startswith(("//", "#", "/*")):
            return self.comment(start)
        if word.startswith("'"):
            return self.error(start, "a string in single quotes", "use double quotes")
        if word.lstrip("+-.")[:1].isdecimal():
            return self.error(
                start, f"`{word}` is not a JSON number", "write it like 10, 0.5 or 5e8"
            )
        return self.error(start, f"`{word}` is not a JSON value", f'write "{word}" for text')

    def bad_key(self, start: int) -> BadInput:
        """Return the error of what stands where a key must be."""
        match = _WORD.match(self.text, start)
        if match is None:
            found = self.text[start : start + 1]
            if not found:
                return self.error(start, "the file ends before a closing `}`", "add the `}`")
            return self.error(start, f"a key is missing before `{found}`", 'write `"key": value`')
        word = match.group()
        if word.startswith("'"):
            return self.error(start, "a key in single quotes", "use double quotes")
        return self.error(start, f"the key `{word}` has no quotes", f'write "{word}"')

    def skip(self, start: int) -> int:
        """Return the offset of the next character that is not white space."""
        match = _SPACE.match(self.text, start)
        assert match is not None
        end = match.end()
        if self.text[end : end + 1] == "#" or self.text[end : end + 2] in ("//", "/*"):
            raise self.comment(end)
        return end

    def comment(self, start: int) -> BadInput:
        """Return the error of a comment."""
        return self.error(start, "a comment, which JSON does not have", "remove it")

    def line(self, offset: int) -> int:
        """Return the 1-based line of an offset."""
        return bisect_left(self.line_ends, offset) + 1

    def error(self, offset: int, message: str, fix: str) -> BadInput:
        """Return the error at an offset."""
        column = offset - self.text.rfind("\n", 0, offset)
        return BadInput.one(message, at(self.path, self.line(offset), column), fix)
