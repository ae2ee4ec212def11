"""A trainer is what stands on one, whatever it is called; lists hold what the branches that a launch takes put into them."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch_of_script import opens, plan_of

import preflight
from preflight.launch import LaunchPlan

SEES = """\
from dataclasses import dataclass, field

import transformers
from loaders import LOADERS
from peft import LoraConfig, get_peft_model
from transformers import HfArgumentParser, TrainingArguments
from weighing import Weighing


@dataclass
class Parts:
    model_name_or_path: str = ""
    model_max_length: int = 1024
    train_tower: bool = False
    train_projector: bool = False
    lora_r: int = 8


def main():
    parts, args = HfArgumentParser((Parts, TrainingArguments)).parse_args_into_dataclasses()
    model, tokenizer = LOADERS[parts.model_name_or_path.lower()](parts).load()
    tokenizer.model_max_length = parts.model_max_length
    whole = []
    if parts.train_tower:
        whole.extend(parts_of(model))
    if parts.train_projector:
        whole.append(parts_of(model)[0])
    config = LoraConfig(r=parts.lora_r, target_modules=["q_proj", "v_proj"], modules_to_save=whole)
    model = get_peft_model(model, config)
    trainer = Weighing(model=model, args=args, train_dataset=rows)
    trainer.train()


main()
"""
WEIGHING = """\
from transformers import Trainer


class Ordered(Trainer):
    pass


class Weighing(Ordered):
    pass
"""
LOADERS = """\
from transformers import AutoModelForImageTextToText

LOADERS = {}


class Loader:
    def load(self):
        return AutoModelForImageTextToText.from_pretrained(self.parts.model_name_or_path, **self.more), None
"""
FILES = {"train.py": SEES, "weighing.py": WEIGHING, "loaders.py": LOADERS}
COMMAND = (
    "torchrun --nproc_per_node 1 train.py --model_name_or_path Qwen/Qwen2.5-VL-7B-Instruct"
    " --output_dir o --bf16 True --per_device_train_batch_size 1 --gradient_checkpointing True"
)
SAVED = "modules of other names that train beside the adapter"


def read(folder: Path, flags: str = "") -> LaunchPlan:
    return plan_of(folder, f"{COMMAND} {flags}", FILES)


def test_a_model_for_a_trainer_of_another_name_is_made_elsewhere(tmp_path: Path) -> None:
    assert {"load_dtype", "base_quantization"} <= opens(read(tmp_path))


@pytest.mark.parametrize(
    ("flags", "is_open"),
    [
        ("", False),
        ("--train_tower False --train_projector False", False),
        ("--train_tower True", True),
        ("--train_projector True", True),
    ],
)
def test_a_list_is_what_branches_that_run_put_into_it(
    flags: str, is_open: bool, tmp_path: Path
) -> None:
    assert ("adapter" in opens(read(tmp_path, flags))) == is_open


def test_a_tower_that_may_train_beside_an_adapter_is_named(tmp_path: Path) -> None:
    frozen, trained = (
        preflight.check(
            [*COMMAND.split(), "--train_tower", word], device="h100-sxm-80", cwd=str(tmp_path)
        )
        for word, _ in (("False", read(tmp_path)), ("True", None))
    )

    assert SAVED not in frozen.verdict.unpriced
    assert SAVED in trained.verdict.unpriced


def test_targets_that_are_set_later_are_open(tmp_path: Path) -> None:
    later = "\n    config.target_modules = names_of(model)\n    model = get_peft_model"
    script = SEES.replace("\n    model = get_peft_model", later)
    plan = plan_of(tmp_path, COMMAND, {**FILES, "train.py": script})

    assert plan.adapter is not None and plan.adapter.targets is None
    assert "adapter" in opens(plan)
    report = preflight.check(COMMAND.split(), device="h100-sxm-80", cwd=str(tmp_path))
    assert not [finding for finding in report.findings if finding.severity == "error"]


ARGUMENTS = """\
from transformers import HfArgumentParser, {base}Config as Base

class OwnParser(HfArgumentParser):
    pass

class PairArguments(Base):
    pass
"""
PAIRS = """\
from {library} import {base}Trainer

class PairTrainer({base}Trainer):
    def made_pairs(self, rows):
        return rows
"""
LAUNCHED = """\
from accelerate import Accelerator
from pairs import OwnParser, PairArguments, PairTrainer

def main():
    (args,) = OwnParser((PairArguments,)).parse()
    accelerator = Accelerator()
    trainer = PairTrainer("gpt2", args)
    trainer.train()
    if accelerator.is_main_process:
        trainer.create_model_card()

main()
"""


@pytest.mark.parametrize(("library", "base"), [("transformers", ""), ("trl", "DPO")])
def test_a_script_that_names_no_trainer_has_the_one_that_its_repositorys_stands_on(
    tmp_path, library, base
):
    arguments = ARGUMENTS.format(base=base)
    if library == "transformers":
        arguments = arguments.replace("Config as Base", "TrainingArguments as Base")
    else:
        arguments = arguments.replace(", DPO", "\nfrom trl import DPO")
    files = {
        "train.py": LAUNCHED,
        "pairs/__init__.py": "from .arguments import *\nfrom .trainer import PairTrainer\n",
        "pairs/arguments.py": arguments,
        "pairs/trainer.py": PAIRS.format(library=library, base=base),
    }
    command = "torchrun --nproc-per-node 2 train.py --optim rmsprop --per_device_train_batch_size 2"
    plan = plan_of(tmp_path, command, files)

    assert plan.trainer == library
    assert (plan.optimizer, plan.micro_batch_size) == ("rmsprop", 2)
