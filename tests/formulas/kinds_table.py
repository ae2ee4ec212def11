"""Write the table of docs/kinds.md: what was trained by whom, in how many counted steps, and how far the estimate was off.

PYTHONPATH=. python tests/formulas/kinds_table.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "kinds.md"
BEGIN, END = "<!-- rows -->\n", "<!-- end of rows -->\n"
HEADER = (
    "| trained | by | releases | ways | steps counted | worst error |\n|---|---|---|---|--:|--:|\n"
)
FILES = ("older_objectives", "sentence_steps", "retriever_steps", "swift_rollouts", "verl_steps")
NAMES = {"ms_swift": "ms-swift", "llamafactory": "LLaMA-Factory", "sentence_transformers": "sentence-transformers",
         "FlagEmbedding": "FlagEmbedding", "tevatron": "Tevatron", "verl": "verl", "trl": "TRL"}  # fmt: skip
"""Key of a row that names its library -> its name; the first of them that a row has."""


def counted() -> dict[tuple[str, str], list[tuple[str, dict]]]:
    """Return the rows of every kind: (what is trained, by whom) -> the file of each and the row."""
    found: dict[tuple[str, str], list[tuple[str, dict]]] = {}
    for name in FILES:
        for line in (HERE / f"{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            library = next(key for key in NAMES if key in row)
            trained = row.get("objective") or (
                "grpo" if name in ("swift_rollouts", "verl_steps") else ""
            )
            if not trained:
                trained = "reranking" if row["name"].startswith("reranker") else "embedding"
            found.setdefault((trained, library), []).append((name, row))
    return found


def ways(rows: list[tuple[str, dict]]) -> str:
    """Return the ways of training that the names of rows speak of."""
    words = " ".join(row["name"] for _, row in rows)
    every = ("16 bits", "autocast", "LoRA", "checkpointed", "cached", "decoder")
    return ", ".join(way for way in every if way in words) or "fp32"


def releases(rows: list[tuple[str, dict]], library: str) -> str:
    """Return the oldest and the newest release that was counted."""
    from preflight.versions.boundary import release

    found = sorted({row[library] for _, row in rows}, key=release)
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def errors() -> Iterator[tuple[tuple[str, str], float]]:
    """Yield the error of the worst moment of every row, with its kind."""
    import older_steps
    import retriever_steps
    import sentence_steps
    import test_objectives
    import test_older_objectives
    import test_retrievers
    import test_rollouts
    import test_swift_rollouts
    import test_texts
    import test_verl_actor

    config: dict[str, Callable[[dict], dict]] = {
        "older_objectives": lambda row: {
            "config": older_steps.CONFIG, **older_steps.CASES[row["name"]]
        }["config"],
        "sentence_steps": lambda row: sentence_steps.case_of(row["name"])["config"],
        "retriever_steps": lambda row: retriever_steps.case_of(row["name"])["config"],
    }  # fmt: skip
    modules = {
        "older_objectives": test_older_objectives, "sentence_steps": test_texts,
        "retriever_steps": test_retrievers, "swift_rollouts": test_swift_rollouts, "verl_steps": test_verl_actor,
    }  # fmt: skip
    for kind, rows in counted().items():
        for name, row in rows:
            plan, most = modules[name].plan_of(row), max(row["peaks"].values())
            if name == "swift_rollouts":
                parts = test_rollouts.parts_of(test_rollouts.estimate(plan))
                predicted = max(parts.values())
            elif name == "verl_steps":
                predicted = max(test_objectives.predicted(plan, test_verl_actor.CONFIG).values())
                most = max(row["peaks"][part] for part in ("forward", "backward"))
            else:
                predicted = max(test_older_objectives.predicted(plan, config[name](row)).values())
            yield kind, predicted / most - 1


def main() -> None:
    """Write the rows into the page."""
    tests = HERE.parent
    sys.path[:0] = map(str, (HERE, tests, tests / "launches", tests / "launches" / "worker"))
    worst: dict[tuple[str, str], float] = {}
    for kind, error in errors():
        worst[kind] = max(worst.get(kind, 0.0), error, key=abs)
    lines = [
        f"| {trained} | {NAMES[library]} | {releases(rows, library)} | {ways(rows)} | {len(rows)}"
        f" | {100 * worst[trained, library]:+.1f} % |\n"
        for (trained, library), rows in sorted(counted().items())
    ]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + HEADER + "".join(lines) + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
