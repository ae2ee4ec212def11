"""What of each kind of training is priced under each engine: rows of docs/kinds.md, asked of the formulas themselves.

PYTHONPATH=. python tests/formulas/kinds_engines.py
"""

from __future__ import annotations

from pathlib import Path

from preflight.formulas.objective import ONLINE
from preflight.formulas.unpriced import unpriced_objective
from preflight.launch import Generation, LaunchPlan

ENGINES = {"DDP": "ddp", "ZeRO-2": "zero2", "ZeRO-3": "zero3", "FSDP1": "fsdp1", "FSDP2": "fsdp2"}
PAGE = Path(__file__).parents[2] / "docs" / "kinds.md"
BEGIN, END = "<!-- engines -->\n", "<!-- end of engines -->\n"
PAIRS = ("dpo", "ipo", "kto", "orpo", "cpo", "simpo", "reward")
KINDS: dict[str, tuple[str, str | None, tuple[str, ...]]] = {
    "TRL": ("trl", None, ("sft", *PAIRS, "grpo", "rloo", "online_dpo", "distillation")),
    "TRL 1.12": ("trl", None, ("kto", "grpo", "rloo", "ppo", "prm", "bco", "nash_md", "xpo")),
    "TRL 0.19": ("trl", None, ("dpo", "kto", "reward", "grpo", "rloo", "ppo")),
    "axolotl": ("transformers", "axolotl", ("dpo", "kto", "orpo", "simpo", "reward", "grpo")),
    "LLaMA-Factory": ("transformers", "llamafactory", ("dpo", "kto", "orpo", "simpo", "reward", "ppo")),
    "ms-swift": ("transformers", "swift", (*PAIRS, "grpo", "ppo", "distillation")),
    "verl": ("plain_loop", "verl", ("grpo", "rloo", "ppo")),
    "transformers": ("transformers", None, ("sequence_classification", "token_classification", "masked_lm", "embedding")),
}  # fmt: skip
"""Who trains -> the plan's trainer and launcher, and what it trains for."""


def plan_of(by: str, objective: str, engine: str) -> LaunchPlan:
    """Return the plan of a full training whose reference and reward models are as large as the model."""
    trainer, launcher, _ = KINDS[by]
    _, _, version = by.partition(" ")
    is_online = objective in ONLINE
    return LaunchPlan(
        objective=objective,
        trainer=trainer,
        launcher=launcher,
        engine=engine,
        world_size=8,
        shard_degree=1 if engine == "ddp" else 8,
        versions={"trl": version} if version else {},
        generation=Generation() if is_online else None,
    )


def named_of(by: str, objective: str, engine: str) -> str:
    """Return what no formula holds; verl has FSDP's workers alone."""
    if by == "verl" and not engine.startswith("fsdp"):
        return "engines that verl has not"
    return unpriced_objective(plan_of(by, objective, engine))


def rows() -> str:
    """Return the table: `yes` or `no` for each engine, and what no formula holds where it is no."""
    lines = [
        f"| by | trained | {' | '.join(ENGINES)} | named, and not priced |\n",
        f"|---|---|{'---|' * len(ENGINES)}---|\n",
    ]
    for by, (_, _, objectives) in KINDS.items():
        for objective in objectives:
            found = [named_of(by, objective, engine) for engine in ENGINES.values()]
            cells = ("no" if words else "yes" for words in found)
            named = "; ".join(dict.fromkeys(words for words in found if words))
            lines.append(f"| {by} | {objective} | {' | '.join(cells)} | {named} |\n")
    return "".join(lines)


def main() -> None:
    """Write the table into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + rows() + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
