"""Whether a script's condition holds, as far as its text tells: `[ ... ]`, `[[ ... ]]` and `(( ... ))`."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence

from preflight.shell.tree import CannotRead, Simple, shell_tree
from preflight.shell.values import Unknown, Variables, arithmetic, text_of

_COMPARED = {"-eq": "==", "-ne": "!=", "-lt": "<", "-le": "<=", "-gt": ">", "-ge": ">="}


def is_true(
    kind: str, text: str, variables: Variables, cwd: str, files: Mapping[str, str]
) -> bool | None:
    """Return whether a condition holds; None where that is not known."""
    if kind == "((":
        try:
            return arithmetic(text, variables) != 0
        except Unknown:
            return None
    try:
        words = _raw_words(text)
        return _any(words, variables, cwd, files)
    except (Unknown, CannotRead, ValueError, IndexError):
        return None


_OPERATOR = re.compile(r"'(!|-[a-zA-Z]{1,2}|==?|!=|&&|\|\|)'")


def _raw_words(text: str) -> list[str]:
    """Return the words of a condition as written; its operators are words too, bare."""
    if "(" in text.replace("$(", ""):
        raise Unknown(text)
    protected = text.replace("&&", " '&&' ").replace("||", " '||' ")
    protected = protected.replace("<", "'<'").replace(">", "'>'")
    statements = shell_tree(f"x {protected}\n")
    first = statements[0].pipelines[0][1].commands[0]
    if not isinstance(first, Simple) or len(statements) != 1:
        raise Unknown(text)
    return [match[1] if (match := _OPERATOR.fullmatch(w)) else w for w in first.words[1:]]


def _any(words: list[str], variables: Variables, cwd: str, files: Mapping[str, str]) -> bool:
    for mark, joined in (("||", any), ("-o", any), ("&&", all), ("-a", all)):
        if mark in words:
            at = words.index(mark)
            parts = [words[:at], words[at + 1 :]]
            return joined([_any(part, variables, cwd, files) for part in parts])
    if words[:1] == ["!"]:
        return not _any(words[1:], variables, cwd, files)
    return _one(words, variables, cwd, files)


def _one(words: Sequence[str], variables: Variables, cwd: str, files: Mapping[str, str]) -> bool:
    if len(words) == 1:
        return text_of(words[0], variables) != ""
    if len(words) == 2:
        operator, raw = words
        if operator == "-v":
            return raw in variables.values
        value = text_of(raw, variables)
        if operator in ("-z", "-n"):
            return (value == "") is (operator == "-z")
        path = os.path.join(cwd, value)
        if operator in ("-f", "-e", "-r", "-s"):
            return path in files or (
                os.path.isfile(path) if operator == "-f" else os.path.exists(path)
            )
        if operator == "-d":
            return os.path.isdir(path)
        raise Unknown(operator)
    left, operator, right = words
    if operator in _COMPARED:
        numbers = arithmetic(text_of(left, variables), variables), arithmetic(text_of(right, variables), variables)  # fmt: skip
        return {
            "==": numbers[0] == numbers[1],
            "!=": numbers[0] != numbers[1],
            "<": numbers[0] < numbers[1],
            "<=": numbers[0] <= numbers[1],
            ">": numbers[0] > numbers[1],
            ">=": numbers[0] >= numbers[1],
        }[_COMPARED[operator]]
    if operator in ("=", "==", "!="):
        fits = fnmatch.fnmatchcase(text_of(left, variables), text_of(right, variables))
        return fits is (operator != "!=")
    raise Unknown(operator)
