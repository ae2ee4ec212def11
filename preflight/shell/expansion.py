"""One word of shell text: quotes taken off, variables filled in, and what only the running shell can know."""

from __future__ import annotations

import re
from collections.abc import Mapping

from preflight.values import dataclass

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_BRACES = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?)([-=])([^{}$`\"'\\]*))?\}")


class CannotTell(Exception):
    """The text says something that only a shell can follow; the message names it."""


@dataclass(frozen=True)
class ShellWord:
    """One word of the text: where it stands, and the words that it becomes."""

    start: int
    end: int
    texts: tuple[str, ...]
    """One text, or several (or none) where an unquoted variable holds spaces (or nothing)."""
    unknown: tuple[str, ...] = ()
    """Variables, commands and patterns in it that only the running shell can fill in."""


LONGEST_WORD = 1_000_000


def read_word(
    text: str, variables: Mapping[str, str | None], start: int, splits: bool
) -> ShellWord:
    """Read the word at a position, with its quotes taken off and its variables filled in."""
    position = start
    parts: list[str] = [""]
    unknown: list[str] = []
    is_quoted = has_pattern = False
    while position < len(text):
        character = text[position]
        if character in " \t\r\n;&|<>()":
            break
        if character == "\\":
            if text.startswith("\n", position + 1):
                position += 2
                continue
            parts[-1] += text[position + 1 : position + 2]
            position += 2
        elif character == "'":
            end = _closing(text, "'", position + 1)
            parts[-1] += text[position + 1 : end]
            is_quoted, position = True, end + 1
        elif character == '"':
            position = _double_quoted(text, variables, position + 1, parts, unknown)
            is_quoted = True
        elif text.startswith(("$'", '$"'), position):
            raise CannotTell("a word in $'...'")
        elif character in "$`":
            value, position = _expansion(text, variables, position, unknown)
            if not splits or not value.strip():
                parts[-1] += value if not splits else ""
                continue
            pieces = value.split()
            if value[:1].isspace() and parts[-1]:
                parts.append("")
            parts[-1] += pieces[0]
            parts += pieces[1:]
            if value[-1:].isspace():
                parts.append("")
        else:
            if (
                splits
                and not has_pattern
                and (character in "*?[" or _is_brace_list(text, position))
            ):
                has_pattern = True
                unknown.append(_raw(text, start))
            if character == "~" and position == start:
                parts[-1] += variables.get("HOME") or "~"
            else:
                parts[-1] += character
            position += 1
    if sum(map(len, parts)) > LONGEST_WORD:
        raise CannotTell(f"a word of more than {LONGEST_WORD:,} characters")
    texts = tuple(part for part in parts if part or (is_quoted and len(parts) == 1))
    return ShellWord(start, position, texts, tuple(unknown))


def _raw(text: str, start: int) -> str:
    return re.split(r"[\s;&|<>()]", text[start:], maxsplit=1)[0]


def _is_brace_list(text: str, position: int) -> bool:
    return bool(re.compile(r"\{[^\s{}]*(?:,|\.\.)[^\s{}]*\}").match(text, position))


def _closing(text: str, mark: str, start: int) -> int:
    end = text.find(mark, start)
    if end < 0:
        raise CannotTell("a quote that is never closed")
    return end


def _double_quoted(
    text: str,
    variables: Mapping[str, str | None],
    position: int,
    parts: list[str],
    unknown: list[str],
) -> int:
    while position < len(text):
        character = text[position]
        if character == '"':
            return position + 1
        if character == "\\" and text[position + 1 : position + 2] in ("$", "`", '"', "\\", "\n"):
            parts[-1] += text[position + 1].replace("\n", "")
            position += 2
        elif character in "$`":
            value, position = _expansion(text, variables, position, unknown)
            parts[-1] += value
        else:
            parts[-1] += character
            position += 1
    raise CannotTell("a quote that is never closed")


def _expansion(
    text: str, variables: Mapping[str, str | None], position: int, unknown: list[str]
) -> tuple[str, int]:
    """Return what a `$...` stands for and the position behind it; its own text where only the shell knows."""
    if text[position] == "`":
        end = _closing(text, "`", position + 1) + 1
        unknown.append(text[position:end])
        return text[position:end], end
    if text.startswith("(", position + 1):
        end = _closing_parenthesis(text, position + 1)
        unknown.append(text[position:end])
        return text[position:end], end
    braces = _PLAIN_BRACES.match(text, position + 1)
    if braces is not None:
        name, end = braces[1], braces.end()
        value = variables.get(name)
        is_empty = value == "" and braces[2] == ":"
        if braces[3] is not None and (name not in variables or is_empty):
            return braces[4], end
    elif text.startswith("{", position + 1):
        end = _closing(text, "}", position) + 1
        unknown.append(text[position:end])
        return text[position:end], end
    else:
        match = NAME.match(text, position + 1) or re.compile(r"[@*#?$!0-9-]").match(
            text, position + 1
        )
        if match is None:
            return "$", position + 1
        name, end = match[0], match.end()
        value = variables.get(name)
    if value is None:
        unknown.append(text[position:end])
        return text[position:end], end
    return value, end


def _closing_parenthesis(text: str, position: int) -> int:
    depth, quote = 0, ""
    for index in range(position, len(text)):
        character = text[index]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                return index + 1
    raise CannotTell("a parenthesis that is never closed")
