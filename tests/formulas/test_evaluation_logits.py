"""Logits that an evaluation makes whole, whatever its training does with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from preflight.launch import LaunchPlan
from preflight.pipeline import check_plan
from preflight.plugins import load_plugins
from preflight.request import Request

ENTRIES = 8 * 2048 * 152_064
EVALUATES = """
import torch
from types import MethodType
from transformers import LlamaConfig, LlamaForCausalLM
from preflight.trace.liger import with_liger
sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=96)).eval()
ids = torch.zeros(1, 8, dtype=torch.long)
with with_liger(model, ()), torch.no_grad():
    from liger_kernel.transformers.model.llama import lce_forward
    model.forward = MethodType(lce_forward, model)
    print(tuple(model(input_ids=ids, labels=ids).logits.shape))
"""


def logits_of(loss: str, trainer: str = "transformers") -> int:
    plan = LaunchPlan(
        model="Qwen/Qwen2.5-7B", engine="ddp", world_size=4, micro_batch_size=1, seq_len=2048, mixed_precision="bf16",
        load_dtype="bf16", loss=loss, trainer=trainer, eval_micro_batch_size=8, device="big:400",
    )  # fmt: skip
    report = check_plan(plan, load_plugins(), Request())
    assert report.estimate is not None
    terms = [t for t in report.estimate.terms if t.name == "logits of an evaluation batch"]
    return sum(term.num_bytes for term in terms)


@pytest.mark.parametrize(
    ("loss", "trainer", "per_entry"),
    [
        ("full_logits", "transformers", 10),
        ("fused_linear", "transformers", 10),
        ("fused_linear", "trl", 10),
        ("chunked_ce", "transformers", 2),
        ("fused_ce", "transformers", 2),
        ("chunked_linear", "torchtune", 0),
    ],
)
def test_an_evaluation_has_the_logits_that_its_loss_reads(loss, trainer, per_entry):
    """Liger's loss was said to take none there, 25 GB for eight rows of 2,048 tokens."""
    assert logits_of(loss, trainer) == per_entry * ENTRIES


def test_liger_makes_its_logits_whole_where_its_model_does_not_train():
    done = subprocess.run(
        [sys.executable, "-c", EVALUATES],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(sys.prefix) / "kernels")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip() == "(1, 8, 96)", done.stderr
