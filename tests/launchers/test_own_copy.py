"""What a repository's own copy of a framework knows is no mistake, and not known: a stage, an argument that it adds."""

from __future__ import annotations

import pytest

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request

ARGUMENTS = """\
from dataclasses import dataclass, field
from typing import Literal, Optional

@dataclass
class FinetuningArguments:
    stage: Literal["pt", "sft", "ddm"] = field(default="sft")
    shift: Optional[bool] = field(default=False)
    moved: Optional[bool] = field(default=False)
"""
CONFIG = """\
model_name_or_path: Qwen/Qwen2-0.5B
do_train: true
dataset: rows
template: default
output_dir: out
cutoff_len: 512
per_device_train_batch_size: 1
bf16: true
"""
SWIFT = ("swift", "sft", "--model", "Qwen/Qwen2-0.5B", "--dataset", "rows", "--max_length", "512")


def check(folder, more="", words=("llamafactory-cli", "train", "train.yaml"), **asked):
    (folder / "train.yaml").write_text(CONFIG + more)
    command = LaunchCommand(words, {}, str(folder))
    return check_launch(command, load_plugins(), Request("h100-sxm-80", {"world_size": 1}, **asked))


def with_copy(folder, package="src/llamafactory", text=ARGUMENTS):
    place = folder / package / "hparams"
    place.mkdir(parents=True)
    (place.parent / "__init__.py").write_text("")
    (place / "finetuning_args.py").write_text(text)


@pytest.mark.parametrize("package", ["src/llamafactory", "llamafactory", "src/llmtuner"])
@pytest.mark.parametrize(
    ("more", "named"), [("stage: ddm\n", "ddm"), ("stage: sft\nshift: true\n", "shift")]
)
def test_what_a_copy_adds_is_not_known(more, named, package, tmp_path):
    with_copy(tmp_path, package)
    report = check(tmp_path, more)

    assert report.verdict.answer.value == "unknown"
    assert report.verdict.unpriced == (f"{named} of the repository's own LLaMA-Factory",)
    assert any(f"the copy in {package} has it" in each.message for each in report.findings)


def test_the_copy_may_be_the_one_around_the_config(tmp_path):
    """A launch from the top of a repository that holds the framework in a folder of its own."""
    inner = tmp_path / "trainer"
    with_copy(inner)
    (inner / "ours.yaml").write_text(f"{CONFIG}stage: ddm\n")
    report = check(tmp_path, words=("llamafactory-cli", "train", "trainer/ours.yaml"))

    assert report.verdict.unpriced == ("ddm of the repository's own LLaMA-Factory",)


FLAGS = tuple(
    word
    for line in CONFIG.splitlines()
    for name, _, value in [line.partition(": ")]
    for word in (f"--{name}", value)
)


@pytest.mark.parametrize("words", [("--moved", "true"), ("--moved",)])
def test_what_a_copy_adds_is_no_mistake_as_a_flag_either(words, tmp_path):
    launch = ("llamafactory-cli", "train", *FLAGS, "--stage", "sft", *words)
    with pytest.raises(BadInput, match="has no argument 'moved'"):
        check(tmp_path, words=launch)
    with_copy(tmp_path)
    report = check(tmp_path, words=launch)

    assert report.verdict.unpriced == ("moved of the repository's own LLaMA-Factory",)


def test_the_modules_of_a_model_that_a_copy_may_change_make_no_error(tmp_path):
    adapter = "stage: sft\nfinetuning_type: lora\nlora_target: q_proj.module\n"
    found = {each.id: each.severity for each in check(tmp_path, adapter).findings}
    assert found["PF421"] == "error"
    with_copy(tmp_path)
    found = {each.id: each.severity for each in check(tmp_path, f"{adapter}shift: true\n").findings}

    assert found["PF421"] == "warning"


def test_a_copy_above_the_folder_of_the_launch_counts_up_to_the_top_of_the_repository(tmp_path):
    inner = tmp_path / "recipes" / "long"
    inner.mkdir(parents=True)
    with_copy(tmp_path)
    assert check(inner, "stage: ddm\n").verdict.answer.value == "unknown"

    (tmp_path / "recipes" / ".git").mkdir()
    with pytest.raises(BadInput, match="stage must be one of"):
        check(inner, "stage: ddm\n")


@pytest.mark.parametrize("more", ["stage: ddx\n", "shiftt: true\n", "stage: sft\nlora_rnk: 8\n"])
def test_what_the_copy_does_not_know_either_is_a_mistake(more, tmp_path):
    with_copy(tmp_path)

    with pytest.raises(BadInput, match=r"has no argument|must be one of"):
        check(tmp_path, more)


@pytest.mark.parametrize("more", ["stage: ddm\n", "shift: true\n"])
def test_without_a_copy_it_is_one(more, tmp_path):
    with pytest.raises(BadInput, match=r"has no argument|must be one of"):
        check(tmp_path, more)


def test_swift_has_copies_too(tmp_path):
    words = (*SWIFT, "--max_lenght", "512")
    with pytest.raises(BadInput, match="has no argument"):
        check(tmp_path, words=words)

    with_copy(tmp_path, "swift", "max_lenght: int = 4096  # as its author spells it\n")
    report = check(tmp_path, words=words)
    assert "max_lenght of the repository's own ms-swift" in report.verdict.unpriced
