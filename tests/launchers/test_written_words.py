"""Launchers that are written back by words: what is written reads as the plan that it was made for, keeps what is trained, and
is what the framework's own parser makes of it (written.json, which written_words.py and ask_FRAMEWORK.py write)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from framework_launches import CONFIGS
from written_answers import FILE
from written_words import Written, remedies_of, written_cases

from preflight.launch import LaunchPlan
from preflight.plugins import load_plugins
from preflight.rewrite import Rewrite
from preflight.rewriting import write_checked

OF_BATCH = {"micro_batch", "activation_checkpointing", "seq_len"}
WRITTEN = {
    "automodel": {*OF_BATCH, "expandable_segments", "fused_optimizer"},
    "oumi": {
        *OF_BATCH,
        *("adafactor", "deepspeed_buckets", "evaluation_batch", "expandable_segments", "fused_optimizer", "lora"),
        *("offload_optimizer", "optimizer_8bit", "reshard_after_forward", "sharding", "stage3_live_parameters"),
    },
    "litgpt": {"expandable_segments", "micro_batch", "seq_len"},
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
DERIVED = {"training.trainer_kwargs.max_length"}
"""Values that a framework makes of another key: oumi's of `model.model_max_length`."""
SAID_AS_IT_WAS = {"lora_dropout", "ds.lora.dropout", "peft.lora_dropout"}
"""Keys of a new adapter that are 0 already."""
OF_STAGES = ("deepspeed_buckets", "sharding")
"""A size of ZeRO's stage 2 is no key of stage 3."""
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
    """Every remedy alone, and every two together where the second is still the same."""
    plugins = load_plugins()
    for case in cases[framework]:
        for name, rewrite in case.rewrites.items():
            first = case.plan.with_edits(case.remedies[name].edits)
            assert keeps_training(rewrite, case.plan, first)
            for other, remedy in remedies_of(first, plugins).items():
                is_same = other in case.rewrites and remedy.edits == case.remedies[other].edits
                if not is_same or other < name or (name, other) == OF_STAGES:
                    continue
                both = first.with_edits(remedy.edits)
                together = write_checked(case.plan, both, plugins)
                assert together is not None, (case.case, name, other)
                assert keeps_training(together, case.plan, both)

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
            theirs = row["theirs"].keys() - DERIVED
            said = [word for word in said_keys(rewrite) if word not in SAID_AS_IT_WAS]
            assert len(said) == len(theirs)
            assert all(any(key.startswith(word) for key in theirs) for word in said)

    assert seen == set(kept)


def said_keys(rewrite: Rewrite) -> list[str]:
    """Return the keys that changed words name, cut short as litgpt's users may."""
    return [words.lstrip("-").replace("=", " ").split()[0] for _, words in rewrite.argv_diff]
