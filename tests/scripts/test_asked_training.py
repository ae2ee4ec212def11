"""A launch of a script that trains where `--do_train` asks for it, and that does not ask: nobody refuses an evaluation."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch

NAME = "a launch that does not train"
SCRIPT = """
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("gpt2")
model.train()
trainer = Trainer(model=model, args=args, train_dataset=rows)
{train}
if args.do_eval:
    trainer.evaluate()
"""
ASKED = "if args.do_train:\n    trainer.train()"


@pytest.mark.parametrize(
    ("train", "flags", "is_named"),
    [
        (ASKED, "--do_eval", True),
        (ASKED, "", True),
        (ASKED, "--do_train False --do_predict", True),
        (ASKED, "--do_train", False),
        ("trainer.train()", "--do_eval", False),
        (f"args.do_train = True\n{ASKED}", "--do_eval", False),
        (f"{ASKED}\nelse:\n    trainer.train()", "", False),
        ("pass", "--do_eval", False),
    ],
)
def test_who_does_not_ask_for_training_gets_no_verdict_of_it(tmp_path, train, flags, is_named):
    (tmp_path / "t.py").write_text(SCRIPT.format(train=train))
    argv = ("python", "t.py", "--output_dir", "out", *flags.split())
    plan = read_launch(LaunchCommand(argv, {}, str(tmp_path)), load_plugins())

    assert plan is not None
    assert (NAME in {notice.unpriced for notice in plan.notices}) is is_named
