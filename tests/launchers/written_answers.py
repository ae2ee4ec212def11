"""What the frameworks' own parsers make of launches that preflight wrote: kept beside the cases in written.json.

`python tests/launchers/written_words.py FRAMEWORK` writes the launches, `ask_FRAMEWORK.py` the answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

FILE = "written.json"


def fill(folder: Path, settle: Callable[[str, str], Mapping[str, Any]]) -> None:
    """Write beside every launch which values its framework settles on otherwise than in the case that it was written from.

    `settle` returns dotted key -> value of a case's name and words.
    """
    cases = yaml.safe_load((folder / "manifest.yaml").read_text())
    rows = json.loads((folder / FILE).read_text())
    for name, row in rows.items():
        case = name.partition(":")[0]
        before, after = settle(case, cases[case]["argv"]), settle(case, row["argv"])
        row["theirs"] = {key: value for key, value in after.items() if before.get(key) != value}
    keep(folder, rows)


def keep(folder: Path, rows: Mapping[str, Any]) -> None:
    """Write the launches of a framework, one a line."""
    lines = [f" {json.dumps(name)}: {json.dumps(row, default=str)}" for name, row in rows.items()]
    (folder / FILE).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def flat(value: Any, above: str = "") -> dict[str, Any]:
    """Return dotted key -> value of nested sections."""
    if not isinstance(value, Mapping) or not value:
        return {above: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found.update(flat(inner, f"{above}.{key}" if above else str(key)))
    return found
