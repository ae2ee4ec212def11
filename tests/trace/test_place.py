"""The tracer stands beside the pipeline: formulas never wait for torch."""

from __future__ import annotations

import ast

from own_sources import own_trees

MAY_IMPORT = (
    "preflight/trace/",
    "preflight/commands/trace.py",
    "preflight/render/trace.py",
    "preflight/derive/",
)
"""The last: scripts that write the families' facts and the tables of the docs."""
PAGES = (
    "preflight/render/html_trace.py",
    "preflight/render/html_timeline.py",
    "preflight/render/timeline_picture.py",
    "preflight/render/html_step.py",
    "preflight/render/html_report.py",
    "preflight/commands/output.py",
)
"""Pages draw what a trace left, and output.py looks for it where a page is asked for."""
RESULTS = ("preflight.trace.result", "preflight.trace.timeline", "preflight.trace.kept")
"""What they may import; tests/test_core_only.py writes such a page where there is no torch."""


def test_only_commands_and_scripts_import_the_tracer_and_pages_its_results():
    found = []
    for name, tree in own_trees():
        for node in ast.walk(tree):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if not module.startswith("preflight.trace") or name.startswith(MAY_IMPORT):
                continue
            if name not in PAGES or module not in RESULTS:
                found.append(f"{name}:{node.lineno}")

    assert not found
