"""Launches of the manifests after every remedy that words can say.

`python tests/launchers/written_words.py FRAMEWORK` writes them for the framework's own parser to be asked (written_answers.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from framework_launches import CONFIGS, cases_of, command_of
from tiny_llama import TINY_LLAMA
from written_answers import keep

from preflight.errors import BadInput
from preflight.launch import LaunchPlan, Origin
from preflight.plan_parts import SET_ORIGIN
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.remedy import Remedy
from preflight.rewrite import Rewrite
from preflight.rewriting import read_launch, write_checked
from preflight.values import dataclass

LLAMA = {**TINY_LLAMA, "max_position_embeddings": 8192}
CARD = "h100-sxm-80"


@dataclass(frozen=True)
class Written:
    """The plan of a case, and what is written for it."""

    case: str
    plan: LaunchPlan
    remedies: dict[str, Remedy]
    rewrites: dict[str, Rewrite]


def written_cases(framework: str, plugins: PluginManager) -> Iterator[Written]:
    """Yield every launch of a manifest that is read whole, of a small model, with the remedies that are written into it."""
    for name, case in cases_of(framework).items():
        try:
            plan = read_launch(command_of(case, CONFIGS / framework), plugins)
        except BadInput:
            continue  # one that the framework refuses
        if plan is None or plan.source is None:
            continue
        origins = {**plan.origins, "model_config": Origin(SET_ORIGIN)}
        plan = replace(plan, model_config=LLAMA, origins=origins, device=CARD)
        remedies = remedies_of(plan, plugins)
        rewrites = {
            one: rewrite
            for one, remedy in remedies.items()
            if (rewrite := write_checked(plan, plan.with_edits(remedy.edits), plugins)) is not None
        }
        yield Written(name, plan, remedies, rewrites)


def remedies_of(plan: LaunchPlan, plugins: PluginManager) -> dict[str, Remedy]:
    """Return the mildest dose of every remedy that is offered for a plan."""
    model = plugins.first("preflight_describe_model", plan=plan)
    device = plugins.first("preflight_describe_device", plan=plan)
    offered = plugins.collect("preflight_remedies", plan=plan, model=model, device=device)
    remedies: dict[str, Any] = {}
    for _, remedy in offered:
        remedies.setdefault(remedy.id, remedy)
    return remedies


def main() -> None:
    """Write the launches of a framework."""
    rows = {}
    for written in written_cases(sys.argv[1], load_plugins()):
        for name, rewrite in written.rewrites.items():
            if rewrite.argv_diff:
                rows[f"{written.case}: {name}"] = {"argv": " ".join(rewrite.argv)}
    keep(CONFIGS / sys.argv[1], rows)


if __name__ == "__main__":
    main()
