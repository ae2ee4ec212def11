"""Launchers beside accelerate: what `run` starts is what `fix` would write, and its ranks get what the plan says."""

from __future__ import annotations

import json
import shlex
import sys

import pytest
from agreement import differences, sharding_differences
from checked_launch import ROOMY_DEVICE, device_between
from harness import TINY_LLAMA, Workplace
from ranks import free_port

TRAINER = (
    "train_trainer.py --model_name_or_path tiny-llama --max_length 512 --max_steps 2 --output_dir out"
    " --report_to none --save_strategy no --learning_rate 3e-3 --per_device_train_batch_size 2"
    " --gradient_checkpointing true"
)
FSDP = """ --fsdp 'full_shard auto_wrap'"""

REWRITTEN = {
    "torchrun": f"torchrun --nproc-per-node 2 --master-port PORT {TRAINER}{FSDP}",
    "deepspeed": f"deepspeed --num_gpus 2 --master_port PORT {TRAINER} --deepspeed zero2.json",
    "python": f"python {TRAINER}",
    "bash": f"env MARK=1 bash -c {shlex.quote(f'set -e; cd . && exec python {TRAINER} 2>&1')}",
}


@pytest.mark.launch
@pytest.mark.parametrize("launcher", REWRITTEN)
def test_a_launcher_starts_what_was_rewritten(launcher, preflight, workplace, forked):
    preflight.variables = forked
    command = shlex.split(REWRITTEN[launcher].replace("PORT", str(free_port())))
    as_written = preflight.check(command)
    plan = as_written["plan"]
    halved = {"micro_batch_size": 1, "gradient_accumulation_steps": 2}
    # Under FSDP a smaller micro batch keeps unsharded gradients, unless each is reduced.
    beside = ["sync_each_batch"] if plan["engine"].startswith("fsdp") else []
    settings = {**halved, **dict.fromkeys(beside, "true")}
    smaller = preflight.check(command, settings=settings)
    peaks = (each["estimate"]["device_peak_bytes"] for each in (smaller, as_written))
    device = device_between(*peaks, share=0.75)  # with room for the margin of `fits`
    report = preflight.check(command, device)
    launched = preflight.run(command, device)

    assert report["verdict"] == "does_not_fit"
    assert [applied["id"] for applied in report["applied"]] == [*beside, "micro_batch"]
    assert launched.exit_code == 0, launched.stderr[-4000:]
    assert differences({**plan, **halved}, launched) == []
    assert sharding_differences(as_written, launched) == []
    assert launched.left_pids == ()
    assert "trained: loss" in launched.stdout

    # The process that preflight was became what check had shown.
    assert launched.processes[0]["pid"] == launched.processes[1]["pid"]
    if launcher != "bash":
        started = launched.processes[1]["argv"]
        assert started[-len(command) :][-6:] == report["rewrite"]["argv"][-6:]


@pytest.mark.launch
def test_a_deepspeed_launcher_without_a_config_trains_with_plain_ddp(preflight, workplace, forked):
    preflight.variables = forked
    command = shlex.split(f"deepspeed --num_gpus 2 --master_port {free_port()} {TRAINER}")
    report = preflight.check(command)
    launched = preflight.run(command, ROOMY_DEVICE)

    assert "PF133" in [finding["id"] for finding in report["findings"]]
    assert launched.exit_code == 0, launched.stderr[-4000:]
    assert launched.plan_seen["engine"] == report["plan"]["engine"] == "ddp"
    assert differences(report["plan"], launched) == []


SFT = """# for trl sft: its own script makes model and tokenizer from files
model_name_or_path: model
dataset_name: data
output_dir: out
report_to: none
save_strategy: "no"
max_steps: 2
max_length: 256   # tokens
per_device_train_batch_size: 8
accelerate_config: fsdp2.yaml
"""


@pytest.fixture
def files_of_trl(workplace: Workplace) -> None:
    """A model with weights, a tokenizer and a dataset on disk: TRL's own script takes nothing else."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sys.path.insert(0, str(TINY_LLAMA))
    try:
        from tiny_data import byte_tokenizer, sentences
    finally:
        sys.path.remove(str(TINY_LLAMA))
    config = AutoConfig.from_pretrained(TINY_LLAMA)
    AutoModelForCausalLM.from_config(config).save_pretrained(workplace.path / "model")
    byte_tokenizer().save_pretrained(workplace.path / "model")
    (workplace.path / "data").mkdir()
    rows = "".join(json.dumps({"text": text}) + "\n" for text in sentences(64, 256))
    (workplace.path / "data" / "train.jsonl").write_text(rows)
    (workplace.path / "sft.yaml").write_text(SFT)


@pytest.mark.launch
def test_trl_starts_what_was_rewritten(files_of_trl, preflight, workplace, tmp_path, forked):
    preflight.variables = forked
    command = [
        "env",
        f"HF_DATASETS_CACHE={tmp_path / 'cache'}",
        "trl",
        "sft",
        "--config",
        "sft.yaml",
    ]
    as_written = preflight.check(command)
    plan = as_written["plan"]
    halved = {"micro_batch_size": 4, "gradient_accumulation_steps": 2}
    smaller = preflight.check(command, settings=halved)
    peaks = (each["estimate"]["device_peak_bytes"] for each in (smaller, as_written))
    device = device_between(*peaks, share=0.75)  # with room for the margin of `fits`
    report = preflight.check(command, device)
    launched = preflight.run(command, device)

    assert [applied["id"] for applied in report["applied"]] == ["micro_batch"]
    added = ["--gradient_accumulation_steps", "2"]
    assert report["rewrite"]["argv"] == [*command[:-1], ".preflight/sft.yaml", *added]
    assert launched.exit_code == 0, launched.stderr[-4000:]
    assert differences({**plan, **halved}, launched) == []
    assert sharding_differences(as_written, launched) == []
    assert launched.left_pids == ()
