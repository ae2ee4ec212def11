"""What `--allow` names comes before what is safe and dear, and after what is safe and cheap."""

from __future__ import annotations

import json
import shlex

import pytest
from said_versions import say_versions

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.remedy import DEAR_FACTOR
from preflight.request import Request
from preflight.verdict import Answer

SCRIPT = """\
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

config, model = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config()
SFTTrainer(model=model.model_name_or_path, args=config).train()
"""
LAUNCH = (
    "deepspeed --num_gpus 2 train.py --model_name_or_path meta-llama/Llama-3.1-8B --bf16 true --deepspeed ds.json"
    " --per_device_train_batch_size 1 --gradient_checkpointing true"
)
ZERO = {
    "zero_optimization": {"stage": 2},
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "bf16": {"enabled": "auto"},
}


@pytest.fixture
def applied(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "ds.json").write_text(json.dumps(ZERO))
    say_versions(tmp_path)

    def check(length: int, *allow: str, device: str):
        words = (*shlex.split(LAUNCH), "--max_length", str(length))
        request = Request(device=device, policy=Policy(allow=frozenset(allow)))
        return check_launch(
            LaunchCommand(words, {}, str(tmp_path)), load_plugins(), request
        ).applied

    return check


def test_what_is_asked_for_is_written_in_place_of_what_is_dear(applied):
    safe = applied(1024, device="a6000-48")
    asked = applied(1024, "optimizer_states_16bit", device="a6000-48")

    assert safe[-1].verdict.answer is Answer.FITS and safe[-1].step_time_factor > DEAR_FACTOR
    assert "optimizer_states_16bit" in {tried.remedy.id for tried in asked}
    assert asked[-1].verdict.answer is Answer.FITS
    assert asked[-1].step_time_factor <= DEAR_FACTOR


def test_what_is_safe_and_cheap_stays_first(applied):
    asked = applied(10240, "seq_len", device="h100-sxm-80")

    assert asked and all(tried.remedy.is_safe for tried in asked)
