"""Write the table of docs/parallelism.md: what a step took on the fullest of some gloo ranks, and what the estimate says.

PYTHONPATH=. python tests/formulas/divided_table.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "parallelism.md"
BEGIN, END = "<!-- rows -->\n", "<!-- end of rows -->\n"
HEADER = "| divided by | ranks | how | counted, bytes | estimate, bytes | error |\n|---|--:|---|--:|--:|--:|\n"


def lines() -> Iterator[str]:
    """Yield a line for every row that was counted."""
    import test_divided_steps as steps

    from preflight.builtin_hooks import BUILTIN_HOOKS
    from preflight.plugins import load_plugins

    plugins = load_plugins(builtins=[name for name in BUILTIN_HOOKS if name.startswith("memory_")])
    for row in steps.ROWS:
        counted = max(rank["peaks"]["step"] for rank in row["ranks"])
        estimate = steps.predicted(steps.estimate_of(row, plugins), *steps.STEP)
        names = ("torchtitan",) if "torchtitan" in row else ("transformers", "accelerate")
        whose = ", ".join(f"{name} {row[name]}" for name in names)
        yield (
            f"| {whose} | {len(row['ranks'])} | {row['name']}; {row['layers']} layers, {row['batch']} x {row['length']} tokens"
            f" | {counted:,} | {estimate:,} | {100 * (estimate / counted - 1):+.1f} % |\n"
        )


def main() -> None:
    """Write the rows into the page."""
    sys.path.insert(0, str(HERE))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + HEADER + "".join(lines()) + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
