"""launchers/oumi/keys.json: the keys of one oumi's TrainingConfig with their defaults, read from its dataclasses as text.

oumi pins libraries that the tests have in other releases, so nothing of it is imported: PYTHONPATH names an unpacked wheel.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from preflight.derive.target import Files, NotMade, Say

PATH = "preflight/launchers/oumi/keys.json"
ROOT = "TrainingConfig"
OPEN = "*"
"""Stands behind a section that takes any key: `training.trainer_kwargs.*`."""

Classes = Mapping[str, ast.ClassDef]


def files(say: Say) -> Files:
    """Yield the file of the release at hand."""
    spec = importlib.util.find_spec("oumi")
    if spec is None or spec.origin is None:
        raise NotMade("oumi is not there")
    package = Path(spec.origin).parent
    (said,) = package.parent.glob("oumi-*.dist-info")
    version = said.name.removeprefix("oumi-").removesuffix(".dist-info")
    say(f"oumi {version}")
    yield PATH, json.dumps(derive(package, version), indent=0) + "\n"


def derive(package: Path, version: str) -> dict[str, Any]:
    """Return the table of an unpacked oumi: dotted key -> default, None where it is no literal."""
    sources = (package / "core" / "configs").rglob("*.py")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources]
    classes = {
        node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)
    }
    return {"version": version, "keys": dict(_keys(classes, classes[ROOT], ""))}


def _keys(classes: Classes, cls: ast.ClassDef, prefix: str) -> Iterator[tuple[str, Any]]:
    for node in cls.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name = f"{prefix}{node.target.id}"
        kind = ast.unparse(node.annotation).removesuffix(" | None")
        section = classes.get(kind)
        if section is not None and not _members(section):
            yield from _keys(classes, section, f"{name}.")
        elif kind.startswith("dict"):
            yield f"{name}.{OPEN}", None
        else:
            yield name, _default(classes, node.value)


def _default(classes: Classes, value: ast.expr | None) -> Any:
    """Return a literal, the name of an enumeration's member, or None."""
    if isinstance(value, ast.Call):
        if ast.unparse(value.func) == "int":
            return int(ast.literal_eval(value.args[0]))  # int(5e8)
        words = {word.arg: word.value for word in value.keywords}
        return _default(classes, words.get("default"))
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
        return value.attr if value.value.id in classes else None
    try:
        return None if value is None else ast.literal_eval(value)
    except ValueError:
        return None


def _members(cls: ast.ClassDef) -> bool:
    """Tell whether a class is an enumeration."""
    return any(ast.unparse(base).endswith("Enum") for base in cls.bases)
