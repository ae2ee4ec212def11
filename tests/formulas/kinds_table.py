"""Write the tables of docs/kinds.md: what was trained by whom, bytes that were counted beside the estimate, and what each
engine is priced with.

PYTHONPATH=. python tests/formulas/kinds_table.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.formulas.objective import ONLINE
from preflight.launch import Generation, LaunchPlan
from preflight.versions.boundary import release

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "kinds.md"
BEGIN, END = "<!-- rows -->\n", "<!-- end of rows -->\n"
ENGINES = {"DDP": "ddp", "ZeRO-2": "zero2", "ZeRO-3": "zero3", "FSDP1": "fsdp1", "FSDP2": "fsdp2"}
HEADER = (
    f"| trained | by | releases | steps | ways | counted | estimated | worst | {' | '.join(ENGINES)} | named, and not priced |\n"
    f"|---|---|---|--:|---|--:|--:|--:|{'---|' * len(ENGINES)}---|\n"
)
FILES = ("older_objectives", "older_rollouts", "experiments", "sentence_steps", "retriever_steps", "swift_rollouts", "verl_steps")  # fmt: skip
"""Rows that were counted in environments of their own."""
NAMES = {"ms_swift": "ms-swift", "llamafactory": "LLaMA-Factory", "sentence_transformers": "sentence-transformers",
         "FlagEmbedding": "FlagEmbedding", "tevatron": "Tevatron", "verl": "verl", "trl": "TRL"}  # fmt: skip
"""Key of a row that names its library -> its name; the first of them that a row has."""
PAIRS = ("dpo", "ipo", "kto", "orpo", "cpo", "simpo", "reward")
HEADS = ("sequence_classification", "token_classification", "masked_lm", "embedding")
KINDS: dict[str, tuple[str, str | None, str, tuple[str, ...]]] = {
    "TRL": ("trl", None, "", ("sft", *PAIRS, "grpo", "rloo", "online_dpo", "gkd", "distillation")),
    "TRL to 1.13": ("trl", None, "1.12", ("ppo", "prm", "bco", "nash_md", "xpo")),
    "TRL 0.19": ("trl", None, "0.19", ("dpo", "kto", "reward", "grpo", "rloo")),
    "axolotl": ("transformers", "axolotl", "", ("dpo", "kto", "orpo", "simpo", "reward", "grpo")),
    "LLaMA-Factory": ("transformers", "llamafactory", "", ("dpo", "kto", "orpo", "simpo", "reward", "ppo")),
    "ms-swift": ("transformers", "swift", "", (*PAIRS, "grpo", "ppo", "distillation")),
    "verl": ("plain_loop", "verl", "", ("grpo", "rloo", "ppo")),
    "transformers": ("transformers", None, "", HEADS),
    "sentence-transformers": ("transformers", None, "", ("embedding",)),
    "FlagEmbedding": ("transformers", None, "", ("embedding", "reranking")),
    "Tevatron": ("transformers", None, "", ("embedding",)),
}  # fmt: skip
"""Who trains -> the plan's trainer, launcher and release of TRL, and what it trains for."""
ENDED = ("prm", "bco", "nash_md", "xpo", "ppo")
"""What TRL has a trainer for no more: those rows stand with its last releases."""


class Counted(NamedTuple):
    """A step that was counted."""

    name: str
    version: str
    num_bytes: int
    """At its worst moment."""
    estimated: int
    engine: str = "single"
    """On two real ranks, where it is not this."""

    @property
    def error(self) -> float:
        return self.estimated / self.num_bytes - 1


Kind = tuple[str, str]


def stored() -> Iterator[tuple[Kind, str, dict]]:
    """Yield the rows that are kept, each with its kind and its file."""
    for name in FILES:
        for line in (HERE / f"{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            library = next(key for key in NAMES if key in row)
            of_file = "embedding" if name in ("sentence_steps", "retriever_steps") else "grpo"
            trained = row.get("objective") or of_file
            if row["name"].startswith("reranker"):
                trained = "reranking"
            by = "TRL to 1.13" if trained in ENDED else NAMES[library]
            yield (trained, by), name, {**row, "version": row[library]}


def ways(names: list[str]) -> str:
    """Return the ways of training that the names of steps speak of."""
    every = ("autocast", "LoRA", "checkpointed", "cached", "decoder")
    return ", ".join(way for way in every if any(way in name for name in names))


def releases(versions: list[str]) -> str:
    """Return the oldest and the newest release that was counted."""
    found = sorted(set(versions), key=release)
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def count_stored() -> Iterator[tuple[Kind, Counted]]:
    """Yield the rows that are kept, with what is estimated of each now."""
    import older_steps
    import retriever_steps
    import sentence_steps
    import test_experiments
    import test_objectives
    import test_older_objectives
    import test_older_rollouts
    import test_retrievers
    import test_rollouts
    import test_swift_rollouts
    import test_texts
    import test_verl_actor

    default = {"config": older_steps.CONFIG}
    config: dict[str, Callable[[dict], dict]] = {
        "older_objectives": lambda row: {**default, **older_steps.CASES[row["name"]]}["config"],
        "sentence_steps": lambda row: sentence_steps.case_of(row["name"])["config"],
        "retriever_steps": lambda row: retriever_steps.case_of(row["name"])["config"],
        "verl_steps": lambda row: test_verl_actor.CONFIG,
    }
    plans: dict[str, Callable[[dict], LaunchPlan]] = {
        "older_objectives": test_older_objectives.plan_of, "older_rollouts": test_older_rollouts.older_plan,
        "sentence_steps": test_texts.plan_of, "experiments": test_experiments.plan_of,
        "retriever_steps": test_retrievers.plan_of, "swift_rollouts": test_swift_rollouts.plan_of,
        "verl_steps": test_verl_actor.plan_of,
    }  # fmt: skip
    for kind, name, row in stored():
        plan, peaks = plans[name](row), row["peaks"]
        parts = ("forward", "backward") if name == "verl_steps" else tuple(peaks)
        if name == "experiments":
            predicted = test_experiments.predicted(plan)
        elif name == "older_rollouts":
            predicted = test_older_rollouts.predicted_of(plan)
        elif name == "swift_rollouts":
            predicted = test_rollouts.parts_of(test_rollouts.estimate(plan))
        else:
            predicted = test_objectives.predicted(plan, config[name](row))
        most = max(peaks[part] for part in parts)
        yield kind, Counted(row["name"], row["version"], most, max(predicted.values()))


def count_ppo() -> Iterator[tuple[Kind, Counted]]:
    """Yield the updates of PPO that were counted on one rank and on two, of which a test keeps the bytes."""
    import test_ppo

    from preflight.builtin_hooks import BUILTIN_HOOKS
    from preflight.plugins import load_plugins

    plugins = load_plugins(builtins=BUILTIN_HOOKS)
    for name, (case, (*_, update)) in test_ppo.COUNTED.items():
        plan = test_ppo.plan_of(case)
        estimated = test_ppo.predicted_of(plan, plugins)["update"]
        yield ("ppo", "TRL to 1.13"), Counted(name, "1.12.0", update, estimated, plan.engine)


def count_engines() -> Iterator[tuple[Kind, Counted]]:
    """Yield the steps of the newest TRL on one rank, and on two under every engine."""
    import test_engine_steps

    for row in test_engine_steps.ROWS:
        objective = row["name"].partition(",")[0]
        estimated = max(test_engine_steps.estimated(row).values())
        counted = Counted(row["name"], row["trl"], row["peaks"]["step"], estimated, row["engine"])
        yield (objective, "TRL"), counted


def plan_of(by: str, objective: str, engine: str) -> LaunchPlan:
    """Return the plan of a full training whose reference and reward models are as large as the model."""
    trainer, launcher, version, _ = KINDS[by]
    return LaunchPlan(
        objective=objective,
        trainer=trainer,
        launcher=launcher,
        engine=engine,
        world_size=8,
        shard_degree=1 if engine == "ddp" else 8,
        versions={"trl": version} if version else {},
        generation=Generation() if objective in ONLINE else None,
    )


def named_of(by: str, objective: str, engine: str) -> str:
    """Return what no formula holds; verl has FSDP's workers alone, and FlagEmbedding's rerankers score rows."""
    if by == "verl" and not engine.startswith("fsdp"):
        return "engines that verl has not"
    scored = "sequence_classification" if objective == "reranking" else objective
    return unpriced_objective(plan_of(by, scored, engine))


def of_engines(by: str, objective: str, steps: list[Counted]) -> str:
    """Return the cells of a kind: `yes` or `no` for each engine, with the worst error of what was counted on ranks, and what
    no formula holds where it is no."""
    found = [named_of(by, objective, engine) for engine in ENGINES.values()]
    errors = {engine: [s.error for s in steps if s.engine == engine] for engine in ENGINES.values()}
    on_ranks = (max(each, key=abs) if each else None for each in errors.values())
    said = ("" if error is None else f", {100 * error:+.1f} %" for error in on_ranks)
    cells = " | ".join(
        ("no" if words else "yes") + more for words, more in zip(found, said, strict=True)
    )
    return f"{cells} | {'; '.join(dict.fromkeys(words for words in found if words))}"


def kinds() -> list[Kind]:
    """Return every kind that has a row, in order."""
    return [(trained, by) for by, (*_, every) in KINDS.items() for trained in every]


def row_of(kind: Kind, steps: list[Counted]) -> str:
    """Return the row of a kind: of its worst step, the bytes."""
    trained, by = kind
    cells = "| | 0 | | | | |"
    alone = [step for step in steps if step.engine == "single"]
    if alone:
        worst = max(alone, key=lambda step: abs(step.error))
        cells = (
            f"| {releases([step.version for step in alone])} | {len(alone)} | {ways([step.name for step in alone])}"
            f" | {worst.num_bytes / 1e6:.1f} | {worst.estimated / 1e6:.1f} | {100 * worst.error:+.1f} % |"
        )
    return f"| {trained} | {by} {cells} {of_engines(by, trained, steps)} |\n"


def main() -> None:
    """Count, and write the table into the page."""
    tests = HERE.parent
    sys.path[:0] = map(str, (HERE, tests, tests / "launches", tests / "launches" / "worker"))
    found: dict[Kind, list[Counted]] = {}
    for kind, step in (*count_stored(), *count_engines(), *count_ppo()):
        found.setdefault(kind, []).append(step)
    lines = [row_of(kind, found.pop(kind, [])) for kind in kinds()]
    assert not found, f"kinds without a row: {[*found]}"
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + HEADER + "".join(lines) + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
