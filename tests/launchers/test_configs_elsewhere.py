"""A config file in a folder that is not here is no mistake of the launch: it is not read, and the answer is `unknown`."""

from __future__ import annotations

import pytest

import preflight
from preflight.errors import BadInput

LAUNCHES = {
    "deepspeed": "deepspeed --num_gpus 2 t.py --deepspeed {}",
    "accelerate": "accelerate launch --config_file {} t.py",
    "axolotl": "axolotl train {}",
    "trl": "trl sft --config {}",
}
SCRIPT = """\
from transformers import HfArgumentParser, Trainer, TrainingArguments
args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
Trainer(model=model, args=args).train()
"""


def check(folder, launcher, path):
    (folder / "t.py").write_text(SCRIPT)
    words = LAUNCHES[launcher].format(path).split()
    return preflight.check(words, device="h100", cwd=str(folder))


@pytest.mark.parametrize("launcher", LAUNCHES)
@pytest.mark.parametrize(
    "path",
    [
        *("/no-such-root/zero3.yaml", "/home/nobody-here/a/zero3.yaml"),
        *("/mnt/no-such-disk/a/zero3.yaml", "/opt/no-such-program/zero3.yaml"),
        *("examples/fsdp/zero3.yaml", "./framework/zero3.yaml", "../no-such-sibling/zero3.yaml"),
    ],
)
def test_a_file_in_a_folder_that_is_not_here_leaves_all_open(tmp_path, launcher, path):
    report = check(tmp_path, launcher, path)
    (notice,) = report.plan.notices

    assert report.verdict is not None
    assert report.verdict.answer.value == "unknown"
    assert report.verdict.unpriced == ("a config file that is not here",)
    assert "is not on this machine" in notice.message and path in notice.message


@pytest.mark.parametrize("launcher", LAUNCHES)
@pytest.mark.parametrize(
    "path", ["{}/zero3.yaml", "zero3.yaml", "configs/zero3.yaml", "configs/old/zero3.yaml"]
)
def test_a_file_that_is_missing_in_a_folder_of_this_machine_is_a_mistake(tmp_path, launcher, path):
    (tmp_path / "configs").mkdir()
    with pytest.raises(BadInput, match=r"does not exist|no file"):
        check(tmp_path, launcher, path.replace("{}", str(tmp_path)))


@pytest.mark.parametrize("launcher", LAUNCHES)
def test_a_folder_whose_name_is_misspelt_is_a_mistake(tmp_path, launcher):
    (tmp_path / "configs").mkdir()
    with pytest.raises(BadInput, match=r"does not exist|no file"):
        check(tmp_path, launcher, "confgs/zero3.yaml")


@pytest.mark.parametrize(
    "words", ["axolotl train {}", "litgpt finetune_lora pythia-160m --config {}"]
)
def test_a_config_that_a_framework_fetches_leaves_all_open(tmp_path, words):
    launch = words.format("https://configs.example/lora.yaml").split()
    verdict = preflight.check(launch, device="h100", cwd=str(tmp_path)).verdict

    assert verdict is not None
    assert verdict.answer.value == "unknown"
