"""Layers in older releases of transformers: what small launches kept there, traced in their environments, and formulas.

`python -m preflight.derive.pages.version_table FAMILY --python VENV/bin/python --write` makes the rows again.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.derive.pages.version_table import kept_rows, launch_of, worst_of
from preflight.formulas.adapters.linear_experts import LINEAR_EXPERTS
from preflight.formulas.cost_tables import has_own_release, method_of
from preflight.formulas.limits.left_out import with_left_out
from preflight.formulas.limits.untraced import UNTRACED
from preflight.formulas.precision import precision_of
from preflight.formulas.releases import RELEASES
from preflight.judge import estimate_memory
from preflight.launch_facts import EngineFacts
from preflight.versions.boundary import release

ROWS = [row for row in kept_rows() if "traced" in row]


@pytest.mark.parametrize("transformers", sorted({row["transformers"] for row in ROWS}, key=release))
def test_formulas_are_near_what_an_older_release_kept_or_say_that_they_are_not(
    plugins, transformers
):
    rows = [row for row in ROWS if row["transformers"] == transformers and not is_said(row)]
    off = {
        (row["family"], row["method"], row["checkpointing"]): round(100 * error, 1)
        for row in rows
        if abs(error := worst_of(row, plugins)) > most_off(row)
    }

    assert rows
    assert off == {}


ONCE_IN_A_MODEL = {"gemma": 0.06, "gemma2": 0.07, "gpt_oss": 0.03}
"""Families with something of their own once: Gemma's embeddings before they are scaled, Gemma 2's masks, GPT-OSS's rows
of one layer in 5.0."""
LOOPS = {"gpt_oss": 0.31}
"""Of experts in a loop, whose layers are made of those that stack them; in three layers of a few hundred features."""
MOST_OF_LOOPS = 0.19
SOLVED_LOOPS = {"mixtral": 0.01, "olmoe": 0.01, "qwen3_moe": 0.05}
"""Which have tables of such loops; of Qwen3-MoE none of 4.57 in fp32."""
OWN_LOSS = {
    "gpt2": 0.18, "gpt_neox": 0.19, "falcon": 0.2, "bloom": 0.29, "opt": 0.23, "stablelm": 0.24,
    "gpt_bigcode": 0.2,
}  # fmt: skip
"""Before 4.49: formulas have one more copy of the logits than a trace, as measured runs of GPTBigCode have."""
IGNORES_CHECKPOINTING = {"starcoder2": 0.46, "gpt_bigcode": 0.3}
"""Their embeddings ask for gradients, where nothing is recomputed: a moment that is no peak."""
SOMEWHERE = {
    ("gptj", "4.48.1"): 0.06, ("gptj", "4.53.3"): 0.06, ("gptj", "4.57.6"): 0.06, ("stablelm", "4.57.6"): 0.13,
}  # fmt: skip
"""Too high: fp32 attention in a release that has no table of it; GPT-J's tables of positions, which are no buffers before
5.0, so that no trace sees them."""
HOLDS_SCORES = {"gptj": 0.6}
"""From 4.54 on the last layer's scores are there until the loss begins, which takes less than that layer did."""


def most_off(row) -> float:
    family, transformers = row["family"], row["transformers"]
    if transformers < "5" and family in (*LINEAR_EXPERTS, *LOOPS):
        return {**LOOPS, **SOLVED_LOOPS}.get(family, MOST_OF_LOOPS)
    if transformers < "4.49" and family in OWN_LOSS:
        return OWN_LOSS[family]
    if transformers < "5" and row["checkpointing"] and family in IGNORES_CHECKPOINTING:
        return IGNORES_CHECKPOINTING[family]
    if row["checkpointing"] and family in HOLDS_SCORES and transformers > "4.54":
        return HOLDS_SCORES[family]
    return SOMEWHERE.get((family, transformers), ONCE_IN_A_MODEL.get(family, 0.01))


def is_said(row) -> bool:
    versions = {name: row[name] for name in ("transformers", "peft", "torch")}
    plan, model = launch_of(row["family"], row["method"], row["checkpointing"], versions)
    return any(notice.unpriced == UNTRACED for notice in with_left_out(plan, model).notices)


def test_a_release_has_a_table_only_where_the_newest_does_not_hold(plugins):
    """Attention in fp32 without scores, before 4.54; experts in a loop, before 5.0, and those whose rows are gathered
    twice, before 5.5."""
    found = {
        (family, method, one.traced): has_own_release(
            plan, model, method_of(plan, precision_of(plan, model))
        )
        for one in RELEASES
        for family, method in (("llama", "full"), ("llama", "full, fp32"), ("mixtral", "LoRA"))
        for plan, model in [launch_of(family, method, False, {"transformers": one.traced})]
    }

    assert {key for key, is_own in found.items() if is_own} == {
        *(("llama", "full, fp32", one) for one in ("4.51.3", "4.52.4", "4.53.3")),
        *(("mixtral", "LoRA", one) for one in ("4.51.3", "4.52.4", "4.53.3", "4.57.6", "5.0.0")),
    }


def peak_of(plugins, family, checkpointing, release_, **changes):
    plan, model = launch_of(family, "full", checkpointing, {"transformers": release_})
    estimate = estimate_memory(replace(plan, **changes), model, None, plugins)
    return estimate.allocated_peak_bytes


@pytest.mark.parametrize(
    ("family", "ignores", "obeys"),
    [("starcoder2", "4.49.0", "4.47.1"), ("gpt_bigcode", "4.56.2", "4.53.3")],
)
def test_a_class_that_ignores_checkpointing_keeps_everything(plugins, family, ignores, obeys):
    kept = peak_of(plugins, family, False, ignores)

    assert peak_of(plugins, family, True, ignores) == kept
    assert peak_of(plugins, family, True, obeys) < 0.99 * kept


def test_a_launch_is_told_that_its_class_ignores_checkpointing(plugins):
    def told(family, checkpointing, release_, **changes):
        plan, model = launch_of(family, "full", checkpointing, {"transformers": release_})
        plan = replace(plan, **changes)
        found = plugins.collect("preflight_findings", plan=plan, model=model, device=None)
        return [finding for _, finding in found if finding.id == "PF446"]

    (finding,) = told("starcoder2", True, "4.51.3")
    assert "4.48 and newer, before 4.52" in finding.message
    assert told("gpt_bigcode", True, "4.57.6")
    assert not told("starcoder2", False, "4.51.3")
    assert not told("starcoder2", True, "4.52.4")
    assert not told("llama", True, "4.51.3")
    wraps = EngineFacts(fsdp_checkpoints=True)
    sharded = {"engine": "fsdp1", "world_size": 2, "shard_degree": 2, "engine_facts": wraps}
    assert not told("starcoder2", True, "4.51.3", **sharded)


def test_fsdps_own_switch_wraps_layers_of_a_class_that_ignores_checkpointing(plugins):
    sharded = {"engine": "fsdp1", "world_size": 2, "shard_degree": 2}
    wraps = {**sharded, "engine_facts": EngineFacts(fsdp_checkpoints=True)}

    assert peak_of(plugins, "starcoder2", True, "4.49.0", **wraps) < peak_of(
        plugins, "starcoder2", True, "4.49.0", **sharded
    )
