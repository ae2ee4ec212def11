"""Launchers that are written back by words: what is written reads as the plan that it was made for, keeps what is trained, and
is what the framework's own parser makes of it (written.json, which written_words.py and ask_FRAMEWORK.py write)."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest
from framework_launches import CONFIGS
from written_answers import FILE
from written_words import Written, written_cases

from preflight.launch import LaunchPlan
from preflight.launchers.openrlhf.table import short
from preflight.plugins import load_plugins
from preflight.rewrite import Rewrite
from preflight.rewriting import write_checked

OF_BATCH = {"micro_batch", "activation_checkpointing", "seq_len"}
WRITTEN = {
    "verl": {
        *OF_BATCH,
        *("engine_share", "expandable_segments", "offload_optimizer"),
    },
    "openrlhf": {
        *OF_BATCH,
        *("attention_kernel", "engine_share", "expandable_segments", "lora", "offload_optimizer", "qlora", "sharding"),
    },
}  # fmt: skip
"""Launcher -> remedies that its words can say, in some launch of its manifest."""
EVERY = pytest.mark.parametrize("framework", WRITTEN)


@pytest.fixture(scope="module")
def cases() -> dict[str, list[Written]]:
    plugins = load_plugins()
    return {framework: list(written_cases(framework, plugins)) for framework in WRITTEN}


def keeps_training(rewrite: Rewrite, before: LaunchPlan, after: LaunchPlan) -> bool:
    """Tell whether a rewrite touches words alone, and leaves the batch of a step, the model and the ranks as they were."""
    return (
        not rewrite.files
        and after.global_batch_size == before.global_batch_size
        and (after.model, after.world_size) == (before.model, before.world_size)
    )


@EVERY
def test_what_is_written_reads_as_the_plan_that_it_was_made_for(framework: str, cases: Any) -> None:
    """Every remedy alone, and every two of them together."""
    plugins = load_plugins()
    for case in cases[framework]:
        for names in (*combinations(case.rewrites, 1), *combinations(case.rewrites, 2)):
            edits: dict[str, Any] = {}
            for name in names:
                edits.update(case.remedies[name].edits)
            after = case.plan.with_edits(edits)
            rewrite = write_checked(case.plan, after, plugins)
            assert rewrite is not None, (case.case, names)
            assert keeps_training(rewrite, case.plan, after)

    assert set().union(*(case.rewrites for case in cases[framework])) == WRITTEN[framework]


@EVERY
def test_the_frameworks_own_parser_takes_what_is_written(framework: str, cases: Any) -> None:
    """It settles on another value of the keys that the words name, and of no other."""
    kept = json.loads((CONFIGS / framework / FILE).read_text())
    seen = set()
    for case in cases[framework]:
        for name, rewrite in case.rewrites.items():
            if not rewrite.argv_diff:
                continue
            row = kept[f"{case.case}: {name}"]
            seen.add(f"{case.case}: {name}")
            assert " ".join(rewrite.argv) == row["argv"]
            assert {short(key) for key in row["theirs"]} == said_keys(rewrite, row["theirs"])

    assert seen == set(kept)


def said_keys(rewrite: Rewrite, theirs: dict[str, Any]) -> set[str]:
    """Return the keys that changed words name, but for those that say what was so before."""
    added = [words.lstrip("-").replace("=", " ").split() for _, words in rewrite.argv_diff]
    return {short(words[0]) for words in added if words[0] in theirs or words[-1] != "0.0"}
