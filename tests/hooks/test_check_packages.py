"""A package that the launch's own Python lacks is named; a Python that is not known says nothing."""

from __future__ import annotations

import os

import pytest

from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins
from preflight.request import Request, with_request
from preflight.rewriting import read_launch

TRAIN = "from transformers import HfArgumentParser, Trainer, TrainingArguments\nHfArgumentParser(TrainingArguments)\n"


@pytest.fixture(scope="module")
def plugins():
    return load_plugins(builtins=["read_python", "read_torchrun", "check_packages"])


@pytest.fixture
def missing(tmp_path, plugins):
    """Return a function: what a launch lacks that calls a Python with some distributions."""
    environment = tmp_path / "env"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("include-system-site-packages = false\n")
    python = environment / "bin" / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    torchrun = environment / "bin" / "torchrun"
    torchrun.write_text(f"#!{python}\n")
    torchrun.chmod(0o755)
    site = environment / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (tmp_path / "train.py").write_text(TRAIN)

    def run(words: str, *distributions: str) -> list[str]:
        for name in distributions:
            (site / f"{name}-1.0.dist-info").mkdir(exist_ok=True)
        env = {"PATH": str(environment / "bin")}
        plan = read_launch(LaunchCommand(tuple(words.split()), env, str(tmp_path)), plugins)
        plan = with_request(plan, Request(on_this_node=True))
        items = plugins.collect("preflight_findings", plan=plan, model=None, device=None)
        return sorted(finding.fix for _, finding in items)

    return run


NEEDS = {
    "--optim paged_adamw_8bit": "bitsandbytes",
    "--optim lion_32bit": "bitsandbytes",
    "--optim galore_adamw": "galore-torch",
    "--optim apollo_adamw": "apollo-torch",
    "--optim adalomo": "lomo-optim",
    "--optim schedule_free_sgd": "schedulefree",
    "--optim stable_adamw": "torch-optimi",
    "--optim adamw_torch_4bit": "torchao",
    "--use_liger_kernel true": "liger-kernel",
    "--attn_implementation flash_attention_2": "flash-attn",
}


@pytest.mark.parametrize("flags", NEEDS)
def test_what_the_python_of_the_launch_lacks_is_named(missing, flags):
    package = NEEDS[flags]
    words = f"torchrun train.py --output_dir out {flags}"

    assert missing(words, "transformers") == [f"pip install {package}"]
    assert missing(words, package.replace("-", "_")) == []


def test_what_every_launch_has_is_not_looked_for(missing):
    assert missing("torchrun train.py --output_dir out --optim adamw_torch", "transformers") == []


def test_a_python_without_the_trainer_is_not_the_one_that_trains(missing):
    """A login node, or preflight in an environment of its own."""
    assert missing("torchrun train.py --output_dir out --optim lomo") == []


def test_a_launch_on_another_machine_is_not_judged_by_this_one(missing):
    words = "train.py --output_dir out --optim lomo"

    assert missing(f"srun torchrun {words}", "transformers") == []
    assert missing(f"env A=1 torchrun {words}") == ["pip install lomo-optim"]


def test_the_hub_kernel_stands_in_for_the_package(missing):
    """transformers 5 takes it where `kernels` is installed."""
    words = "torchrun train.py --output_dir out --attn_implementation flash_attention_2"

    assert missing(words, "transformers", "kernels") == []


def test_an_unknown_program_says_nothing(missing):
    words = f"{os.sep}nowhere{os.sep}torchrun train.py --output_dir out --optim lomo"

    assert missing(words, "transformers") == []
