"""A config file that a document leaves to its reader makes a launch unknown; a name that is wrong stays a mistake."""

from __future__ import annotations

import pytest

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.verdict import Answer

LAUNCHES = {
    "accelerate": ("accelerate", "launch", "--config_file", "{}", "train.py"),
    "axolotl": ("axolotl", "train", "{}"),
    "trl": ("trl", "sft", "--config", "{}"),
    "deepspeed": ("torchrun", "train.py", "--output_dir", "out", "--deepspeed", "{}"),
}
CONFIG = """\
base_model: gpt2
datasets: [{path: rows.jsonl, type: alpaca}]
learning_rate: 1e-5
micro_batch_size: 3
sequence_len: 512
"""
TRAINER = """\
from transformers import HfArgumentParser, Trainer, TrainingArguments
args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
Trainer(args=args).train()
"""


def check(words, path, folder):
    (folder / "train.py").write_text(TRAINER)
    argv = tuple(word.replace("{}", path) for word in words)
    return check_launch(LaunchCommand(argv, {}, str(folder)), load_plugins(), Request())


@pytest.mark.parametrize(
    "path",
    [
        *("your-config.yaml", "my_config.yaml", "path/to/config.yaml", "/path-to/zero3.json"),
        *("recipes/<name>.yaml", "sft/config_{a,b}.yaml", "CONFIG", "$CONFIG", "...", "→"),
    ],
)
@pytest.mark.parametrize("words", LAUNCHES.values(), ids=LAUNCHES)
def test_a_file_that_is_to_be_named_leaves_the_launch_unknown(words, path, tmp_path):
    report = check(words, path, tmp_path)
    (said,) = [finding for finding in report.findings if finding.id == "PF125"]

    assert report.verdict.answer is Answer.UNKNOWN
    assert path in said.message
    assert report.may_launch


@pytest.mark.parametrize(
    "path", ["config.yaml", "configs/sft.yaml", "tour_config.json", "Mine.yml"]
)
@pytest.mark.parametrize("words", LAUNCHES.values(), ids=LAUNCHES)
def test_a_file_that_is_not_there_is_a_mistake(words, path, tmp_path):
    (tmp_path / "configs").mkdir()
    with pytest.raises(BadInput, match=path):
        check(words, path, tmp_path)


def test_a_file_of_llama_factorys_is_known_by_its_ending(tmp_path):
    words = ("llamafactory-cli", "train", "{}")

    assert check(words, "your_sft.yaml", tmp_path).verdict.answer is Answer.UNKNOWN


def test_a_file_of_such_a_name_is_read(tmp_path):
    (tmp_path / "your-config.yaml").write_text(CONFIG)

    assert check(LAUNCHES["axolotl"], "your-config.yaml", tmp_path).plan.micro_batch_size == 3


def test_another_mistake_is_told_all_the_same(tmp_path):
    words = ("accelerate", "launch", "--nonsense", "--config_file", "{}", "train.py")

    with pytest.raises(BadInput, match="nonsense"):
        check(words, "your-config.yaml", tmp_path)
