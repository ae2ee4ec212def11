"""libraries/release_spans.json: the first release of transformers, TRL or PEFT without what an older one had.

Made from unpacked wheels, a folder LIBRARY-RELEASE each, in the folder that PREFLIGHT_RELEASES names: the fields of
every class of arguments, the keywords of every trainer and the names that a package gives are read as text. Nothing of
them is imported, so that a wheel needs nothing that it depends on; the newest is installed, and says what it gives unlisted.
"""

from __future__ import annotations

import ast
import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from preflight.derive.json_rows import in_rows
from preflight.derive.target import Files, Say
from preflight.versions.boundary import release

PATH = "preflight/libraries/release_spans.json"
FOLDER = "PREFLIGHT_RELEASES"
FILES = {"transformers": "train*.py", "trl": "**/*.py", "peft": ""}
"""Where the classes are whose fields a parser takes, and those that train."""
IMPORTED = "import"
"""What stands for the names that a package gives, where others stand for those of a class."""
MODELS = "_import_structure['models"
ANY = "**"
"""Of a trainer that hands on whatever it is given."""
WHOLE = ("TrainingArguments", "Seq2SeqTrainingArguments", "ScriptArguments")
"""Such classes beside those that are called a config."""


def span_files(say: Say) -> Files:
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
        here = importlib.import_module(library)
        names = table[library][IMPORTED]  # some are made when they are asked for
        table[library][IMPORTED] = {n: v for n, v in names.items() if not hasattr(here, n)}
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
            kept = newest.get(name, frozenset()) | (of_all if name.endswith("Config") else set())
            left = before[name] - after.get(name, before[name])
            for field in sorted(left - kept):
                if not {ANY} & (after[name] | kept):
                    found.setdefault(name, {})[field] = since
    return {name: found[name] for name in sorted(found) if name in newest}


def _fields(package: Path, pattern: str) -> Mapping[str, frozenset[str]]:
    """Return the fields of every class of arguments, with those of the classes of this library that it stands on."""
    classes: dict[str, ast.ClassDef] = {}
    found = package.glob(pattern) if pattern else ()
    paths = sorted(found, key=lambda p: ("experimental" in p.parts, p))
    for path in paths:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and (
                node.name in WHOLE or node.name.endswith(("Config", "Trainer"))
            ):
                classes.setdefault(node.name, node)
    exports = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    return {
        IMPORTED: frozenset(_names(exports)),
        **{name: frozenset(_of(name, classes)) for name in classes},
    }


def _names(exports: ast.Module) -> Iterator[str]:
    """Yield the names that a package gives, imported or listed.

    None of models, which newer releases look up as they come, and none of modules, which are files whoever lists them.
    """
    passed: set[int] = set()
    for node in ast.walk(exports):
        left: list[ast.AST | None] = []
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            left = [*node.keys, *(value for key, value in pairs if key and _is_of_models(key))]
        elif isinstance(node, ast.Subscript):
            left = [node.slice]
        elif isinstance(node, (ast.Assign, ast.Expr)) and MODELS in ast.unparse(node)[:60]:
            left = [node]
        passed.update(id(each) for part in left if part for each in ast.walk(part))
    for node in ast.walk(exports):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and not node.module.startswith("models")
        ):
            yield from (alias.name for alias in node.names if _is_name(alias.name))
        elif isinstance(node, ast.Constant) and id(node) not in passed and _is_name(node.value):
            yield str(node.value)


def _is_name(word: object) -> bool:
    is_word = isinstance(word, str) and word.isidentifier()
    return is_word and not str(word).startswith(("_", "dummy_"))


def _is_of_models(key: ast.expr) -> bool:
    return isinstance(key, ast.Constant) and str(key.value).startswith("models")


def _of(name: str, classes: Mapping[str, ast.ClassDef]) -> Iterator[str]:
    node = classes.get(name)
    if node is None:
        return
    made = [
        each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"
    ]
    if made and name.endswith("Trainer"):
        yield from _keywords(made[-1])
        return
    for base in node.bases:
        yield from _of(ast.unparse(base).rpartition(".")[2], classes)
    for each in node.body:
        target = each.target if isinstance(each, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and not target.id.startswith("_"):
            yield target.id


def _keywords(made: ast.FunctionDef) -> Iterator[str]:
    """Yield what makes a trainer: its arguments, and the older ones that decorators still take."""
    arguments = made.args
    if arguments.kwarg is not None:
        yield ANY
    for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        yield each.arg
    for decorator in made.decorator_list:
        for word in ast.walk(decorator):
            if isinstance(word, ast.Constant) and _is_name(word.value):
                yield str(word.value)
