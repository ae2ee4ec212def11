"""`sys.argv[1] if len(sys.argv) > 1 else "bert-base-uncased"`: how many words a script is given, and each of them."""

from __future__ import annotations

import ast
import os

from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import unparse
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.setting import Place

ADDS_WORD = lazy_pattern(r"(?:^|/)deepspeed(?:$|\s)|distributed[./]launch")
"""Launchers that put a word of their own, --local_rank=0, before the script's (deepspeed/launcher/launch.py 0.19.8,
torch/distributed/run.py 2.13)."""
ADDS_NONE = frozenset({"--no_local_rank", "--use_env", "--use-env"})
_OPEN = lazy_pattern(r"[$`<>{}]")
"""What a shell, or a reader of documentation, puts something else for."""


def is_argv(node: ast.AST) -> bool:
    """Tell whether an expression is `sys.argv`."""
    return isinstance(node, ast.Attribute) and unparse(node) == "sys.argv"


def num_words(command: LaunchCommand, path: str) -> object:
    """Return `len(sys.argv)` of a launch's script, its name counted; UNKNOWN of another file."""
    own = _own(command, path)
    return UNKNOWN if own is None else len(own)


def word(command: LaunchCommand, path: str, key: object) -> object:
    """Return `sys.argv[key]`; UNKNOWN where there is none, where a launcher puts it or a shell something else for it."""
    own = _own(command, path)
    if own is None or not isinstance(key, int) or not -len(own) <= key < len(own):
        return UNKNOWN
    index = own[key]
    if index is None or _OPEN.search(command.argv[index]):
        return UNKNOWN
    return Known(command.argv[index], Place("argv", "", command.argv[index], index=index))


def first_word(command: LaunchCommand, path: str) -> int | None:
    """Return where the words begin that a launch gives a script; None of another file."""
    own = _own(command, path)
    return None if own is None or own[0] is None else own[0] + 1


def _own(command: LaunchCommand, path: str) -> list[int | None] | None:
    """Return where a script's own words stand, with its name, None for one that its launcher adds."""
    for index, each in enumerate(command.argv):
        module = index > 0 and command.argv[index - 1] == "-m"
        named = command.script_file(each) if module else each
        if os.path.normpath(named) != os.path.normpath(path):
            continue
        launcher = command.argv[:index]
        adds = any(map(ADDS_WORD.search, launcher)) and not ADDS_NONE.intersection(launcher)
        rest = range(index + 1, len(command.argv))
        return [index, *([None] if adds else []), *rest]
    return None
