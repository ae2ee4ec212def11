"""Paths that a script puts together: `os.path.join(os.path.dirname(__file__), "c.yaml")`, `Path(__file__).parent / "c.yaml"`.

A path is its text here, whatever type it has when the script runs.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import last_name
from preflight.scripts.python.scope import UNKNOWN

OF_FILE = "__file__"
MODULES = ("os.path.", "osp.", "pathlib.")
FUNCTIONS = ("join", "dirname", "abspath", "realpath", "Path")
METHODS = ("resolve", "absolute", "joinpath")
ASKS_DISK = lazy_pattern(r"\b(?:exists|isfile|isdir|is_file|is_dir)\(")
"""Functions and methods that ask whether a path is there."""


def called(name: str, given: Sequence[object], folder: str) -> object:
    """Return what a function of paths gives, for a process that starts in `folder`; UNKNOWN for any other function."""
    texts = [each for each in given if isinstance(each, str)]
    if not texts or len(texts) < len(given):
        return UNKNOWN
    short = next((name.removeprefix(each) for each in MODULES if name.startswith(each)), name)
    if short == "join" and short != name:
        return os.path.join(*texts)
    if short == "Path":
        return os.path.join(*texts)
    if len(texts) > 1:
        return UNKNOWN
    if short == "dirname":
        return os.path.dirname(texts[0])
    if short in ("abspath", "realpath"):
        return whole(texts[0], folder)
    return UNKNOWN


def of_method(name: str, path: object, given: Sequence[object], folder: str) -> object:
    """Return what a method of a Path gives: `resolve()`, `absolute()`, `joinpath("c.yaml")`."""
    if not isinstance(path, str):
        return UNKNOWN
    if name in ("resolve", "absolute") and not given:
        return whole(path, folder)
    return called("os.path.join", [path, *given], folder) if name == "joinpath" else UNKNOWN


def of_attribute(name: str, path: object) -> object:
    """Return what a Path has by an attribute: the folder that it is in, and those above that."""
    if not isinstance(path, str) or name not in ("parent", "parents"):
        return UNKNOWN
    above = [os.path.dirname(path)]
    while os.path.dirname(above[-1]) != above[-1]:
        above.append(os.path.dirname(above[-1]))
    return above[0] if name == "parent" else tuple(above)


def end_of(path: ast.expr) -> ast.expr | None:
    """Return N of `os.path.join(folder, N)`, `f"{folder}/{N}"` and `folder / N`; None of any other expression."""
    if isinstance(path, ast.Call) and last_name(path.func) in ("join", "joinpath", "Path", "str"):
        end = path.args[-1] if path.args else None
        return end if end is None or len(path.args) > 1 else end_of(end)
    if isinstance(path, ast.BinOp) and isinstance(path.op, ast.Div):
        return path.right
    if isinstance(path, ast.JoinedStr) and len(path.values) > 1:
        before, end = path.values[-2:]
        is_part = isinstance(before, ast.Constant) and str(before.value).endswith("/")
        return end.value if is_part and isinstance(end, ast.FormattedValue) else None
    return None


def whole(path: str, folder: str) -> str:
    """Return a path from the root, for a process that starts in `folder`."""
    return os.path.normpath(os.path.join(folder, path))
