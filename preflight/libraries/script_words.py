"""What a script's own text asks of transformers, TRL and PEFT: keywords of calls, imported names, classes of a parser."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from preflight.lazy_pattern import lazy_pattern
from preflight.versions.spans import words_of

LIBRARIES = ("transformers", "trl", "peft")
PARSERS = ("HfArgumentParser", "TrlParser")
ASKS_RELEASE = lazy_pattern(r"version|signature|hasattr|TYPE_CHECKING")


def keywords_of(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield class, keyword and line of the calls with which a script makes what it imports of the libraries.

    Unsloth gives TRL's trainers their old keywords back.
    """
    nodes = () if "unsloth" in text else _sure(text)
    meant = _meant(nodes)
    for node in nodes:
        called = _called(node.func, meant) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and called:
            yield from ((called, k.arg, k.value.lineno) for k in node.keywords if k.arg)


def imported_names(text: str) -> set[tuple[str, str, int]]:
    """Return library, name and line of what a script imports of the libraries themselves."""
    return {
        (node.module, alias.name, node.lineno)
        for node in _sure(text)
        if isinstance(node, ast.ImportFrom) and node.module in LIBRARIES
        for alias in node.names
    }


def own_modules(text: str) -> set[str]:
    """Return the modules, dotted, of which a script imports names, and that are none of the libraries'."""
    return {
        node.module
        for node in _sure(text)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        if node.module.partition(".")[0] not in LIBRARIES
    }


def parses_only_theirs(text: str, modules: Sequence[str] = ()) -> bool:
    """Tell whether all that a script's parsers take is the libraries' own, or stands where it is seen: in the script, or
    in one of the modules of its repository that it imports, whose texts these are."""
    nodes = _sure(text)
    meant = _meant(nodes)
    seen = {name for each in (text, *modules) for name in _stand_on_theirs(each)}
    found = False
    for node in nodes:
        if not isinstance(node, ast.Call) or _called(node.func, meant) not in PARSERS:
            continue
        found = True
        values = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "dataclass_types")]
        for value in values:
            parts = value.elts if isinstance(value, (ast.Tuple, ast.List)) else [value]
            if not all(
                _called(p, meant) or (isinstance(p, ast.Name) and p.id in seen) for p in parts
            ):
                return False
    return found


def _stand_on_theirs(text: str) -> Iterator[str]:
    """Yield the classes of a file that stand on the libraries' alone, or on none."""
    nodes = _sure(text)
    meant = _meant(nodes)
    for node in nodes:
        if isinstance(node, ast.ClassDef) and all(_called(base, meant) for base in node.bases):
            yield node.name


def _meant(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """Return what a script calls the names that it imports of the libraries -> their own."""
    return {
        alias.asname or alias.name: alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in LIBRARIES
        for alias in node.names
    }


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset[str]().union(*map(words_of, LIBRARIES))


@lru_cache(maxsize=4)
def _sure(text: str) -> tuple[ast.AST, ...]:
    """Return what of a script surely runs in every release: nothing that is tried, or under a condition on a version."""
    if not any(library in text for library in LIBRARIES) or not any(n in text for n in _names()):
        return ()
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError):
        return ()
    guarded = {
        id(inner)
        for node in nodes
        if isinstance(node, ast.Try)
        or (isinstance(node, ast.If) and ASKS_RELEASE.search(ast.unparse(node.test)))
        for inner in ast.walk(node)
    }
    return tuple(
        node
        for node in nodes
        if isinstance(node, (ast.Call, ast.ImportFrom, ast.ClassDef)) and id(node) not in guarded
    )


def _called(func: ast.expr, meant: Mapping[str, str]) -> str:
    """Return the class of the libraries that a call makes; empty where it is another one."""
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
        return func.attr if func.value.id in LIBRARIES else ""
    return meant.get(func.id, "") if isinstance(func, ast.Name) else ""
