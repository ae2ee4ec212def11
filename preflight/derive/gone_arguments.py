"""libraries/gone_arguments.json: the first release of transformers and TRL without an argument that their parsers had.

Made from unpacked wheels, a folder LIBRARY-RELEASE each, in the folder that PREFLIGHT_RELEASES names: the fields of
every class of arguments are read as text. Nothing is imported, so that a wheel needs nothing that it depends on.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from preflight.derive.json_rows import in_rows
from preflight.derive.target import Files, Say
from preflight.versions.boundary import release

PATH = "preflight/libraries/gone_arguments.json"
FOLDER = "PREFLIGHT_RELEASES"
FILES = {"transformers": "training_args*.py", "trl": "**/*.py"}
"""Where the classes are whose fields a parser takes."""
WHOLE = ("TrainingArguments", "Seq2SeqTrainingArguments", "ScriptArguments")
"""Such classes beside those that are called a config."""


def gone_files(say: Say) -> Files:
    """Yield the table: for each library and class, argument -> the first release that was read without it."""
    folder = os.environ[FOLDER]
    table: dict[str, Any] = {"releases": {}}
    of_all: frozenset[str] = frozenset()
    for library, pattern in FILES.items():
        packages = {
            path.name.rpartition("-")[2]: path / library
            for path in Path(folder).glob(f"{library}-*")
            if (path / library).is_dir()
        }
        releases = table["releases"][library] = sorted(packages, key=release)
        say(f"{library}: {len(releases)} releases")
        fields = [_fields(packages[each], pattern) for each in releases]
        table[library] = _gone(fields, releases, of_all)
        # TRL's arguments stand on transformers', and may leave one to them
        of_all = fields[-1]["TrainingArguments"] if library == "transformers" else of_all
    yield PATH, in_rows(table, flat=("releases",))


def _gone(
    held: list[Mapping[str, frozenset[str]]], releases: list[str], of_all: frozenset[str]
) -> dict[str, dict[str, str]]:
    """Return what classes of the newest release have no more, and nothing that all have."""
    found: dict[str, dict[str, str]] = {}
    newest = held[-1]
    for before, after, since in zip(held, held[1:], releases[1:], strict=False):
        for name in before:
            for field in sorted(before[name] - after.get(name, before[name])):
                if field not in newest.get(name, ()) and field not in of_all:
                    found.setdefault(name, {})[field] = since
    return {name: found[name] for name in sorted(found) if name in newest}


def _fields(package: Path, pattern: str) -> Mapping[str, frozenset[str]]:
    """Return the fields of every class of arguments, with those of the classes of this library that it stands on."""
    classes: dict[str, ast.ClassDef] = {}
    for path in sorted(package.glob(pattern)):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and (
                node.name in WHOLE or node.name.endswith("Config")
            ):
                classes.setdefault(node.name, node)
    return {name: frozenset(_of(name, classes)) for name in classes}


def _of(name: str, classes: Mapping[str, ast.ClassDef]) -> Iterator[str]:
    node = classes.get(name)
    if node is None:
        return
    for base in node.bases:
        yield from _of(ast.unparse(base).rpartition(".")[2], classes)
    for each in node.body:
        target = each.target if isinstance(each, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and not target.id.startswith("_"):
            yield target.id
