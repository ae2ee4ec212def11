"""Releases that a launch's own arguments rule out: those that its parser's classes in transformers or TRL have no more.

release_spans.json says for each class which argument or keyword left with which release
(`python -m preflight.derive release_spans`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise

from preflight.command import LaunchCommand
from preflight.libraries.requirement import Clause
from preflight.own_tables import beside, read_table
from preflight.versions.boundary import release

LIBRARIES = ("transformers", "trl", "peft")
ALONE = ("evaluation_strategy", "dispatch_batches")
"""Arguments that no other program has: of transformers' parser, whether a script names that or imports what does."""
SUCCESSORS = {"evaluation_strategy": "eval_strategy"}
"""Argument that a script gives as a keyword too -> its name since: a script that knows both says nothing."""
OF_A_SCRIPT = ("ModelConfig", "ScriptArguments")
"""Classes of TRL whose arguments its own scripts take beside those of the trainer."""
IMPORTED = "import"
"""What stands in the table for the names that a package gives, where others stand for those of a class."""
ASKS_RELEASE = re.compile(r"version|signature|hasattr")
KEY = re.compile(r"^([a-z_]\w*)[ \t]*:", re.M)
"""A key of a file of arguments."""

Gone = Mapping[str, str]
"""Argument -> the first release without it."""


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Mapping[str, Gone]]:
    found: Mapping[str, Mapping[str, Gone]] = read_table(beside(__file__, "release_spans.json"))
    return found


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(
        name for each in LIBRARIES for gone in _table()[each].values() for name in gone
    )


def gone_from_trl(method: str) -> dict[str, tuple[str, str]]:
    """Return what the parser of a method of TRL's command line has no more: argument -> library, first release without it."""
    return {
        name: (library, since)
        for library in LIBRARIES
        for each in ("TrainingArguments", *OF_A_SCRIPT, *_classes_of(method))
        for name, since in _table()[library].get(each, {}).items()
    }


def ruled_out(command: LaunchCommand) -> Iterator[tuple[str, Clause, str]]:
    """Yield library, what its release must be, and the argument that says so; the strictest of each library."""
    text = _text(command)
    given = dict(_given(command, text))
    keywords, imported = tuple(_keywords(text)), _imported(text)
    for library in LIBRARIES:
        gone = _gone(library, command, text)
        if library == "transformers":
            ours = _table()[library]["TrainingArguments"]
            gone = {**{name: ours[name] for name in ALONE}, **gone}
        found = [
            (since, f"--{name}" if given.get(name) == "" else given.get(name, name))
            for name, since in gone.items()
            if (name in given and not _is_own(text, name)) or _is_keyword(text, name)
        ]
        found += [
            (table[name], f"{called}({name}=)")
            for called, name in keywords
            if name not in SUCCESSORS and name in (table := _of_call(library, called))
        ]
        found += [
            (since, f"from {library} import {name}")
            for name, since in _table()[library].get(IMPORTED, {}).items()
            if (library, name) in imported
        ]
        if found:
            since, said = min(found, key=lambda each: release(each[0]))
            yield library, Clause("<", since), said


def _of_call(library: str, called: str) -> Gone:
    """Return what a class takes no more as keywords; TRL's arguments stand on transformers'."""
    table = _table()[library]
    is_trls = called in _table()["trl"] and called.endswith("Config")
    return table.get("TrainingArguments" if library == "transformers" and is_trls else called, {})


def _keywords(text: str) -> Iterator[tuple[str, str]]:
    """Yield class and keyword of the calls with which a script makes what it imports of the libraries.

    Unsloth gives TRL's trainers their old keywords back.
    """
    nodes = () if "unsloth" in text else _sure(text)
    meant = {
        alias.asname or alias.name: alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in LIBRARIES
        for alias in node.names
    }
    for node in nodes:
        called = _called(node.func, meant) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and called:
            yield from ((called, keyword.arg) for keyword in node.keywords if keyword.arg)


def _imported(text: str) -> set[tuple[str, str]]:
    """Return library and name of what a script imports of the libraries themselves."""
    return {
        (node.module, alias.name)
        for node in _sure(text)
        if isinstance(node, ast.ImportFrom) and node.module in LIBRARIES
        for alias in node.names
    }


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
        if isinstance(node, (ast.Call, ast.ImportFrom)) and id(node) not in guarded
    )


def _called(func: ast.expr, meant: Mapping[str, str]) -> str:
    """Return the class of the libraries that a call makes; empty where it is another one."""
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
        return func.attr if func.value.id in LIBRARIES else ""
    return meant.get(func.id, "") if isinstance(func, ast.Name) else ""


def _gone(library: str, command: LaunchCommand, text: str) -> dict[str, str]:
    """Return what the classes of a launch's parser have no more; of several trainers' what each of them lost."""
    table = _table()[library]
    words = [word.rpartition("/")[2].partition(".")[0] for word in command.argv]
    method = next((w for w in _after(command.argv, words) if _classes_of(w)), None)
    classes = {
        name
        for name in table
        if name != IMPORTED
        and not name.endswith("Trainer")
        and name in text
        and re.search(rf"\b{name}\b", text)
    }
    if method is not None:
        classes = {*_classes_of(method), *OF_A_SCRIPT} & set(table)
    if library == "transformers":
        is_trls = method is not None or "TrlParser" in text or "SFTConfig" in text
        return dict(table["TrainingArguments"]) if classes or is_trls else {}
    beside, trainers = classes & {*OF_A_SCRIPT}, sorted(classes - {*OF_A_SCRIPT})
    found = {name: since for each in sorted(beside) for name, since in table[each].items()}
    for name in set.intersection(*(set(table[each]) for each in trainers)) if trainers else ():
        found[name] = max((table[each][name] for each in trainers), key=release)
    return found


def _after(argv: tuple[str, ...], words: list[str]) -> Iterator[str]:
    """Yield what may be the method of TRL's command line: `sft` of `trl sft` and of `-m trl.scripts.sft`."""
    for before, word, whole in zip(words, words[1:], argv[1:], strict=False):
        if before == "trl":
            yield word
        if whole.startswith("trl.scripts."):
            yield whole.rpartition(".")[2]


def _classes_of(method: str) -> tuple[str, ...]:
    """Return the class of the arguments of a method of TRL's: SFTConfig of sft."""
    wanted = f"{method.replace('_', '').replace('-', '')}config"
    return tuple(name for name in _table()["trl"] if name.lower() == wanted)


def _given(command: LaunchCommand, text: str) -> Iterator[tuple[str, str]]:
    """Yield the arguments of a launch: those of a file with where they are, then flags with nothing."""
    words = command.argv
    for flag, path in pairwise(words):
        if flag == "--config" and ("Trl" in text or "trl" in words) and command.exists(path):
            try:
                keys = KEY.finditer(command.read_text(path))
                yield from ((key[1], f"{path}: {key[1]}") for key in keys)
            except (OSError, UnicodeDecodeError):
                continue
    for word in words:
        if word.startswith("--"):
            yield word[2:].partition("=")[0].replace("-", "_"), ""


def _text(command: LaunchCommand) -> str:
    script = command.named_script()
    try:
        return "" if script is None else command.read_text(script)
    except (OSError, UnicodeDecodeError):
        return ""


def _is_own(text: str, name: str) -> bool:
    """Tell whether a script defines an argument of that name itself."""
    if name not in text:
        return False
    return re.search(rf"""["'](?:--)?{name}["']|^[ \t]+{name}[ \t]*:""", text, re.M) is not None


def _is_keyword(text: str, name: str) -> bool:
    """Tell whether a script gives its TrainingArguments the argument, and knows of no other name for it."""
    return (
        name in SUCCESSORS
        and name in text
        and re.search(rf"^[^#\n]*\b{name}[ \t]*=[^=]", text, re.M) is not None
        and re.search(rf"\b{SUCCESSORS[name]}\b", text) is None
    )
