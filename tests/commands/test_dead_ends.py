"""What a stranger types wrong in the first hour: every answer names the way on."""

from __future__ import annotations

import pytest
from in_process import preflight

from preflight.cli import main

LAUNCH = ("--", "python", "train.py")
WRONG = {
    "JSON as other tools ask for it": (
        ("check", "--json", *LAUNCH),
        "did you mean --format json; `preflight check --help`",
    ),
    "the option of another command": (
        ("check", "--nodes", "2", *LAUNCH),
        "`preflight check --help` shows the options",
    ),
    "and the other way round": (
        ("size", "--device", "h100", "Qwen/Qwen2.5-7B"),
        "did you mean --gpu; `preflight size --help`",
    ),
    "a misspelt word of an option": (
        ("check", "--format", "jsn", *LAUNCH),
        "--format must be one of text, json, sarif",
    ),
    "options before the command": (
        ("--device", "t4-16", "check", *LAUNCH),
        "a command's options stand after its name: preflight check --device t4-16 -- python train.py",
    ),
    "a card": (("check", "--device", "rtx409", *LAUNCH), "did you mean rtx4090-24"),
    "a word for a list of cards": (
        ("check", "--device", "list", *LAUNCH),
        "`preflight gpus` lists all",
    ),
    "a card of a worksheet": (
        ("size", "Qwen/Qwen2.5-7B", "--gpu", "h10"),
        "did you mean h100-sxm-80",
    ),
    "a model": (("size", "nobody/Nothing-7B"), "`preflight models` lists what it knows"),
    "an engine": (("check", "--set", "engine=fsdp3", *LAUNCH), "did you mean fsdp2"),
    "a policy file": (
        ("check", "--policy", "polcy.yaml", *LAUNCH),
        "there is no file polcy.yaml\n  at   polcy.yaml\n  fix  did you mean policy.yaml",
    ),
    "a plan file in a folder": (
        ("estimate", "plans/pln.yaml"),
        "fix  did you mean plans/plan.yaml",
    ),
    "a folder that is not there": (
        ("estimate", "plns/plan.yaml"),
        "/plns: relative paths start at this folder",
    ),
    "a folder that is nowhere": (
        ("estimate", "/no/such/folder/plan.yaml"),
        "there is no folder /no/such/folder\n",
    ),
    "a config of accelerate": (
        ("check", "--", "accelerate", "launch", "--config_file", "plans/pln.yaml", "train.py"),
        "fix  did you mean plans/plan.yaml",
    ),
    "a config of DeepSpeed": (
        ("check", *LAUNCH, "--deepspeed", "zero.jsn"),
        "fix  did you mean zero.json",
    ),
    "a script": (("check", "--", "python", "trian.py"), "fix  did you mean train.py"),
    "a file of no format": (("estimate", "latin.yaml"), "preflight: latin.yaml is not UTF-8 text"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a script that trains, and what the misspelt names stand for."""
    folder = tmp_path_factory.mktemp("dead_ends")
    (folder / "train.py").write_text(
        "from transformers import Trainer, HfArgumentParser, TrainingArguments\n"
        "args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()\n"
        "Trainer(args=args).train()\n"
    )
    (folder / "plans").mkdir()
    for name in ("plans/plan.yaml", "policy.yaml", "zero.json"):
        (folder / name).write_text("{}")
    (folder / "latin.yaml").write_bytes(b"a: \xe4\n")
    return folder


@pytest.mark.parametrize("what", WRONG)
def test_what_is_mistyped_is_told_with_the_way_on(folder, what):
    words, way_on = WRONG[what]
    done = preflight(folder, *words)

    assert way_on in done.stdout + done.stderr


def test_a_place_that_is_the_subject_is_not_said_twice(folder):
    done = preflight(folder, "estimate", "latin.yaml")

    assert done.stderr == "preflight: latin.yaml is not UTF-8 text\n"


@pytest.mark.parametrize(
    ("words", "same"),
    [(["help"], ["--help"]), (["help", "check"], ["check", "--help"]), (["-V"], ["--version"])],
)
def test_the_usual_words_for_help_and_version_are_taken(folder, words, same):
    assert preflight(folder, *words).stdout == preflight(folder, *same).stdout != ""


def test_help_of_what_is_no_command_names_the_nearest(folder):
    done = preflight(folder, "help", "chekc")

    assert done.returncode == 2
    assert "did you mean check" in done.stderr


NOT_THERE = {
    "bash trian.sh": ("there is no file trian.sh", "did you mean train.sh"),
    "sbatch trian.sh": ("there is no file trian.sh", "did you mean train.sh"),
    "./trian.sh": ("there is no file ./trian.sh", "did you mean ./train.sh"),
    "python trian.py": ("the script trian.py does not exist", "did you mean train.py"),
}


@pytest.mark.parametrize("command", NOT_THERE)
def test_a_file_that_is_not_there_is_the_first_word_and_a_near_name_the_last(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.sh").write_text("python train.py\n")
    (tmp_path / "train.py").write_text("print()\n")

    assert main(["check", "--", *command.split()]) == 0
    lines = capsys.readouterr().out.rstrip().split("\n")
    missing, meant = NOT_THERE[command]
    assert lines[0] == f"preflight: unknown: {missing}."
    assert lines[-1].endswith(meant)


def test_a_model_that_is_a_letter_off_is_asked_about(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["size", "meta-llama/Llama-3.1-8"]) == 2
    assert "did you mean meta-llama/Llama-3.1-8B?" in capsys.readouterr().err
    assert main(["size", "nobody/Mystery-9B"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_a_scan_that_meets_a_job_script_names_what_reads_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "train.py").write_text("print()\n")
    launch = "torchrun --nnodes $SLURM_NNODES --nproc_per_node 8 train.py"
    (tmp_path / "job.slurm").write_text(f"#!/bin/bash\n#SBATCH --nodes=2\n{launch}\n")

    main(["scan", "--device", "h100-sxm-80"])
    said = capsys.readouterr().out.rstrip().split("\n")[-1]
    assert said == "next: `preflight check -- sbatch job.slurm` reads what only a job's shell knows"


ASKS = """\
import torch
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

dtype = torch.bfloat16 if compute() else torch.float32
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", torch_dtype=dtype)
args = SFTConfig("out", per_device_train_batch_size=1, dataset_kwargs={"skip_prepare_dataset": True})
SFTTrainer(model=model, args=args, train_dataset=rows(), data_collator=batch).train()
"""


def test_what_the_caller_answered_is_asked_no_more(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(ASKS)
    said: list[str] = []
    for answer in ("load_dtype=bf16", "seq_len=512"):
        main(["check", *said, "--", "torchrun", "--nproc_per_node", "1", "train.py"])
        name, _, _ = answer.partition("=")
        assert f"--set {name}=" in capsys.readouterr().out
        said += ["--set", answer]

    main(["check", *said, "--", "torchrun", "--nproc_per_node", "1", "train.py"])
    assert "--set" not in capsys.readouterr().out
