"""Liger's modules: what they keep, from its own code; what is not known of them is named and refuses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import preflight
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.layouts.small_sizes import LIGER_FAMILIES
from preflight.device import DeviceSpec
from preflight.formulas.cost_tables import LIGER, family_costs, in_words
from preflight.formulas.layers.installed_kernels import KERNELS
from preflight.formulas.layers.kernels import LIGER_KERNELS, liger_kernels
from preflight.formulas.limits.untraced import untraced
from preflight.judge import judge_plan
from preflight.launch import LaunchPlan
from preflight.models import describe
from preflight.plugins import load_plugins
from preflight.policy import Policy

HERE = Path(__file__).parent
LIGER_FOLDER = Path(sys.prefix) / "kernels"
"""Where `make test` installs liger-kernel, alone: importable, it changes what preflight advises."""


def test_formulas_have_the_bytes_of_ligers_own_code():
    """Two families in sizes that nothing was solved from, by Liger's code on tensors without data."""
    assert (LIGER_FOLDER / "liger_kernel").is_dir(), "make .venv/.installed-test installs it"
    cases = ["llama_liger", "full", "gemma3_text_liger", "LoRA, autocast"]
    done = subprocess.run(
        [sys.executable, str(HERE / "liger_traces.py"), *cases],
        env={**os.environ, "PYTHONPATH": str(LIGER_FOLDER)},
        capture_output=True,
        text=True,
        check=True,
    )
    errors = json.loads(done.stdout.splitlines()[-1])

    assert len(errors) >= 4
    assert max(map(abs, errors.values())) <= 0.001, errors


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_fewer_bytes_are_kept_where_ligers_functions_say_so(family):
    """SwiGLU keeps gate and up, and not their product with the activation as well (2 I of 8 less); RMSNorm keeps its
    input, which the residual stream keeps anyway, where the model's own keeps an fp32 copy and the result: 2 x (4 + 2)
    less, 2 x 2 more (liger_kernel/ops/swiglu.py and rms_norm.py, 0.8.5)."""

    def saved(name):
        costs = family_costs(name)
        kind = next(forms for kind, forms in costs["kinds"].items() if kind.startswith("dense"))
        return in_words(kind["full"]["saved"], costs["names"])

    own, fused = saved(family), saved(f"{family}{LIGER}")

    assert own["T*I"] - fused["T*I"] == 2
    assert own["T*h"] - fused["T*h"] == 8


def test_every_family_of_ligers_has_a_file():
    assert [f for f in LIGER_FAMILIES if family_costs(f"{f}{LIGER}") is None] == []


def test_a_config_switches_kernels_off_one_by_one():
    assert liger_kernels() == liger_kernels({"rope": True}) == LIGER_KERNELS
    assert liger_kernels({"rope": False}) == ("liger_rms_norm", "liger_swiglu")


@pytest.mark.parametrize(
    ("name", "unpriced"),
    [("LiquidAI/LFM2-1.2B", ["a loss that Liger does not fuse"]), ("Qwen/Qwen3-0.6B", [])],
)
def test_a_type_that_liger_has_nothing_for_keeps_its_loss(tmp_path, name, unpriced):
    """`use_liger_kernel` says so in a log line, and logits of every token are made all the same."""
    (tmp_path / "train.py").write_text(TRAINED_WITH_LIGER.format(name=name))
    report = preflight.check(
        ["accelerate", "launch", "--num_processes", "1", "train.py"], cwd=tmp_path, device="h100"
    )

    assert report.plan.loss == "fused_linear"
    named = [notice.unpriced for notice in report.plan.notices if notice.unpriced]
    assert [words for words in named if "Liger" in words] == unpriced


TRAINED_WITH_LIGER = """
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from data import rows

model = AutoModelForCausalLM.from_pretrained("{name}")
args = TrainingArguments("out", per_device_train_batch_size=2, bf16=True, use_liger_kernel=True)
Trainer(model=model, args=args, train_dataset=rows).train()
"""


@pytest.mark.parametrize(("ranks", "rows", "answer"), [(2, 1, "does_not_fit"), (64, 64, "unknown")])
def test_kernels_without_a_table_take_nothing_off_the_states(tmp_path, ranks, rows, answer):
    """A refusal that rests on weights and states stands whatever the layers run; one that rests on layers does not."""
    plan = LaunchPlan(
        model="deepseek-ai/DeepSeek-V2-Lite",
        engine="fsdp1",
        world_size=ranks,
        shard_degree=ranks,
        micro_batch_size=rows,
        seq_len=4096,
        mixed_precision="bf16",
        loss="fused_linear",
        kernels=("liger_rms_norm",),
        device="h100-sxm-80",
    )
    judged = judge_plan(plan, load_plugins(str(tmp_path)), Policy())

    assert judged.verdict.answer.value == answer


@pytest.mark.parametrize(
    ("release", "key", "takes"),
    [("0.18.0", "h100-sxm-80", "less"), ("0.14.0", "h100-sxm-80", "either"), ("0.18.0", "gh200-96", "either")],
)  # fmt: skip
def test_axolotl_brings_the_kernels_of_a_scan(release, key, takes):
    """Without them transformers 5.14 takes more than its layers are counted with; Arm nodes have none."""
    model = describe(small_config("qwen3_next", 3), "small", "here")
    plan = replace(
        small_launch("qwen3_next", "QLoRA, autocast", True),
        launcher="axolotl",
        versions={"transformers": "5.14.1", "axolotl": release},
    )
    device = DeviceSpec("a card", 80 << 30, key=key)
    (found,) = (p for p in untraced(plan, model, device) if p.unpriced == KERNELS)

    assert found.takes == takes
