"""litgpt cuts rows at train.max_seq_length; without it the model's block_size is the length, or the most that may come."""

from __future__ import annotations

import shlex

import pytest

from preflight.launch import LaunchCommand
from preflight.launchers.litgpt import LAUNCHER
from preflight.open_values import open_values


def read(line, folder):
    command = LaunchCommand(tuple(shlex.split(line)), {"HOME": "/nonexistent"}, str(folder))
    plan = LAUNCHER.read(command)
    assert plan is not None
    return plan


def test_rows_of_a_fine_tuning_are_open_up_to_the_block_size(tmp_path):
    plan = read("litgpt finetune_lora EleutherAI/pythia-160m", tmp_path)

    assert plan.seq_len is None
    assert open_values(plan)["seq_len"] == (1, 2048)


def test_a_stream_is_cut_into_the_block_size(tmp_path):
    plan = read("litgpt pretrain pythia-160m --tokenizer_dir t", tmp_path)

    assert plan.seq_len == 2048 and plan.origins["seq_len"].assumed
    assert plan.sequence_kind == "fixed"


def test_a_converted_checkpoint_says_its_own(tmp_path):
    folder = tmp_path / "checkpoints/EleutherAI/pythia-160m"
    folder.mkdir(parents=True)
    text = "block_size: 512\nhf_config: {org: EleutherAI, name: pythia-160m}\n"
    (folder / "model_config.yaml").write_text(text)
    plan = read("litgpt finetune_lora EleutherAI/pythia-160m", tmp_path)

    assert open_values(plan)["seq_len"] == (1, 512)


@pytest.mark.parametrize(
    "rest", ["--train.max_seq_length 64", "--train.max_seq_length '$LENGTH'", ""]
)
def test_a_length_that_is_said_and_a_model_that_is_not_known_leave_nothing_open(rest, tmp_path):
    model = "EleutherAI/pythia-160m" if rest else "me/mine"

    assert "seq_len" not in open_values(read(f"litgpt finetune_lora {model} {rest}", tmp_path))
