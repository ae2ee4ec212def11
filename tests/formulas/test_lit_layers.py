"""What litgpt's own layers and loss take: counted rows of litgpt 0.5.13 (lit_layers.py) against the formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from lit_layers import FAMILIES, LENGTH, RANK, ROWS, SWITCHES, WORDS
from some_plugins import plugins_of

from preflight.formulas.layers.heads import with_head
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.limits.untraced import UNTRACED, untraced
from preflight.formulas.precision import precision_of
from preflight.hooks.memory_model_states import preflight_memory_terms as states_of
from preflight.judge import estimate_memory, judge_plan
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.launchers.litgpt.model import TARGETS
from preflight.memory import STEP_MOMENTS, Level, Moment
from preflight.model import ModelSpec
from preflight.models import describe
from preflight.plan_dict import plan_from_dict
from preflight.plugins import load_plugins
from preflight.policy import Policy

PACKED = BaseQuantization("nf4", False, "bf16", None, "none")


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(__file__).with_name(name).read_text().splitlines()]


def name_of(row: dict[str, Any]) -> str:
    return f"{row['family']} {row['shape']} {row['adapted']} {row['dropout']}"


def plan_of(adapted: str = "none", dropout: float = 0.0, **more: Any) -> LaunchPlan:
    targets = tuple(name for switch in SWITCHES[adapted] for name in TARGETS[f"lora_{switch}"])
    adapter = (
        Adapter(rank=RANK, targets=targets, dropout=dropout, dtype="bf16") if targets else None
    )
    said = {
        "load_dtype": "bf16", "mixed_precision": "no", "optimizer_state_dtype": "bf16", "optimizer": "adamw_torch",
        "optimizer_kernel": "for_loop", "max_grad_norm": 0.0, "attention": "sdpa", "loss": "full_logits",
        "activation_checkpointing": "none", "micro_batch_size": ROWS, "seq_len": LENGTH, "sequence_kind": "padded",
        "eval_micro_batch_size": ROWS,
    }  # fmt: skip
    return LaunchPlan(
        **{**said, "trainer": "litgpt", "engine": "single", "adapter": adapter, **more}
    )


def model_of(family: str, shape: list[int], num_layers: int = 2, **more: Any) -> ModelSpec:
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    sizes = {**dict(zip(names, shape, strict=True)), "ffn_hidden_size": shape[1]}
    sizes |= {"num_hidden_layers": num_layers, "vocab_size": WORDS, "tie_word_embeddings": False}
    sizes["head_dim"] = shape[0] // shape[2]
    return describe({"model_type": family, **sizes, **FAMILIES[family][1], **more}, "small", "here")


@pytest.mark.parametrize("row", rows_of("lit_layers.jsonl"), ids=name_of)
def test_a_block_keeps_what_litgpts_does_whatever_transformers_class_would(row):
    plan, model = plan_of(row["adapted"], row["dropout"]), model_of(row["family"], row["shape"])
    saved = layer_costs(plan, model, model.largest_layer, precision_of(plan, model)).saved

    assert saved == pytest.approx(row["kept"], rel=0.003)


@pytest.mark.parametrize("row", rows_of("lit_steps.jsonl"), ids=name_of)
def test_a_step_peaks_where_litgpts_loop_does(row):
    plan, model = plan_of(row["adapted"]), model_of(row["family"], row["shape"], 4)
    plugins = plugins_of("memory_")
    live = [
        term
        for term in estimate_memory(plan, model, None, plugins).terms
        if term.level is Level.ALLOCATED
    ]

    def at(moment: Moment) -> int:
        return sum(t.num_bytes for t in live if moment in t.moments)

    peaks = row["peaks"]
    counted = max(peaks[part] for part in ("forward", "loss", "backward"))
    assert max(map(at, STEP_MOMENTS)) == pytest.approx(counted, rel=0.015)
    assert at(Moment.EVALUATION) == pytest.approx(peaks["evaluation"], rel=0.03)


def test_a_packed_base_leaves_a_gradient_of_its_words_that_nothing_empties():
    model = model_of("llama", [256, 768, 4, 4])
    terms = states_of(plan=plan_of("all", base_quantization=PACKED), model=model)
    stays = [term for term in terms if "which stays" in term.name]

    assert [term.num_bytes for term in stays] == [2 * WORDS * 256]
    assert Moment.FORWARD in stays[0].moments
    assert not [t for t in states_of(plan=plan_of("all"), model=model) if "stays" in t.name]


@pytest.mark.parametrize(
    ("family", "sizes", "more", "is_named"),
    [
        ("llama", {}, {}, False),
        ("llama", {}, {"torch_compile": True}, True),
        ("llama", {}, {"load_dtype": "fp32", "mixed_precision": "bf16"}, True),
        ("llama", {}, {"adapted": "some heads"}, False),
        (
            "llama",
            {},
            {"adapted": "some heads", "engine": "fsdp1", "world_size": 2, "shard_degree": 2},
            True,
        ),
        ("llama", {}, {"engine": "fsdp1", "world_size": 2, "shard_degree": 2}, False),
        ("llama", {}, {"adapted": "all"}, False),
        ("gpt_neox", {}, {}, False),
        ("gpt_neox", {}, {"adapted": "some heads"}, False),
        ("phi3", {"sliding_window": 64}, {}, False),
        ("gemma2", {}, {}, True),
        ("mixtral", {"num_local_experts": 4}, {}, True),
    ],
)
def test_layers_that_no_published_run_bears_out_are_named(
    family, sizes, more, is_named, monkeypatch
):
    for family_of_none in ("mixtral", "gemma2"):
        monkeypatch.setitem(FAMILIES, family_of_none, ({}, {}))
    model = model_of(family, [256, 768, 4, 4], **sizes)
    named = [notice.unpriced for notice in untraced(plan_of(**more), model)]

    assert (UNTRACED in named) is is_named


def test_a_head_is_never_the_embedding():
    tied = model_of("llama", [256, 768, 4, 4], tie_word_embeddings=True)
    untied = model_of("llama", [256, 768, 4, 4])

    assert tied.num_params < with_head(plan_of(), tied).num_params == untied.num_params
    assert with_head(plan_of(trainer="transformers"), tied) == tied


@pytest.mark.parametrize(("dropout", "read_by_adapters"), [(0.0, 256), (0.05, 0)])
def test_a_packed_block_keeps_what_its_layers_read_where_bitsandbytes_does(
    dropout, read_by_adapters
):
    """litgpt before 0.5.5 asks for bitsandbytes 0.42.0: two norms, attention and the product, but what LoRA keeps as it is."""
    model = model_of("llama", [256, 768, 4, 4])
    saved = {}
    for version in ("0.5.4", "0.5.5"):
        plan = plan_of(
            "some heads", dropout, base_quantization=PACKED, versions={"litgpt": version}
        )
        saved[version] = layer_costs(
            plan, model, model.largest_layer, precision_of(plan, model)
        ).saved

    assert saved["0.5.4"] - saved["0.5.5"] == 2 * (3 * 256 + 768 - read_by_adapters)


def published() -> list[dict[str, Any]]:
    """Runs of litgpt's own table whose modules have the names that its switches are told by."""
    text = Path(__file__).parents[1].joinpath("measured", "runs-dev-2.yaml").read_text()
    return [
        run
        for run in yaml.load(text, yaml.CSafeLoader)["runs"]
        if run["group"] == "litgpt_hub"
        and run["measured"].get("peak_bytes")
        and any(name in run["plan"]["model"].lower() for name in ("llama", "mistral", "gemma-2b"))
    ]


@pytest.mark.parametrize("run", published(), ids=lambda run: run["id"])
def test_published_runs_are_as_they_were_counted(run):
    """Of 0.4, whose bitsandbytes keeps what it reads. One row alone peaks where its longest row was the first."""
    plan = plan_from_dict({**run["plan"], "versions": {"litgpt": "0.4.13"}}, "here")
    estimate = judge_plan(plan, load_plugins("."), Policy()).estimate

    assert estimate is not None
    peak = estimate.allocated_peak_bytes
    assert peak == pytest.approx(run["measured"]["peak_bytes"], rel=0.025)
