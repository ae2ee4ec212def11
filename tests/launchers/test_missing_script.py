"""A training script that is not there is named, and what only it could say is open."""

from __future__ import annotations

import subprocess
import sys

import pytest

from preflight.errors import BadInput
from preflight.judge import judge_plan
from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.request import Request, with_request
from preflight.rewriting import read_launch
from preflight.verdict import Answer

LAUNCHES = [
    "accelerate launch --num_processes 2 {script} --model_name_or_path gpt2 --max_length 512",
    "torchrun --nproc-per-node 2 {script} --bf16",
    "deepspeed --num_gpus 2 {script}",
    "python {script}",
    "srun -n 1 torchrun --nproc-per-node 2 {script}",
]


def read(line, folder):
    command = LaunchCommand(tuple(line.split()), {}, str(folder))
    return read_launch(command, load_plugins())


@pytest.mark.parametrize("line", LAUNCHES)
def test_a_script_that_is_not_there_is_named(line, tmp_path):
    plan = read(line.format(script="./runs/train.py"), tmp_path)
    (said,) = [notice for notice in plan.notices if notice.id == "PF128"]
    ran = subprocess.run(
        [sys.executable, "./runs/train.py"], cwd=tmp_path, capture_output=True, text=True
    )

    assert (said.severity, said.where) == ("error", "./runs/train.py")
    assert "does not exist" in said.message and f"no folder {tmp_path / 'runs'}:" in said.fix
    assert ran.returncode == 2 and "can't open file" in ran.stderr


@pytest.mark.parametrize("line", LAUNCHES)
def test_a_script_that_is_there_is_not(line, tmp_path):
    (tmp_path / "train.py").write_text("import torch\n")
    plan = read(line.format(script="train.py"), tmp_path)

    assert [notice for notice in plan.notices if notice.id == "PF128"] == []


@pytest.mark.parametrize(
    "line",
    [
        "docker run image torchrun --nproc-per-node 2 /workspace/train.py",
        "torchrun --nproc-per-node 2 -m package.train",
        "python submit.py -- torchrun --nproc-per-node 2 train.py",
        "trl sft --model_name_or_path gpt2",
    ],
)
def test_a_script_that_may_be_elsewhere_is_not(line, tmp_path):
    (tmp_path / "submit.py").write_text("")
    plan = read(line, tmp_path)

    assert [notice for notice in plan.notices if notice.id == "PF128"] == []


BIG = "--model_name_or_path meta-llama/Llama-3.1-8B --per_device_train_batch_size 1 --max_length 2048 --bf16 true"
HUGE = BIG.replace("Llama-3.1-8B", "Llama-3.1-405B")
SMALL = BIG.replace("meta-llama/Llama-3.1-8B", "gpt2").replace("2048", "512")
TRAINS = """\
from dataclasses import dataclass
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments


@dataclass
class Arguments:
    model_name_or_path: str
    max_length: int = 512


parser = HfArgumentParser((Arguments, TrainingArguments))
own, args = parser.parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained(own.model_name_or_path)
rows = tokenizer(texts, truncation=True, max_length=own.max_length)
Trainer(model=model, args=args).train()
"""
STARTS = [
    "torchrun --nproc-per-node 1 {}",
    "accelerate launch --num_processes 1 {}",
    "deepspeed --num_gpus 1 {}",
    "torchrun --nproc-per-node 1 -m main.train",
]


def judged(line, folder, device="l40s-48"):
    """Judge a launch in all its readings, and look for nothing that would make it fit."""
    return judge_plan(with_request(read(line, folder), Request(device)), load_plugins(), Policy())


@pytest.mark.parametrize("start", STARTS)
def test_nothing_is_refused_for_a_script_that_nobody_read(start, tmp_path):
    """With an adapter, fewer bits or checkpointing it may fit; what holds in every reading is refused all the same."""
    words = start.format("train.py")
    of_nobody, too_big = judged(f"{words} {BIG}", tmp_path), judged(f"{words} {HUGE}", tmp_path)
    for name in ("train.py", "main/train.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TRAINS)
    read_whole = judged(f"{words} {BIG}", tmp_path)

    assert of_nobody.verdict.answer is Answer.UNKNOWN
    assert too_big.verdict.answer is read_whole.verdict.answer is Answer.DOES_NOT_FIT
    assert too_big.readings.least.values["base_quantization"] is not None


def test_what_only_a_script_says_is_open_and_what_is_typed_is_not(tmp_path):
    typed = read(
        f"torchrun --nproc-per-node 2 train.py {BIG} --gradient_checkpointing true", tmp_path
    )
    open_fields = {name for name, origin in typed.origins.items() if origin.may_be}
    by_file = "accelerate launch --config_file c.yaml train.py " + BIG
    (tmp_path / "c.yaml").write_text(
        "distributed_type: FSDP\nnum_processes: 2\nfsdp_config:\n  fsdp_version: 2\n"
    )

    assert {"adapter", "base_quantization", "engine", "load_dtype", "attention"} <= open_fields
    assert {"mixed_precision", "activation_checkpointing", "seq_len"} & open_fields == set()
    assert not read(by_file, tmp_path).origins["engine"].may_be


@pytest.mark.parametrize("flags", ["--bf16 true", "--packing true --bf16 true"])
def test_no_default_of_a_trainer_stands_for_a_batch_or_a_length(flags, tmp_path):
    plan = read(f"torchrun --nproc-per-node 2 train.py --model_name_or_path gpt2 {flags}", tmp_path)

    assert (plan.micro_batch_size, plan.seq_len) == (None, None)


WITH_A_PARSER = """
from transformers import HfArgumentParser, Trainer, TrainingArguments
(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
Trainer(args=args).train()
"""


@pytest.mark.parametrize(
    "flags",
    [
        "--bf16 --fp16",
        "--bf16 --fsdp whole_shard",
        "--bf16 --optim adam",
        "--bf16 --ddp-backend=legacy",
        "--bf16 --max_steps many",
        "--bf16 --per_device_train_batch_size 0",
    ],
)
def test_no_rule_of_a_trainer_stops_a_launch_whose_script_nobody_read(flags, tmp_path):
    """Its parser may be another one with flags of these names, such as fairseq's."""
    (tmp_path / "requirements.txt").write_text("transformers==5.24.0\n")
    line = "torchrun --nproc-per-node 2 {script} --output_dir out " + flags
    unread = [read(line.format(script=script), tmp_path) for script in ("train.py", "train")]
    (tmp_path / "train.py").write_text(WITH_A_PARSER)

    with pytest.raises(BadInput) as stopped:
        read(line.format(script="train.py"), tmp_path)
    refused = {each.where for each in stopped.value.problems if each.severity == "error"}
    for plan in unread:
        said = {each.where: each.severity for each in plan.notices}
        assert refused and {said.get(where) for where in refused} <= {"warning", None}


def test_what_nobody_read_may_hold_more_than_its_model(tmp_path):
    """Even the smallest model: a script may have a teacher beside it."""
    small = judged(f"torchrun --nproc-per-node 2 train.py {SMALL}", tmp_path)
    module = judged(f"torchrun --nproc-per-node 2 -m package.train {SMALL}", tmp_path)

    assert small.verdict.answer is module.verdict.answer is Answer.UNKNOWN
    assert small.verdict.unpriced == ("what a script that is not here holds",)


@pytest.mark.parametrize(
    ("words", "is_named"),
    [
        ("lm_eval --model hf --model_args pretrained=gpt2 --batch_size 8", True),
        ("lmms_eval --model llava --batch_size 1", True),
        ("lm_eval_like --model_name_or_path gpt2 --max_length 64", False),
    ],
)
def test_a_public_harness_is_said_to_train_nothing(words, is_named, tmp_path):
    report = judged(f"accelerate launch --num_processes 2 -m {words}", tmp_path)

    assert report.verdict.answer is Answer.UNKNOWN
    assert ("a script that does not train" in report.verdict.unpriced) is is_named


def test_it_fits_only_where_the_dearest_reading_does(tmp_path):
    words = (
        "torchrun --nproc-per-node 2 transformers/examples/pytorch/language-modeling/run_clm.py "
    )
    small, large = judged(words + SMALL, tmp_path), judged(words + BIG, tmp_path, "h100-sxm-80")

    assert small.verdict.answer is small.readings.most.verdict.answer is Answer.FITS
    assert large.readings.least.verdict.answer is Answer.FITS
    assert large.verdict.answer is Answer.UNKNOWN


def test_a_refusal_does_not_rest_on_how_it_loads_its_model(tmp_path):
    """70 billion parameters in 4 bits pass through no card of 14 GiB at once; eight of them hold 4.4 GiB each."""
    words = "torchrun --nproc-per-node 8 train.py " + BIG.replace("3.1-8B", "3.1-70B")
    report, too_small = (judged(words, tmp_path, card) for card in ("H100:14", "H100:3"))

    assert report.readings.least.least_bytes > report.device.capacity_bytes
    assert report.verdict.answer is Answer.UNKNOWN
    assert too_small.verdict.answer is Answer.DOES_NOT_FIT


def test_a_process_of_python_may_start_ranks_itself(tmp_path):
    alone = read(f"python train.py {BIG}", tmp_path)
    (tmp_path / "train.py").write_text(TRAINS)

    assert 8 in alone.origins["world_size"].may_be
    assert not read(f"python train.py {BIG}", tmp_path).origins["world_size"].may_be


@pytest.mark.parametrize(
    ("script", "objective"),
    [
        ("text-classification/run_glue.py", "sequence_classification"),
        ("language-modeling/run_mlm.py", "masked_lm"),
        ("token-classification/run_ner.py", "token_classification"),
    ],
)
def test_a_published_script_says_by_its_path_what_it_trains(script, objective, tmp_path):
    words = f"torchrun --nproc-per-node 2 examples/pytorch/{script} --output_dir out --max_seq_length 128 --per_device_train_batch_size 8 --model_name_or_path bert-base-cased"
    report = judged(words, tmp_path)
    plan = report.plan

    assert plan.objective == objective
    assert not {"adapter", "base_quantization"} & {n for n, o in plan.origins.items() if o.may_be}
    assert report.verdict.answer is Answer.FITS
