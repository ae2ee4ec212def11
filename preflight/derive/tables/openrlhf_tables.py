"""launchers/openrlhf/arguments.json: the arguments of OpenRLHF's trainers, release by release, as their parsers are written.

OpenRLHF wants GPUs and libraries that the tests do not have, so nothing of it is imported: with an unpacked wheel on
PYTHONPATH, the `add_argument` calls of that release are read as text and put beside those that the file has already.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preflight.derive.tables.json_rows import in_rows
from preflight.derive.tables.release_rows import with_release
from preflight.derive.target import Files, Say, read
from preflight.launchers.openrlhf import READ
from preflight.versions.boundary import release

PATH = "preflight/launchers/openrlhf/arguments.json"


def openrlhf_files(say: Say) -> Files:
    """Yield the file with the release at hand put into it."""
    table: dict[str, Any] = json.loads(read(PATH) or "{}")
    package, version = _at_hand()
    say(f"OpenRLHF {version}")
    releases = sorted({*table.get("releases", ()), version}, key=release)
    found: dict[str, Any] = {"releases": releases}
    for trainer in READ:
        path = package / "cli" / f"train_{trainer}.py"
        entries = dict(_arguments(path)) if path.is_file() else {}
        found[trainer] = with_release(table.get(trainer, {}), entries, version, releases)
    yield PATH, in_rows(found)


def _at_hand() -> tuple[Path, str]:
    found = importlib.util.find_spec("openrlhf")
    assert found is not None and found.origin is not None
    package = Path(found.origin).parent
    (said,) = {
        path.name.partition("-")[2].partition("-")[0].removesuffix(".dist")
        for folder in (package.parent, package.parents[2])
        for path in folder.glob("openrlhf-*.dist-info")
    }
    return package, said.removesuffix(".dist-info")


def _arguments(path: Path) -> Iterator[tuple[str, list[Any]]]:
    """Yield kind, default and choices of every option of a parser."""
    for node in _unrolled(path.read_text(encoding="utf-8")):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "parser.add_argument":
            continue
        parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else node.args[:1]
        if not all(isinstance(part, ast.Constant) for part in parts):
            continue  # of a loop that is written out
        name = "".join(map(ast.literal_eval, parts)).lstrip("-")
        words = {word.arg: word.value for word in node.keywords if word.arg is not None}
        action = ast.unparse(words["action"]).strip("'") if "action" in words else ""
        if "dest" in words or action == "store_false":
            continue  # turns another one off
        kind = ast.unparse(words["type"]) if "type" in words else "str"
        default = _value(words.get("default"))
        if action == "store_true":
            kind = "flag"
        elif "nargs" in words and _value(words["nargs"]) != "?":
            kind = f"list_{kind}" if kind in ("int", "float") else "list"
        elif kind not in ("int", "float"):
            kind = "str"
        choices = _value(words.get("choices"))
        yield name, [kind, default, choices] if choices else [kind, default]


def _unrolled(text: str) -> Iterator[ast.AST]:
    """Yield the nodes of a parser's lines, and those of a loop over words once for each: `for prefix in ("actor", "critic")`."""
    for node in ast.walk(ast.parse(text)):
        yield node
        words = _value(node.iter) if isinstance(node, ast.For) else None
        if isinstance(node, ast.For) and isinstance(words, list):
            lines = "\n".join(map(ast.unparse, node.body))
            for word in words:
                said = lines.replace(f"{{{ast.unparse(node.target)}}}", str(word))
                yield from ast.walk(ast.parse(said))


def _value(node: ast.expr | None) -> Any:
    """Return a constant; None for what only running tells."""
    try:
        value = None if node is None else ast.literal_eval(node)
    except ValueError:
        return None
    return list(value) if isinstance(value, tuple) else value
