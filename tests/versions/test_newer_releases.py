"""What no release that was read knows stops a launch only where its own release is one of them."""

from __future__ import annotations

import json

import pytest

from preflight.errors import BadInput
from preflight.launch import LaunchCommand, Origin
from preflight.pipeline import check_launch
from preflight.plan_parts import LibraryVersion
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.verdict import Answer
from preflight.versions.installed import KNOWN_VERSIONS

TRAIN = """
from transformers import HfArgumentParser, Trainer, TrainingArguments
(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
Trainer(args=args).train()
"""
FILES = {
    "train.py": TRAIN,
    "key.yaml": "distributed_type: FSDP\nnum_processes: 2\nunheard_of: 1\n",
    "kind.yaml": "distributed_type: UNHEARD_OF\nnum_processes: 2\n",
    "zero.json": json.dumps({"zero_optimization": {"stage": 3, "unheard_of": 1}}),
}
REFUSED = [
    ("accelerate", "accelerate launch --unheard_of 1 train.py"),
    ("accelerate", "accelerate launch --mixed_precision nvfp4 train.py"),
    ("accelerate", "accelerate launch --config_file key.yaml train.py"),
    ("accelerate", "accelerate launch --config_file kind.yaml train.py"),
    ("torch", "torchrun --nproc-per-node 2 --unheard-of train.py"),
    ("deepspeed", "deepspeed --unheard_of 1 train.py"),
    ("deepspeed", "torchrun --nproc-per-node 2 train.py --deepspeed zero.json"),
    ("trl", "trl sft --model_name_or_path gpt2 --unheard_of 1"),
    ("litgpt", "litgpt finetune_lora EleutherAI/pythia-160m --unheard_of 1"),
    ("litgpt", "env A=1 litgpt finetune_lora EleutherAI/pythia-160m --unheard_of 1"),
]


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def checked(line, folder, **versions):
    said = {name: LibraryVersion(version, Origin("--set")) for name, version in versions.items()}
    command = LaunchCommand(tuple(line.split()), {}, str(folder), versions=said)
    return check_launch(command, load_plugins(), Request())


@pytest.mark.parametrize(("library", "line"), REFUSED)
def test_a_release_that_was_read_refuses_what_it_does_not_know(library, line, folder):
    for versions in ({library: KNOWN_VERSIONS[library]}, {}):
        with pytest.raises(BadInput):
            checked(line, folder, **versions)


@pytest.mark.parametrize(("library", "line"), REFUSED)
def test_a_newer_release_may_know_it(library, line, folder):
    report = checked(line, folder, **{library: "999.1"})

    assert report.verdict.answer is Answer.UNKNOWN
    assert "a launch that was not read" in report.verdict.unpriced
    assert [each.severity for each in report.findings if each.id == "PF125"] == ["warning"]
    said = f"{library} 999.1 is newer than {KNOWN_VERSIONS[library]}"
    assert any(said in each.message for each in report.findings)


@pytest.mark.parametrize(("version", "is_left_out"), [("1.16.0", False), ("999.1", True)])
def test_a_key_that_is_passed_over_today_may_say_something_in_a_newer_release(
    version, is_left_out, folder
):
    config = "distributed_type: FSDP\nnum_processes: 2\nfsdp_config:\n  fsdp_unheard_of: true\n"
    (folder / "section.yaml").write_text(config)
    line = "accelerate launch --config_file section.yaml train.py --output_dir out"
    unpriced = checked(line, folder, accelerate=version).verdict.unpriced

    assert any("section.yaml" in name for name in unpriced) == is_left_out


def test_what_is_no_matter_of_a_release_is_bad_input_in_each(folder):
    with pytest.raises(BadInput):
        checked(
            "accelerate launch --config_file ./absent.yaml train.py", folder, accelerate="999.1"
        )
