"""Files of arguments that a script hands its parser itself: read where the path is known, open where it is not."""

from __future__ import annotations

import json
import runpy
import sys

import pytest
from launch_of_script import opens, plan_of

from preflight.formats.edits import CannotEdit
from preflight.writers.draft import open_draft
from preflight.writers.finish import finish

SCRIPT = """\
import argparse

from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train_args_file", default="default.json")
    args = parser.parse_args()
    parser = HfArgumentParser(TrainingArguments)
    {parse}
    return args, training_args


def main():
    args, training_args = arguments()
    model = AutoModelForCausalLM.from_pretrained("gpt2")
    Trainer(model=model, args=training_args, train_dataset=rows).train()


if __name__ == "__main__":
    main()
"""
JSON = SCRIPT.format(parse="(training_args,) = parser.parse_json_file(args.train_args_file)")
ABSOLUTE = SCRIPT.format(
    parse="(training_args,) = parser.parse_json_file(json_file=os.path.abspath(args.train_args_file))"
).replace("import argparse", "import argparse\nimport os")
DICT = SCRIPT.format(
    parse="(training_args,) = parser.parse_dict(json.load(open(args.train_args_file)))"
).replace("import argparse", "import argparse\nimport json")
WORD = """\
import sys

from transformers import HfArgumentParser, TrainingArguments

parser = HfArgumentParser(TrainingArguments)
if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
    (training_args,) = parser.parse_json_file(json_file=sys.argv[1])
else:
    (training_args,) = parser.parse_args_into_dataclasses()
"""


def said(batch: int) -> str:
    return json.dumps(
        {"output_dir": "out", "per_device_train_batch_size": batch, "use_cpu": True, "optim": "sgd"}
    )


FILES = {"default.json": said(3), "other.json": said(5)}


@pytest.mark.parametrize("script", [JSON, ABSOLUTE, DICT])
@pytest.mark.parametrize(
    ("flags", "path", "batch"),
    [("", "default.json", 3), (" --train_args_file other.json", "other.json", 5)],
)
def test_the_file_is_read_that_the_parser_is_given(tmp_path, script, flags, path, batch):
    plan = plan_of(tmp_path, f"torchrun train.py{flags}", {"train.py": script, **FILES})
    assert (plan.micro_batch_size, plan.optimizer) == (batch, "sgd")
    assert plan.origins["micro_batch_size"].where == f"{path}:1"
    assert plan.documents["trainer"].endswith(path)


@pytest.mark.libraries
def test_transformers_reads_the_same(tmp_path, monkeypatch):
    for name, text in {"train.py": JSON, **FILES}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "--train_args_file", "other.json"])
    _, theirs = runpy.run_path("train.py")["arguments"]()
    plan = plan_of(tmp_path, "torchrun train.py --train_args_file other.json", {})
    assert plan.micro_batch_size == theirs.per_device_train_batch_size
    assert plan.optimizer == theirs.optim


@pytest.mark.parametrize(
    "script",
    [
        JSON,
        SCRIPT.format(parse="(training_args,) = parser.parse_json_file(find(args))"),
        SCRIPT.format(parse="(training_args,) = parser.parse_dict(settings_of(args))"),
        SCRIPT.format(
            parse="if ready():\n        (training_args,) = parser.parse_json_file(args.train_args_file)\n"
            "    else:\n        (training_args,) = parser.parse_args_into_dataclasses()"
        ),
    ],
)
def test_no_default_of_a_trainer_is_sure_where_the_file_is_not_known(tmp_path, script):
    files = {"train.py": script} if script is JSON else {"train.py": script, **FILES}
    plan = plan_of(tmp_path, "torchrun train.py", files)
    assert plan.micro_batch_size is None
    assert {"activation_checkpointing", "mixed_precision", "optimizer"} <= opens(plan)


def test_a_word_of_the_command_line_is_read_as_one(tmp_path):
    files = {"train.py": WORD, **FILES}
    assert plan_of(tmp_path, "torchrun train.py other.json", files).micro_batch_size == 5
    plan = plan_of(tmp_path, "torchrun train.py --output_dir out", files)
    assert plan.micro_batch_size == 8, (
        "the flags were parsed, and the default of transformers holds"
    )


def test_a_copy_of_the_file_takes_its_place(tmp_path):
    files = {"train.py": JSON, **FILES}
    plan = plan_of(tmp_path, "torchrun train.py --train_args_file=other.json", files)
    draft = open_draft(plan)
    assert draft is not None and draft.reads_only_a_file
    draft.edit("other.json", "per_device_train_batch_size", 1)
    rewrite = finish(draft)
    (copy,) = rewrite.files
    assert json.loads(copy.after)["per_device_train_batch_size"] == 1
    assert (
        rewrite.argv[-1].startswith("--train_args_file=")
        and rewrite.argv[-1] != plan.command.argv[-1]
    )
    assert copy.new_path.endswith(rewrite.argv[-1].partition("=")[2])


def test_a_file_that_no_word_names_is_not_rewritten(tmp_path):
    plan = plan_of(tmp_path, "torchrun train.py", {"train.py": JSON, **FILES})
    draft = open_draft(plan)
    assert draft is not None
    draft.edit("default.json", "per_device_train_batch_size", 1)
    with pytest.raises(CannotEdit, match="nothing in the launch names"):
        finish(draft)


ADAPTED = """\
import sys

from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B")
model = get_peft_model(model, LoraConfig({parts}))
Trainer(model=model, args=args, train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    ("parts", "may_be"),
    [
        ("r=16, target_modules=names_in(model)", {"targets": {None, "all-linear"}}),
        ("r=rank_of(sys), target_modules=['q_proj']", {"rank": {8, 256}}),
        ("r=4, modules_to_save=kept(model)", {"modules_to_save": {None, True}}),
        (
            "r=rank_of(sys), target_modules=names_in(model)",
            {"rank": {8, 256}, "targets": {None, "all-linear"}},
        ),
        ("r=16, target_modules=['q_proj']", {}),
    ],
)
def test_a_part_of_an_adapter_that_only_running_tells_is_open(tmp_path, parts, may_be):
    script = ADAPTED.format(parts=parts)
    plan = plan_of(tmp_path, "torchrun train.py --output_dir o", {"train.py": script})
    ways = [plan.adapter, *plan.origins["adapter"].may_be]
    assert len(ways) == 2 ** len(may_be)
    for part, values in may_be.items():
        found = {getattr(way, part) for way in ways}
        assert (
            {bool(v) if v else None for v in found} == values
            if part == "modules_to_save"
            else found == values
        )
    said = [problem for problem in plan.notices if problem.id == "PF121"]
    assert [f"adapter.{part}" in said[0].message for part in may_be] == [True] * len(may_be)


def test_a_file_of_arguments_that_is_not_here_may_say_anything(tmp_path):
    """The trainer's defaults are none of it: a launcher that turns bf16 on is not refused for bf16: false."""
    script = (
        "import os, sys\nfrom transformers import HfArgumentParser, Trainer, TrainingArguments\n"
        "class Mine(TrainingArguments):\n    pass\n"
        "args = HfArgumentParser(Mine).parse_yaml_file(os.path.abspath(sys.argv[1]))[0]\n"
        "Trainer(model=load(), args=args).train()\n"
    )
    config = (
        "distributed_type: DEEPSPEED\nmixed_precision: bf16\n"
        "num_processes: 2\ndeepspeed_config: {zero_stage: 3}\n"
    )
    words = "accelerate launch --config_file acc.yaml train.py missing.yaml"
    plan = plan_of(tmp_path, words, {"train.py": script, "acc.yaml": config})

    assert plan.micro_batch_size is None
    told = [each for each in plan.notices if "'missing.yaml' does not exist" in each.message]
    assert [each.severity for each in told] == ["warning"]


OWN = WORD.replace("HfArgumentParser(TrainingArguments)", "HfArgumentParser((Mine,))").replace(
    "parser =",
    "@dataclass\nclass Mine:\n    rows: int = 1\n    save: bool = False\n\n\nparser =",
    1,
).replace("import sys\n", "import sys\nfrom dataclasses import dataclass\n", 1) + (
    "args = TrainingArguments('out', per_device_train_batch_size=training_args.rows, "
    "gradient_checkpointing=training_args.save)\n"
)


def test_a_file_of_a_script_s_own_arguments_may_reach_the_trainer_under_its_names(tmp_path):
    command = "torchrun --nproc_per_node 2 t.py mine.json"
    files = {"t.py": OWN, "mine.json": json.dumps({"rows": 3, "save": True})}
    plan = plan_of(tmp_path, command, files)

    assert (plan.micro_batch_size, plan.activation_checkpointing) == (3, "full")


@pytest.mark.parametrize(
    "imported", ["from transformers import HfArgumentParser\n", "from transformers import (\n    HfArgumentParser,\n)\n", ""]
)  # fmt: skip
def test_a_parser_that_is_only_imported_takes_no_prefixes(tmp_path, imported):
    text = (
        f"import tyro\nfrom dataclasses import dataclass\n{imported}"
        "from transformers import Trainer, TrainingArguments\n\n\n@dataclass\nclass Mine:\n    per: int = 1\n\n\n"
        "args = tyro.cli(Mine)\n"
        "Trainer(model, TrainingArguments('out', per_device_train_batch_size=args.per)).train()\n"
    )
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 2 t.py --per 6", {"t.py": text})

    assert plan.micro_batch_size == 6


OR_DICT = """\
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

def own(parser, args=None):
    if args is not None:
        return parser.parse_dict(args)
    return parser.parse_args_into_dataclasses()

def get_args(args=None):
    return own(HfArgumentParser(TrainingArguments), args)

def train(args=None):
    training_args, = get_args(args)
    model = AutoModelForCausalLM.from_pretrained("gpt2")
    Trainer(model=model, args=training_args, train_dataset=rows).train()

train({given})
"""


@pytest.mark.parametrize(("given", "batch"), [("", 8), ("None", 8), ("find()", None), ("{'output_dir': 'out'}", None)])  # fmt: skip
def test_a_dict_that_no_call_hands_over_is_none(given, batch, tmp_path):
    """All that such a script trains with was open, since one of its two ways of parsing is given a dict."""
    text = OR_DICT.format(given=given)
    plan = plan_of(tmp_path, "python train.py --output_dir out", {"train.py": text})

    assert plan.micro_batch_size == batch
    assert ("optimizer" in opens(plan)) is (batch is None)
