"""The text of a file without what it only says: help, warnings and documentation make no adapter and load no model."""

from __future__ import annotations

import ast
import re

from preflight.scripts.trees import tree_of

RUNS_TEXT = re.compile(r"(?<![.\w])(?:exec|eval|compile)\(|\bsubprocess\b|os\.system\(")
"""Calls for which a text of several words may be what runs."""


def without_messages(text: str, used: str) -> str:
    """Return the used lines of a file with every text of several words emptied, place for place.

    `used` has the lines of `text`, some of them empty. Nothing is taken out where texts may run, or where the file is
    not Python.
    """
    if RUNS_TEXT.search(used):
        return used
    try:
        nodes = list(ast.walk(tree_of(text)))
    except (SyntaxError, ValueError, RecursionError):
        return used
    # those of an f-string have no places of their own before Python 3.12
    of_formats = {
        id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values
    }
    whole, lines = text.split("\n"), used.split("\n")
    for node in nodes:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) not in of_formats and re.search(r"\S\s+\S", node.value):
            _empty(node, whole, lines)
    return "\n".join(lines)


def _empty(node: ast.Constant, whole: list[str], lines: list[str]) -> None:
    last = node.end_lineno or node.lineno
    for number in range(node.lineno, last + 1):
        line = whole[number - 1]
        if len(lines[number - 1]) != len(line):
            continue  # emptied already
        first = _characters(line, node.col_offset) if number == node.lineno else 0
        end = _characters(line, node.end_col_offset or 0) if number == last else len(line)
        kept = lines[number - 1]
        lines[number - 1] = kept[:first] + " " * (end - first) + kept[end:]


def _characters(line: str, num_bytes: int) -> int:
    """Return how many characters the first bytes of a line are: a syntax tree counts in UTF-8."""
    return num_bytes if line.isascii() else len(line.encode()[:num_bytes].decode())
