"""Where a quote, a parenthesis or a brace of shell text ends, found without understanding what is in it."""

from __future__ import annotations

import re
from collections.abc import Callable

from preflight.lazy_pattern import lazy_pattern
from preflight.shell.grammar.syntax import CannotRead

_ESCAPE = lazy_pattern(
    r"\\(x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{1,4}|U[0-9a-fA-F]{1,8}|[0-7]{1,3}|c.|.)", re.DOTALL
)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "v": "\v"}  # fmt: skip


def end_of_single(text: str, at: int, escapes: bool = False) -> int:
    """Return where the quote that begins before `at` is closed."""
    return _end_of(text, at, "'", lambda at: at + (2 if escapes and text[at] == "\\" else 1))


def end_of_double(text: str, at: int) -> int:
    """Return where the double quote that begins before `at` is closed."""
    return _end_of(text, at, '"', lambda at: _past(text, at) if text[at] in "\\`$" else at + 1)


def end_of_backquote(text: str, at: int) -> int:
    """Return where the backquote that begins before `at` is closed."""
    return _end_of(text, at, "`", lambda at: at + (2 if text[at] == "\\" else 1))


def _end_of(text: str, at: int, quote: str, past: Callable[[int], int]) -> int:
    while at < len(text) and text[at] != quote:
        at = past(at)
    if at >= len(text):
        raise CannotRead("a quote that is never closed")
    return at


def end_of_parenthesis(text: str, at: int) -> int:
    """Return where the parenthesis that begins before `at` is closed."""
    while at < len(text) and text[at] != ")":
        if text[at] == "(":
            at = end_of_parenthesis(text, at + 1) + 1
        elif text[at] == "#" and text[at - 1] in " \t\n":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        else:
            at = _past(text, at)
    if at >= len(text):
        raise CannotRead("a parenthesis that is never closed")
    return at


def end_of_brace(text: str, at: int, is_quoted: bool) -> int:
    """Return where the `${` that begins before `at` is closed; a single quote in double quotes is none."""
    while at < len(text) and text[at] != "}":
        at = at + 1 if is_quoted and text[at] == "'" else _past(text, at)
    if at >= len(text):
        raise CannotRead("a brace that is never closed")
    return at


def _past(text: str, at: int) -> int:
    """Return the position behind one character, quoted text or expansion."""
    character = text[at]
    if character == "\\":
        return at + 2
    if character == "'":
        return end_of_single(text, at + 1) + 1
    if character == '"':
        return end_of_double(text, at + 1) + 1
    if character == "`":
        return end_of_backquote(text, at + 1) + 1
    if text.startswith("$'", at):
        return end_of_single(text, at + 2, escapes=True) + 1
    if text.startswith("$(", at):
        return end_of_parenthesis(text, at + 2) + 1
    if text.startswith("${", at):
        return end_of_brace(text, at + 2, False) + 1
    return at + 1


def unescaped(text: str) -> str:
    """Return what stands in `$'...'`, or in the format of printf, with its escapes replaced."""

    def character(match: re.Match[str]) -> str:
        what = match[1]
        if what[0] in "xuU" and len(what) > 1:
            number = int(what[1:], 16)
            return chr(number) if number <= 0x10FFFF else match[0]
        if what[0] in "01234567":
            return chr(int(what, 8) & 0xFF)
        if what[0] == "c" and len(what) == 2:
            return chr(ord(what[1]) & 0x1F)
        return _LETTERS.get(what, what if what in "\\'\"?" else match[0])

    return _ESCAPE.sub(character, text)


def end_of_index(text: str, at: int, end: int) -> int:
    """Return where `]` closes an index; the end where nothing does."""
    depth = 0
    while at < end:
        if text[at] in "\"'":
            close = text.find(text[at], at + 1, end)
            at = close if close >= 0 else end
        elif text[at] == "[":
            depth += 1
        elif text[at] == "]":
            if not depth:
                return at
            depth -= 1
        elif text[at] == "\n":
            return end
        at += 1
    return end


def end_of_first(text: str, at: int, end: int, divider: str, may_be_empty: bool) -> int:
    """Return where the second part of `${x/from/to}` or `${x:1:2}` begins; the end without one."""
    start = at
    depth = 0
    while at < end:
        character = text[at]
        if character == "\\":
            at += 1
        elif character in "\"'":
            close = text.find(character, at + 1, end)
            at = close if close >= 0 else at
        elif text.startswith(("${", "$("), at):
            try:
                is_brace = text[at + 1] == "{"
                at = end_of_brace(text, at + 2, False) if is_brace else end_of_parenthesis(text, at + 2)  # fmt: skip
            except CannotRead:
                return end
        elif character == "?" and divider == ":":
            depth += 1
        elif character == divider and (at > start or may_be_empty):
            if not depth:
                return at
            depth -= 1
        at += 1
    return end
