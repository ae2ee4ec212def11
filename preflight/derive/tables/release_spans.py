"""versions/release_spans.json: in which releases transformers, TRL and PEFT have what not all of them have.

Made from unpacked wheels, a folder LIBRARY-RELEASE each, in the folder that PREFLIGHT_RELEASES names: the fields of
every class of arguments, the keywords of every trainer, the names that a package gives and the types of its models are
read as text. Nothing of them is imported, so that a wheel needs nothing that it depends on; the newest is installed, and
says what it gives unlisted. What came with the oldest day of preflight/versions/days.py or before says nothing there.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from preflight.derive.tables.json_rows import in_rows
from preflight.derive.target import Files, Say
from preflight.lazy_pattern import lazy_pattern
from preflight.versions.boundary import release
from preflight.versions.days import DAYS
from preflight.versions.spans import IMPORTED, OF_A_SCRIPT, TYPES

PATH = "preflight/versions/release_spans.json"
FOLDER = "PREFLIGHT_RELEASES"
FILES = {"transformers": "train*.py", "trl": "**/*.py", "peft": "tuners/**/*.py"}
"""Where the classes are whose fields a parser takes, and those that train."""
OLDEST = next(iter(DAYS.values()))
"""Library -> the oldest release that a launch may have where nobody says one."""
MODEL_TYPE = lazy_pattern(r"""^ +model_type(?:: str)? = ["']([\w.-]+)["']""", re.M)
MODELS = "_import_structure['models"
ANY = "**"
"""Of a trainer that hands on whatever it is given."""
WHOLE = ("TrainingArguments", "Seq2SeqTrainingArguments", "ScriptArguments")
"""Such classes beside those that are called a config."""


def span_files(say: Say) -> Files:
    """Yield the table: for each library and class, argument -> the releases with it; model type -> the last without it."""
    folder = os.environ[FOLDER]
    table: dict[str, Any] = {"releases": {}}
    of_all: list[frozenset[str]] = [frozenset()]
    for library, pattern in FILES.items():
        packages = {
            path.name.rpartition("-")[2]: path / library
            for path in Path(folder).glob(f"{library}-*")
            if (path / library).is_dir()
        }
        releases = table["releases"][library] = sorted(packages, key=release)
        say(f"{library}: {len(releases)} releases")
        fields = [_fields(packages[each], pattern) for each in releases]
        came = _came(fields, releases, OLDEST[library], frozenset().union(*of_all))
        left = _left(fields, releases, of_all[-1])
        here = importlib.import_module(library)
        # some names are made when they are asked for, and some words of it are no names
        left[IMPORTED] = {n: v for n, v in left[IMPORTED].items() if not hasattr(here, n)}
        names = came[IMPORTED].items()
        came[IMPORTED] = {n: v for n, v in names if n in left[IMPORTED] or hasattr(here, n)}
        table[library] = {
            name: _spans(came.get(name, {}), left.get(name, {}))
            for name in sorted({*came, *left})
            if name in fields[-1] and not name.startswith("_")
        }
        if library == "transformers":
            table[TYPES] = _types(packages, releases)
            # TRL's arguments stand on transformers', and may leave one to them
            of_all = [each["TrainingArguments"] for each in fields]
    yield PATH, in_rows(table, flat=("releases", TYPES))


def _spans(came: Mapping[str, str], left: Mapping[str, str]) -> dict[str, str]:
    """Return name -> its releases, as a pin would ask for them."""
    spans: dict[str, list[str]] = {name: [] for name in sorted({*came, *left})}
    for operator, bounds in ((">=", came), ("<", left)):
        for name, version in bounds.items():
            spans[name].append(f"{operator}{version}")
    return {name: ",".join(clauses) for name, clauses in spans.items()}


def _came(
    held: list[Mapping[str, frozenset[str]]],
    releases: list[str],
    oldest: str,
    everywhere: frozenset[str],
) -> dict[str, dict[str, str]]:
    """Return what classes had in no release before one that is newer than the oldest which a launch may have.

    Nothing of a class that is new itself, that takes whatever it is given, or that had it from another class beside it.
    """
    found: dict[str, dict[str, str]] = {}
    seen: dict[str, set[str]] = {}
    for fields, version in zip(held, releases, strict=True):
        beside = frozenset[str]().union(*(seen.get(each, ()) for each in OF_A_SCRIPT))
        for name, now in fields.items():
            before = seen.get(name)
            other = beside | everywhere if name.endswith("Config") else frozenset()
            if before is not None and release(version) > release(oldest) and ANY not in before:
                new = now - before - other - {ANY}
                found.setdefault(name, {}).update(dict.fromkeys(sorted(new), version))
        for name, now in fields.items():
            seen.setdefault(name, set()).update(now)
    return found


def _left(
    held: list[Mapping[str, frozenset[str]]], releases: list[str], everywhere: frozenset[str]
) -> dict[str, dict[str, str]]:
    """Return what classes of the newest release have no more, and nothing that all have."""
    found: dict[str, dict[str, str]] = {}
    newest = held[-1]
    for before, after, since in zip(held, held[1:], releases[1:], strict=False):
        for name in before:
            kept = newest.get(name, frozenset())
            kept |= everywhere if name.endswith("Config") else frozenset()
            left = before[name] - after.get(name, before[name])
            for field in sorted(left - kept):
                if not {ANY} & (after[name] | kept):
                    found.setdefault(name, {})[field] = since
    return found


def _types(packages: Mapping[str, Path], releases: list[str]) -> dict[str, str]:
    """Return the types of models that came after the oldest release which a launch may have, with the last without each.

    A release between two that were read may have had it.
    """
    found: dict[str, tuple[str, str]] = {}
    before = ""
    for version in releases:
        for path in packages[version].glob("models/*/configuration_*.py"):
            for name in MODEL_TYPE.findall(path.read_text(encoding="utf-8")):
                found.setdefault(name, (version, before))
        before = version
    oldest = release(OLDEST["transformers"])
    return {n: last for n, (first, last) in sorted(found.items()) if release(first) > oldest}


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
            and node.level
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
