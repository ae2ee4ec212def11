"""Files of flags are read as HfArgumentParser reads them: in front of the command line, the last one wins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from launch_of_script import plan_of

SCRIPT = """\
import sys
from dataclasses import dataclass
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
@dataclass
class Rows:
    model_name_or_path: str = "gpt2"
    window: int = 256
parser = HfArgumentParser((Rows, TrainingArguments))
rows, args = parser.parse_args_into_dataclasses({how})
model = AutoModelForCausalLM.from_pretrained(rows.model_name_or_path)
data = [tokenizer(text, truncation=True, max_length=rows.window) for text in texts]
Trainer(model=model, args=args, train_dataset=data).train()
"""
BASE = "--output_dir o\n--per_device_train_batch_size 3\n--optim adafactor"
FLAG = 'args_file_flag="--flags"'


@pytest.mark.parametrize(
    ("how", "files", "words"),
    [
        ("", {}, ""),
        ("", {"train.args": BASE}, ""),
        ("", {"train.args": BASE}, "--per_device_train_batch_size 5"),
        ("look_for_args_file=True", {"train.args": BASE + "\n--window 64 "}, ""),
        (FLAG, {"more": BASE}, "--flags more"),
        (FLAG, {"more": BASE}, "--flags=more --per_device_train_batch_size 6"),
        (FLAG, {"more": BASE, "rest": "--per_device_train_batch_size 4 --window 128"}, "--flags more --flags rest"),
        (FLAG, {"more": BASE, "train.args": "--per_device_train_batch_size 9 --window 512"}, "--flags more"),
        (FLAG, {}, "--flags more"),
        ('args_filename="own.txt"', {"own.txt": BASE, "train.args": "--window 512"}, ""),
    ],
)  # fmt: skip
def test_a_launch_says_what_the_parser_makes_of_its_files(how, files, words, tmp_path, monkeypatch):
    text = SCRIPT.format(how=how)
    command = f"python train.py --max_steps 2 {words}"
    plan = plan_of(tmp_path, command, {**files, "train.py": text})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", command.split()[1:])
    names: dict[str, object] = {}
    exec(text.partition("model = ")[0], names)
    rows, args = names["rows"], names["args"]
    assert plan.micro_batch_size == args.per_device_train_batch_size
    assert plan.optimizer == args.optim.value
    assert plan.seq_len == rows.window
    assert not any(notice.severity == "error" for notice in plan.notices)


def test_their_places_are_lines_of_the_files(tmp_path):
    files = {"train.py": SCRIPT.format(how=FLAG), "more": BASE}
    plan = plan_of(tmp_path, "python train.py --flags more", files)

    assert plan.origins["micro_batch_size"].where == "more:2"


def test_a_file_that_is_not_there_is_pointed_out(tmp_path):
    files = {"train.py": SCRIPT.format(how=FLAG)}
    plan = plan_of(tmp_path, "python train.py --flags none", files)

    assert any(notice.message.startswith("there is no none") for notice in plan.notices)


def test_a_switch_turns_training_on(tmp_path):
    text = SCRIPT.format(how=FLAG).replace("Trainer(model", "if args.do_train: Trainer(model")
    plan = plan_of(tmp_path, "python train.py --flags more", {"train.py": text, "more": BASE})
    off = {notice.unpriced for notice in plan.notices}
    plan = plan_of(
        tmp_path,
        "python train.py --flags more",
        {"train.py": text, "more": BASE + "\n--do_train True"},
    )

    assert off - {notice.unpriced for notice in plan.notices} == {"a launch that does not train"}
