"""What bitsandbytes' layers keep of what they read: counted rows of its releases (packed_inputs.py) against the formula."""

from __future__ import annotations

import gc
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from allocations import Allocations
from packed_inputs import FAMILIES, HIDDEN, INNER, LAYERS, LENGTH, ROWS, SHAPE, TARGETS, built
from packed_inputs import counted as counted_bytes

from preflight.formulas.layers.layer_pieces import layer_pieces
from preflight.formulas.precision import precision_of
from preflight.hooks.memory_activations import preflight_memory_terms as terms_of
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.model import LINEAR, ModelSpec
from preflight.models import describe
from preflight.values import replace
from preflight.versions.boundary import release

TOKENS = ROWS * LENGTH


@cache
def counted() -> list[dict[str, Any]]:
    text = Path(__file__).with_name("packed_inputs.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return [{**row, "bitsandbytes": version} for row in rows for version in row["bitsandbytes"]]


def model_of(family: str) -> ModelSpec:
    config = {"model_type": family, **SHAPE, **FAMILIES[family], "tie_word_embeddings": False}
    return describe(config, "small", "here")


def plan_of(row: dict[str, Any], **more: Any) -> LaunchPlan:
    targets = TARGETS[row["family"]] if row["targets"] == "some" else "all-linear"
    said = {
        "trainer": "transformers", "engine": "single", "load_dtype": row["dtype"], "mixed_precision": row["mixed"],
        "adapter": Adapter(rank=4, targets=targets, dtype="fp32" if row["wide"] else row["dtype"]),
        "base_quantization": BaseQuantization(
            row["scheme"], False, row["compute"], None, "all" if row["upcast"] else "none"
        ),
        "activation_checkpointing": "none" if row["recomputes"] == "none" else "full",
        "checkpointing_reentrant": row["recomputes"] == "reentrant", "attention": "sdpa",
        "micro_batch_size": ROWS, "seq_len": LENGTH, "sequence_kind": "fixed",
        "versions": {"bitsandbytes": row["bitsandbytes"]},
    }  # fmt: skip
    return LaunchPlan(**{**said, **more})


def kept_by_formula(row: dict[str, Any]) -> int:
    """What a layer has more of than one of 4 bits that keeps nothing, in both models' layers."""
    plan, model = plan_of(row), model_of(row["family"])
    packing = BaseQuantization("nf4", False, row["compute"], None, "all" if row["upcast"] else "none")  # fmt: skip
    plain = replace(plan, base_quantization=packing, versions={"bitsandbytes": "0.50.2"})
    unit = model.layers[0]
    costs, less = (layer_pieces(each, model, unit, precision_of(each, model)) for each in (plan, plain))  # fmt: skip
    is_checkpointed = row["recomputes"] != "none"
    each = costs.held * (row["recomputes"] == "not reentrant") if is_checkpointed else costs.saved - less.saved  # fmt: skip
    return each * TOKENS * LAYERS


def scales_of_copies(row: dict[str, Any], kept: int) -> int:
    """A copy in 8 bits has one fp32 scale for each column, whatever the tokens: nothing beside a real batch."""
    has_copies = row["scheme"] == "int8" and release(row["bitsandbytes"]) < (0, 45)
    unit = model_of(row["family"]).layers[0]
    columns = sum(t.shape[1] for t in unit.tensors if t.kind == LINEAR)
    return 4 * columns * LAYERS if has_copies and kept else 0


def name_of(row: dict[str, Any]) -> str:
    return " ".join(str(value) for value in row.values())


@pytest.mark.parametrize("row", counted(), ids=name_of)
def test_packed_layers_keep_what_their_release_does(row):
    kept = kept_by_formula(row)

    assert kept + scales_of_copies(row, kept) == row["kept"]


@pytest.mark.parametrize("recomputes", ["none", "not reentrant"])
@pytest.mark.parametrize("scheme", ["nf4", "int8"])
def test_the_installed_release_keeps_what_its_newest_row_says(scheme, recomputes):
    here = {"family": "llama", "scheme": scheme, "dtype": "bf16", "upcast": False, "wide": False, "targets": "some", "recomputes": recomputes}  # fmt: skip
    row = next(row for row in reversed(counted()) if here.items() <= row.items())
    model = built("llama", scheme, "bf16", "bf16", False, False, TARGETS["llama"])

    assert counted_bytes(model, recomputes, "no") == row["kept"]


@pytest.mark.parametrize("scheme", ["nf4", "int8"])
def test_a_checkpoint_that_is_not_reentrant_holds_what_packed_layers_read(scheme):
    """Beside the inputs of layers stays all that 8-bit layers read of all of them; a reentrant one runs without nodes first."""
    row = {"family": "llama", "scheme": scheme, "dtype": "bf16", "compute": "bf16", "upcast": False, "wide": False, "mixed": "no", "targets": "some", "bitsandbytes": "0.50.2"}  # fmt: skip
    model = model_of("llama")
    kept = {
        how: layer_pieces(plan, model, model.layers[0], precision_of(plan, model)).kept("full")
        for how in ("reentrant", "not reentrant")
        for plan in [plan_of({**row, "recomputes": how})]
    }
    held = 2 * (3 * HIDDEN + INNER) if scheme == "int8" else 0

    assert kept["not reentrant"] - kept["reentrant"] == held


@pytest.mark.parametrize(("trainer", "has_both"), [("plain_loop", True), ("transformers", False)])
def test_what_8_bit_layers_read_is_there_until_a_loop_makes_its_loss_again(trainer, has_both):
    """A node that is done lets go of its saved tensors, and not of what hangs on it; a Trainer's loss ends with its step."""
    row = {"family": "llama", "scheme": "int8", "dtype": "bf16", "compute": "bf16", "upcast": False, "wide": False, "mixed": "no", "targets": "some", "recomputes": "none", "bitsandbytes": "0.50.2"}  # fmt: skip
    freed = {}
    for scheme in ("int8", "nf4"):
        model = built("llama", scheme, "bf16", "bf16", False, False, TARGETS["llama"])
        ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
        with Allocations() as seen:
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            gc.collect()
            before = seen.now
            del loss
            gc.collect()
            freed[scheme] = before - seen.now

    plan = plan_of(row, trainer=trainer)
    terms = terms_of(plan=plan, model=model_of("llama"))
    there = [term.num_bytes for term in terms if "step before" in term.name]

    assert there == ([freed["int8"] - freed["nf4"]] if has_both else [])
