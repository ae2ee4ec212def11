"""The tracer stands beside the pipeline: formulas never wait for torch."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAY_IMPORT = (
    "preflight/trace/",
    "preflight/commands/trace.py",
    "preflight/render/trace.py",
    "preflight/render/html_trace.py",
    "preflight/families/derive",
    "preflight/formula_table.py",
    "preflight/loop_table.py",
)
"""The last three: scripts that write the families' facts and the tables of the docs."""


def test_only_commands_and_scripts_import_the_tracer():
    found = []
    for path in [*(ROOT / "preflight").rglob("*.py"), *(ROOT / "hooks").glob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None) if isinstance(node, ast.ImportFrom) else None
            if (module or "").startswith("preflight.trace") and not name.startswith(MAY_IMPORT):
                found.append(f"{name}:{node.lineno}")

    assert not found
