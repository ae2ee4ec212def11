"""`sys.argv[1] if len(sys.argv) > 1 else "bert-base-uncased"`: a word of the command line, or what stands for it."""

from __future__ import annotations

import ast
import os
import re

from preflight.launch import LaunchCommand
from preflight.scripts.nodes import unparse
from preflight.scripts.scope import UNKNOWN, Known
from preflight.setting import Place

ADDS_WORDS = re.compile(r"(?:^|/)deepspeed(?:$|\s)|distributed[./]launch")
"""Launchers that put a word of their own, --local_rank, before the script's."""
_ASKED = re.compile(r"len\(sys\.argv\) (>=?|==) (\d+)")
_TAKEN = re.compile(r"sys\.argv\[(\d+)\]")
_OPEN = re.compile(r"[$`<>{}]")
"""What a shell, or a reader of documentation, puts something else for."""


def chosen(node: ast.IfExp, command: LaunchCommand, path: str) -> ast.expr | Known | None:
    """Return what such an expression gives: a word, or the expression that stands for it; None where that is not known."""
    asked = _ASKED.fullmatch(unparse(node.test))
    start = None if asked is None else _start(command, path)
    if asked is None or start is None:
        return None
    words, number = command.argv[start:], int(asked[2])
    if not {">": len(words) > number, ">=": len(words) >= number, "==": len(words) == number}[
        asked[1]
    ]:
        return node.orelse
    taken = _TAKEN.fullmatch(unparse(node.body))
    if taken is None or int(taken[1]) >= len(words) or _OPEN.search(words[int(taken[1])]):
        return Known(UNKNOWN, Place("script", path, "", node.lineno))
    index = start + int(taken[1])
    return Known(command.argv[index], Place("argv", "", command.argv[index], index=index))


def _start(command: LaunchCommand, path: str) -> int | None:
    """Return where a script's own words start, with its name; None where its launcher adds to them."""
    for index, word in enumerate(command.argv):
        if ADDS_WORDS.search(word):
            return None
        module = index > 0 and command.argv[index - 1] == "-m"
        named = command.script_file(word) if module else word
        if os.path.normpath(named) == os.path.normpath(path):
            return index
    return None
