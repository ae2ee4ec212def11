"""An engine that a launcher says and a loop never hands its model to: nothing is divided, whatever the file says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from launch_of_script import opens, plan_of

import preflight

LOOP = """\
import argparse

import deepspeed
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, get_scheduler

args = deepspeed.add_config_arguments(argparse.ArgumentParser()).parse_args()
accelerator = Accelerator(mixed_precision="bf16")
tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen3-8B")
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-8B", dtype=torch.bfloat16)


def collate(rows):
    return tokenizer(rows, truncation=True, padding="max_length", max_length=1024, return_tensors="pt")


adam = torch.optim.AdamW(model.parameters(), lr=1e-5)
rows = DataLoader(texts, batch_size=1, collate_fn=collate)
plan = get_scheduler("linear", adam, 0, 100)
{handed}
for batch in rows:
    loss = model(**batch, labels=batch["input_ids"]).loss
    accelerator.backward(loss)
    adam.step()
    adam.zero_grad()
"""
FSDP = "distributed_type: FSDP\nfsdp_config:\n  fsdp_version: 2\n  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP\n  fsdp_offload_params: true\n  fsdp_activation_checkpointing: true\nnum_processes: 8\n"
ZERO = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
FILES = {"fsdp.yaml": FSDP, "zero.json": json.dumps(ZERO)}
ACCELERATE = "accelerate launch --config_file fsdp.yaml train.py"
DEEPSPEED = "deepspeed --num_gpus 8 train.py --deepspeed_config zero.json"
ELSEWHERE = {"VIRTUAL_ENV": "/env/of/the/cluster"}
"""Names an environment that no machine of the tests has."""
NOT_HANDED = (
    "model = model.to(accelerator.device)",
    "adam, rows = accelerator.prepare(adam, rows)",
    "model.cuda()\nadam, rows, plan = accelerator.prepare(adam, rows, plan)",
)
HANDED = (
    "model, adam, rows = accelerator.prepare(model, adam, rows)",
    "model = accelerator.prepare_model(model)",
    "ready = accelerator.prepare(*parts)",
    "model, adam, _, _ = deepspeed.initialize(model=model, optimizer=adam, args=args)",
)


@pytest.fixture
def plan(tmp_path):
    def read(handed, command=ACCELERATE):
        files = {"train.py": LOOP.replace("{handed}", handed), **FILES}
        return plan_of(tmp_path, command, files, ELSEWHERE)

    return read


@pytest.mark.parametrize("command", [ACCELERATE, DEEPSPEED], ids=["accelerate", "deepspeed"])
@pytest.mark.parametrize("handed", NOT_HANDED)
def test_a_model_that_nobody_is_handed_may_be_whole_on_every_rank(plan, handed, command, tmp_path):
    """Each was said to fit in an eighth of it."""
    read = plan(handed, command)
    judged = preflight.check(command.split(), device="h100", cwd=tmp_path, env=ELSEWHERE)

    assert read.origins["engine"].may_be == ("ddp",)
    assert judged.verdict.answer.value == "unknown"
    assert judged.readings is not None and "engine" in judged.readings.deciding


@pytest.mark.parametrize(
    ("command", "handed"), [*((ACCELERATE, each) for each in HANDED), (DEEPSPEED, HANDED[3])]
)
def test_a_model_that_is_handed_over_is_divided(plan, handed, command):
    assert "engine" not in opens(plan(handed, command))


def test_what_the_engine_brings_does_not_come_without_it(plan):
    """Neither its offload nor its own checkpointing."""
    from preflight.open_values import filled_in

    whole = filled_in(plan(NOT_HANDED[0]), {"engine": "ddp"})

    assert whole is not None
    assert (whole.offload_params, whole.activation_checkpointing, whole.shard_degree) == ("none", "none", 1)  # fmt: skip


def test_releases_that_nobody_says_have_the_engine_of_the_flag(plan):
    """Older releases were read as plain data parallel where `--deepspeed_config` names the file."""
    read = plan(HANDED[3], DEEPSPEED)

    assert read.engine == "zero3" and read.version_readings
    assert not any({"engine", "deepspeed"} & each.fields.keys() for each in read.version_readings)


REAL = """\
import torch
from accelerate import Accelerator

accelerator = Accelerator(cpu=True)
model = torch.nn.Linear(64, 64)
adam = torch.optim.AdamW(model.parameters())
{handed}
if accelerator.is_main_process:
    print("KIND", type(model).__name__)
"""


@pytest.mark.parametrize(
    ("handed", "kind"),
    [
        ("adam = accelerator.prepare(adam)", "Linear"),
        ("model, adam = accelerator.prepare(model, adam)", "DistributedDataParallel"),
    ],
    ids=["an optimizer", "the model too"],
)
def test_accelerate_makes_its_engine_of_what_it_is_handed(tmp_path, handed, kind):
    (tmp_path / "train.py").write_text(REAL.replace("{handed}", handed))
    words = ("--nproc_per_node=2", "--master-port=29741", "train.py")
    ran = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
    )

    assert f"KIND {kind}" in ran.stdout, ran.stderr[-3000:]
