"""BAdam: layers that train in turns, against what badam 1.4 keeps and makes of a small model on a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

import preflight
from preflight import estimate
from preflight.formulas.adapters.adapters import num_trainable_params
from preflight.formulas.sharding import held_tensors
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import Level, Moment
from preflight.models import describe
from preflight.unpriced_names import IN_TURNS

CONFIG = {
    "model_type": "llama", "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512, "tie_word_embeddings": False,
}  # fmt: skip
MODEL = describe(CONFIG, "tiny", "a test")
LAYER = MODEL.layers[0].num_params
KEPT = 12
"""Bytes of an element of the layer: its copy and two moments in fp32."""


def turns(**more):
    plan = LaunchPlan(
        optimizer="adamw_torch_fused", optimizer_state_dtype="fp32", layers_at_a_time=1, micro_batch_size=1, seq_len=16,
        trainer="transformers", activation_checkpointing="full", versions={"torch": "2.13.0"},
    )  # fmt: skip
    return replace(plan, **more)


def terms_of(plan, plugins):
    terms = estimate_memory(plan, MODEL, None, plugins).terms
    return [t for t in terms if t.level is Level.ALLOCATED]


@pytest.mark.parametrize(
    ("optimizer", "dtype", "most"),
    [
        ("adamw_torch_fused", "bf16", 2.488),
        ("adamw_torch_fused", "fp32", 0.0),
        ("adamw_torch", "bf16", 6.0),
        ("adamw_torch", "fp32", 4.0),
    ],
)
def test_a_layer_has_its_copy_its_states_and_no_larger_step(plugins, optimizer, dtype, most):
    """`most`: bytes of an element that BlockOptimizer.step makes beside gradients, copy and moments."""
    terms = terms_of(turns(optimizer=optimizer, load_dtype=dtype), plugins)
    kept = [t for t in terms if t.name.startswith(("optimizer states", "fp32 copies"))]
    of_step = [t for t in terms if t.moments == frozenset({Moment.OPTIMIZER_STEP})]
    made = sum(t.num_bytes for t in of_step if "gradient of the" not in t.name) / LAYER

    assert sum(t.num_bytes for t in kept) == KEPT * LAYER
    assert most <= made + 1e-3 <= 1.1 * most + 1e-3


def test_gradients_are_of_one_layer_and_the_largest_is_taken(plugins):
    plan = turns(load_dtype="bf16")
    gradients = [t for t in terms_of(plan, plugins) if t.name == "gradients"]
    mixed = describe({**CONFIG, "model_type": "mixtral", "num_local_experts": 2}, "mixed", "a test")
    trained = [held for held in held_tensors(plan, mixed) if held.trains]

    assert max(t.num_bytes for t in gradients) == 2 * LAYER
    assert num_trainable_params(plan, MODEL) == LAYER
    assert sum(held.count * held.tensor.num_params for held in trained) == max(
        unit.num_params for unit in mixed.layers
    )


CONFIG_FILE = """
model_name_or_path: meta-llama/Meta-Llama-3-8B
stage: sft
do_train: true
finetuning_type: full
dataset: alpaca_en_demo
template: llama3
cutoff_len: 1024
output_dir: out
per_device_train_batch_size: 1
use_badam: true
"""


@pytest.mark.parametrize(
    ("more", "card", "says", "layers"),
    [
        ("", "rtx4090-24", "fits", 1),
        ("per_device_train_batch_size: 64\n", "rtx4090-24", "unknown", 1),
        ("badam_mode: ratio\n", "rtx4090-24", "unknown", None),
    ],
)
def test_llamafactorys_badam_is_read(tmp_path, more, card, says, layers):
    """Llama 3 8B in 24 GB, as its authors train it (Luo et al. 2024, section 3.1); a refusal rests on states alone."""
    text = (
        CONFIG_FILE
        if "per_device" not in more
        else CONFIG_FILE.replace("per_device_train_batch_size: 1\n", "")
    )
    (tmp_path / "run.yaml").write_text(text + more)
    words = ["llamafactory-cli", "train", "run.yaml"]
    report = preflight.check(words, device=card, cwd=tmp_path, env={"CUDA_VISIBLE_DEVICES": "0"})

    assert report.plan.layers_at_a_time == layers
    assert report.verdict.answer.value == says
    assert (IN_TURNS in {n.unpriced for n in report.plan.notices}) is (layers is not None)


def test_states_that_fit_no_card_are_refused(tmp_path):
    (tmp_path / "run.yaml").write_text(CONFIG_FILE.replace("Meta-Llama-3-8B", "Meta-Llama-3-70B"))
    words = ["llamafactory-cli", "train", "run.yaml"]
    report = preflight.check(
        words, device="h100-sxm-80", cwd=tmp_path, env={"CUDA_VISIBLE_DEVICES": "0"}
    )

    assert report.verdict.answer.value == "does_not_fit"
    assert estimate(report.plan).allocated_peak_bytes < 160 * 2**30
