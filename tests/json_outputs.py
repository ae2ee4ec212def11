"""What every command prints with `--format json`, here and now; GPUs, clusters and accidents are elsewhere."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import preflight
from preflight.cli import main
from preflight.commands.guard import FILE_NAME
from preflight.records.found_corrections import MIN_RUNS

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
TINY = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1} | {
    "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 64
}  # fmt: skip
LAUNCH = "--config_file fsdp2.yaml train.py --model_name_or_path meta-llama/Llama-3.1-8B --max_length 16384 --per_device_train_batch_size 1 --gradient_accumulation_steps 4 --bf16 True --output_dir out"
TOO_LARGE = "--config_file zero3.yaml train.py --model_name_or_path meta-llama/Llama-3.1-70B --max_length 4096 --per_device_train_batch_size 1 --gradient_accumulation_steps 8 --bf16 True --output_dir out"


class Outputs:
    """What was printed: command -> its answers, and what stands in place of one."""

    def __init__(self) -> None:
        self.by_command: dict[str, list[Any]] = {}
        self.errors: list[Any] = []
        self.records: list[Any] = []

    def ask(self, words: str, *launch: str) -> Any:
        """Run a command with `--format json`, keep what it prints on either stream, and return that."""
        name, *rest = words.split()
        out, err = io.StringIO(), io.StringIO()
        asked = [name, *rest, "--format", "json", *launch]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(asked)
        value = json.loads(out.getvalue() or err.getvalue())
        command = f"{name} {rest[0]}" if name == "slurm" else name
        where = self.errors if "error" in value else self.by_command.setdefault(command, [])
        where.append(value)
        return value


OWN_LOOP = """\
import argparse
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--model_name_or_path")
parser.add_argument("--batch_size", type=int)
parser.add_argument("--max_length", type=int)
args = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained(args.model_name_or_path)
if is_large(model):
    fully_shard(model)
loss = model(**next(rows)).loss
loss.backward()
"""
"""A loop of somebody's own, which shards only where running it tells: its engine is open."""


def outputs_in(place: Path, patch: pytest.MonkeyPatch) -> Outputs:
    """Ask every command that has an answer on any machine, in a folder made for it."""
    found = Outputs()
    _ask_about_launches(found, place, patch)
    _ask_about_a_site(found, place, patch)
    _ask_for_files(found, place, patch)
    for words in (
        "explain",
        "explain lora",
        "hooks",
        "gpus",
        "gpus b100",
        "models gemma",
        "models whisper",
    ):
        found.ask(words)
    return found


def _ask_about_launches(found: Outputs, place: Path, patch: pytest.MonkeyPatch) -> None:
    launch = ("--", "accelerate", "launch", *LAUNCH.split())
    for folder, words in (
        ("1-fits", "check --device h100-sxm-80 --dataset rows.jsonl"),
        ("2-rewritten", "fix --device h100-sxm-80 -v --policy policy.yaml"),
        ("2-rewritten", "fix --device h100-sxm-80"),
        ("2-rewritten", "check"),
    ):
        shutil.copytree(EXAMPLES / folder, place / folder, dirs_exist_ok=True)
        patch.chdir(place / folder)
        Path("rows.jsonl").write_text('{"num_tokens": 900}\n{"num_tokens": 12}\n')
        Path("policy.yaml").write_text("ignore: [PF102]\nrefuse_findings: [PF101]\n")
        config = Path("fsdp2.yaml").read_text()
        Path("fsdp2.yaml").write_text(
            f"same_network: true\nmain_training_function: f\n{config}  fsdp_x: 1\n"
        )
        found.ask(words, *launch)
    (place / "own").mkdir()
    patch.chdir(place / "own")
    Path("own.py").write_text(OWN_LOOP)
    uncut = "lora_finetune_single_device --config llama2/7B_lora_single_device"
    found.ask("check --device h100-sxm-80", "--", "tune", "run", *uncut.split())
    own = "own.py --model_name_or_path Qwen/Qwen2.5-14B-Instruct --batch_size 1 --max_length 2048"
    found.ask("check --device h100-sxm-80", "--", "torchrun", "--nproc_per_node", "8", *own.split())
    shutil.copytree(EXAMPLES / "3-refused", place / "3-refused")
    patch.chdir(place / "3-refused")
    refused = ("--", "accelerate", "launch", *TOO_LARGE.split())
    for door in ("check", "run"):
        found.ask(f"{door} --device a100-sxm-40 --forbid offload_optimizer", *refused)
    Path("plan.yaml").write_text(
        "model: meta-llama/Llama-3.1-8B\nseq_len: 1024\nmicro_batch_size: 1\n"
        "adapter: {rank: 8}\nbase_quantization: {scheme: nf4}\n"
    )
    found.ask("estimate plan.yaml --device t4-16")
    Path("uncut.yaml").write_text("model: Qwen/Qwen2.5-1.5B\nmicro_batch_size: 1\n")
    found.ask("estimate uncut.yaml --device rtx4090-24")
    Path("online.yaml").write_text(
        "model: meta-llama/Llama-3.1-8B\nobjective: grpo\ntrainer: trl\nseq_len: 1024\nmicro_batch_size: 1\n"
        "reward_models: [same]\ngeneration: {engine: vllm, memory_share: 0.3, sleep: true}\n"
    )
    found.ask("estimate online.yaml --device h100-sxm-80")
    Path("stages.yaml").write_text(
        "model: meta-llama/Llama-3.1-8B\ntrainer: torchtitan\nworld_size: 4\nseq_len: 1024\nmicro_batch_size: 1\n"
        "pipeline: {degree: 4, num_micro_batches: 4}\ngradient_accumulation_steps: 4\n"
    )
    found.ask("estimate stages.yaml --device h100-sxm-80")
    Path("projected.yaml").write_text(
        "model: meta-llama/Llama-3.1-8B\nseq_len: 1024\nmicro_batch_size: 1\n"
        "optimizer: galore_adamw\nlow_rank: {rank: 128}\n"
    )
    found.ask("estimate projected.yaml --device h100-sxm-80")
    Path("images.yaml").write_text(
        "model: google/gemma-3-4b-it\nseq_len: 1024\nmicro_batch_size: 1\n"
        "vision: {images_per_sequence: 1, frozen: [tower]}\n"
    )
    found.ask("estimate images.yaml --device h100-sxm-80")
    found.ask("diff plan.yaml images.yaml --device h100-sxm-80")
    found.ask(
        "size meta-llama/Llama-3.1-8B --compare Qwen/Qwen3-8B --seq-len 1024 --gpu h100-sxm-80"
    )
    found.ask(f"validate {ROOT / 'tests' / 'measured' / 'runs-dev.yaml'} --worst 2")
    Path("tiny.yaml").write_text(
        f"model_config: {json.dumps(TINY)}\nmicro_batch_size: 1\nseq_len: 16\n"
    )
    found.ask("trace --plan tiny.yaml --no-cache")
    (place / "1-fits" / "train.sh").write_text(f"accelerate launch {LAUNCH}\naccelerate launch\n")
    patch.chdir(place / "1-fits")
    found.ask("scan --device h100-sxm-80")


def _ask_about_a_site(found: Outputs, place: Path, patch: pytest.MonkeyPatch) -> None:
    found.ask("probe --checkpoints .")
    folder = str(place / "records")
    found.records += records_in(folder)
    corrections = found.ask(f"history --folder {folder}")["corrections"]
    found.ask(f"history --compact --folder {folder}")
    found.by_command["check"][0]["site_correction"] = next(iter(corrections.values()))
    (place / "slurm").mkdir()
    patch.setenv("SLURM_CONF", str(place / "slurm" / "slurm.conf"))
    for words in (
        "status",
        "install --client --controller --policy warn",
        "status",
        "uninstall --client --controller",
        f"hook --dir {place / 'hook'}",
    ):
        found.ask(f"slurm {words}")
    purelib = place / "site-packages"
    purelib.mkdir()
    patch.setattr("sysconfig.get_path", lambda *_: str(purelib))
    for more in (" --install", "", " --remove"):
        found.ask(f"guard{more}")
        assert (purelib / FILE_NAME).exists() is (more != " --remove")


def _ask_for_files(found: Outputs, place: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(place / "1-fits")
    found.ask("init --list")
    found.ask(f"init --template plugins/check.py --output {place / 'check'}")
    found.ask("init --template plugins/check.py --print")
    sized = "--model meta-llama/Llama-3.1-8B --gpu h100-sxm-80 --num-gpus 8"
    found.ask(f"init {sized} --output {place / 'sft'}")
    found.ask("init --repo --print")
    found.ask("init --repo")


def records_in(folder: str) -> list[Any]:
    """Measure one tiny training for real, and save copies of it as a GPU's, enough to correct something."""
    import torch

    from preflight.records.run_store import save

    model = torch.nn.Linear(8, 8)
    optimizer = torch.optim.AdamW(model.parameters())
    with preflight.measure(model, optimizer=optimizer, folder=folder, report_to=None) as run:
        for _ in range(2):
            model(torch.ones(2, 8)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert run.record is not None
    card = {**run.record.device, "name": "NVIDIA T4", "kind": "cuda"}
    for number in range(MIN_RUNS):
        record = replace(
            run.record,
            run_id=f"run-{number}",
            device=card,
            outside_bytes=300 * 2**20,
            predicted_runtime={"CUDA context": 400 * 2**20},
        )
        save(record, folder)
    lines = [
        line for path in Path(folder).glob("runs-*.jsonl") for line in path.read_text().splitlines()
    ]
    return [json.loads(line) for line in lines]
