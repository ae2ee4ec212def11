"""A launch that trains on the CPU is refused by no estimate of a GPU where the launcher sends it there; the Trainer's `--use_cpu` rehearses one on a GPU."""

from __future__ import annotations

import pytest

import preflight
from preflight.verdict import Answer

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

arguments, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-70B", torch_dtype=torch.bfloat16)
Trainer(model=model, args=arguments).train()
"""
CONFIG = "distributed_type: 'NO'\nnum_processes: 1\nmixed_precision: bf16\nuse_cpu: {}\n"
WORDS = "train.py --output_dir out --bf16 true --per_device_train_batch_size 1"
OPENRLHF = "-m openrlhf.cli.train_sft --pretrain meta-llama/Llama-3.1-70B --param_dtype bf16"
TRL = "trl sft --model_name_or_path meta-llama/Llama-3.1-70B --dataset_name d --output_dir out"


@pytest.mark.parametrize(
    ("command", "where"),
    [
        (f"accelerate launch --cpu {WORDS}", "--cpu"),
        (f"accelerate launch --config_file cpu.yaml {WORDS}", "cpu.yaml:4"),
        (f"accelerate launch --cpu --num_processes 1 {WORDS}", "--cpu"),
        (f"{TRL} --accelerate_config cpu.yaml", "cpu.yaml:4"),
        (f"{TRL} --accelerate_config gpu.yaml", ""),
        (f"accelerate launch --config_file cpu.yaml {OPENRLHF}", "cpu.yaml:4"),
        (f"accelerate launch --config_file gpu.yaml {OPENRLHF}", ""),
        (f"accelerate launch --config_file gpu.yaml {WORDS}", ""),
        (f"python {WORDS} --use_cpu true", ""),
    ],
)
def test_what_trains_on_the_cpu_is_not_refused_for_a_gpu(command, where, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "cpu.yaml").write_text(CONFIG.format("true"))
    (tmp_path / "gpu.yaml").write_text(CONFIG.format("false"))
    report = preflight.check(
        command.split(), device="h100-sxm-80", settings={"seq_len": 512}, cwd=tmp_path
    )
    named = [each.where for each in report.findings if "trains on the CPU" in each.message]

    assert report.verdict.answer is (Answer.UNKNOWN if where else Answer.DOES_NOT_FIT)
    assert named == ([where] if where else [])
