"""What a callback sets and puts back is there while it runs, and no step of the training sees it."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

import preflight
from preflight.launch_facts import EVALUATED
from preflight.unpriced_names import GATHERED_LOGITS, LONGER_EVALUATION

SCRIPT = """\
import torch
from dataclasses import dataclass, field
from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, Trainer, TrainerCallback, TrainingArguments,
)

@dataclass
class Settings(TrainingArguments):
    asked: int = field(default=128)
    told: int = field(default=256)
    exam: int = field(default=1536)
    examine: bool = field(default=False)

@dataclass
class Joins:
    tokenizer: object
    asked: int
    told: int
    def __call__(self, rows):
        before = self.tokenizer([row["q"] for row in rows], truncation=True, max_length=self.asked)
        behind = self.tokenizer([row["a"] for row in rows], truncation=True, max_length=self.told)
        ids = [torch.tensor(a + b) for a, b in zip(before["input_ids"], behind["input_ids"])]
        return {"input_ids": torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)}

def main():
    (args,) = HfArgumentParser(Settings).parse_args_into_dataclasses()
    tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-1.5B")
    model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-1.5B", torch_dtype="bfloat16")
    rows = load_dataset("somebody/rows")
    collate = Joins(tokenizer, asked=args.asked, told=args.told)
    trainer = Trainer(model, args, collate, rows["train"], rows["test"])
    if args.examine:
        class Exam(TrainerCallback):
            def on_evaluate(self, args, state, control, **kwargs):
BODY
        trainer.add_callback(Exam)
    trainer.train()
    if args.do_predict:
        trainer.predict(rows["test"])
main()
"""
KEPT = "held = trainer.data_collator.asked"
SET = "trainer.data_collator.asked = args.exam"
RUN = "examine(trainer)"
BACK = "trainer.data_collator.asked = held"
WORDS = "python train.py --output_dir out --per_device_train_batch_size 1 --eval_strategy steps"


def plan_with(folder, body, more=""):
    text = SCRIPT.replace("BODY", "\n".join(f"                {line}" for line in body))
    return plan_of(folder, f"{WORDS} {more}", {"train.py": text})


def named(plan):
    return {notice.unpriced for notice in plan.notices}


@pytest.mark.parametrize(
    "body",
    [
        (KEPT, SET, RUN, BACK),
        (KEPT, SET, "for _ in range(2):", "    " + RUN, BACK, "return control"),
        (KEPT, "try:", "    " + SET, "    " + RUN, "finally:", "    " + BACK),
    ],
)
def test_what_is_put_back_is_longer_in_an_evaluation_alone(body, tmp_path):
    plan = plan_with(tmp_path, body, "--examine")

    assert plan.seq_len == 128 + 256 and "seq_len" not in opens(plan)
    assert plan.trainer_facts.value(EVALUATED) == 1536 + 256
    assert LONGER_EVALUATION in named(plan)


@pytest.mark.parametrize(
    "body",
    [
        (KEPT, SET, RUN),
        (SET, RUN, BACK.replace("held", "args.asked")),
        (KEPT, SET, "if args.told:", "    " + BACK),
        (KEPT, SET, "if args.told:", "    return", BACK),
        (KEPT, SET, BACK, SET),
        (SET, KEPT, RUN, BACK),
        (KEPT, SET, "trainer.train()", BACK),
        (KEPT, "held = 64", SET, RUN, BACK),
    ],
)
def test_what_is_not_surely_put_back_leaves_the_length_open(body, tmp_path):
    assert plan_with(tmp_path, body, "--examine").seq_len is None


def test_a_callback_that_is_not_there_says_nothing(tmp_path):
    plan = plan_with(tmp_path, (KEPT, SET, RUN, BACK))

    assert plan.seq_len == 384 and LONGER_EVALUATION not in named(plan)


def test_rows_that_are_cut_earlier_take_no_more(tmp_path):
    plan = plan_with(tmp_path, (KEPT, SET, RUN, BACK), "--examine --exam 32")

    assert plan.seq_len == 384 and LONGER_EVALUATION not in named(plan)


def test_a_length_that_only_running_tells_is_no_bound(tmp_path):
    plan = plan_with(
        tmp_path, (KEPT, SET.replace("args.exam", "measured()"), RUN, BACK), "--examine"
    )

    assert plan.seq_len == 384 and LONGER_EVALUATION in named(plan)
    assert plan.trainer_facts.value(EVALUATED) is None


def test_nothing_is_predicted_where_nobody_asks_for_it(tmp_path):
    def gathers(more):
        return GATHERED_LOGITS in named(plan_with(tmp_path, ("pass",), more))

    assert not gathers("")
    assert gathers("--do_predict")


@pytest.mark.parametrize(("gib", "answer"), [(60, "fits"), (24, "unknown")])
def test_a_launch_fits_where_the_longest_evaluation_does(gib, answer, tmp_path):
    plan_with(tmp_path, (KEPT, SET, RUN, BACK), "--examine")  # the files
    words = f"{WORDS} --examine --per_device_eval_batch_size 1 --bf16 --exam 4096".split()
    report = preflight.check(words, device=f"card:{gib}", cwd=str(tmp_path))

    assert report.verdict is not None and report.verdict.answer.value == answer
    shorter = preflight.check([*words, "--exam", "16"], device=f"card:{gib}", cwd=str(tmp_path))
    assert shorter.verdict is not None and shorter.verdict.answer.value == "fits"
