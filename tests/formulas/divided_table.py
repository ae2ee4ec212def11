"""Write the tables of docs/parallelism.md: what a step took, and what shared experts keep, on the fullest of some gloo ranks, and what the estimate says.

PYTHONPATH=. python tests/formulas/divided_table.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "parallelism.md"
BEGIN, END = "<!-- rows -->\n", "<!-- end of rows -->\n"
BEGIN_EXPERTS, END_EXPERTS = "<!-- experts -->\n", "<!-- end of experts -->\n"
HEADER_EXPERTS = (
    "| how | parameters, counted | estimate | gradients, counted | estimate | states, counted | estimate |\n"
    "|---|--:|--:|--:|--:|--:|--:|\n"
)
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
        whole = next((name for name in ("torchtitan", "axolotl") if name in row), None)
        names = ("transformers", "accelerate") if whole is None else (whole,)
        whose = ", ".join(f"{name} {row[name]}" for name in names)
        yield (
            f"| {whose} | {len(row['ranks'])} | {row['name']}; {row['layers']} layers, {row['batch']} x {row['length']} tokens"
            f" | {counted:,} | {estimate:,} | {100 * (estimate / counted - 1):+.1f} % |\n"
        )


def expert_lines() -> Iterator[str]:
    """Yield a line for every row of experts that ranks share."""
    import test_divided_experts as experts

    from preflight.plugins import load_plugins

    plugins = load_plugins()
    for row in experts.ROWS:
        kept = experts.kept_of(row, plugins)
        cells = (
            f"{max(rank[name] for rank in row['ranks']):,} | {kept[name]:,}"
            for name in experts.KEPT
        )
        yield f"| {row['name']}; {row['num_experts']} experts, {row['layers']} layers | {' | '.join(cells)} |\n"


def main() -> None:
    """Write the rows into the page."""
    sys.path.insert(0, str(HERE))
    text = PAGE.read_text()
    for begin, end, header, rows in (
        (BEGIN, END, HEADER, lines()),
        (BEGIN_EXPERTS, END_EXPERTS, HEADER_EXPERTS, expert_lines()),
    ):
        before, _, rest = text.partition(begin)
        text = before + begin + header + "".join(rows) + end + rest.partition(end)[2]
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
