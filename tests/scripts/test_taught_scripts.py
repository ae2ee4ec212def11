"""The teacher of TRL's GKD: read from a script, judged at its most, and named where it cannot be bounded."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.api import check

SCRIPT = """\
from transformers import AutoModelForCausalLM
from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config
from trl.experimental.gkd import GKDConfig, GKDTrainer

parser = TrlParser((ScriptArguments, GKDConfig, ModelConfig))
script_args, training_args, model_args = parser.parse_args_and_config()
{before}
trainer = {trainer}(
    model=model_args.model_name_or_path,
    teacher_model={teacher},
    args=training_args,
    train_dataset=rows,
    processing_class=tokenizer,
    peft_config=get_peft_config(model_args),{more}
)
trainer.train()
"""
BY_NAME = "training_args.teacher_model_name_or_path"
FLAGS = "--model_name_or_path Qwen/Qwen2-0.5B --teacher_model_name_or_path {teacher} --per_device_train_batch_size 1 --dtype bfloat16"
LOADED = f"teacher = AutoModelForCausalLM.from_pretrained({BY_NAME}, dtype='auto')"


def files_of(teacher=BY_NAME, before="", more="", trainer="GKDTrainer"):
    text = SCRIPT.format(teacher=teacher, before=before, more=more, trainer=trainer)
    return {"train.py": text}


def command_of(flags="", teacher="Qwen/Qwen2-1.5B"):
    return f"python train.py {FLAGS.format(teacher=teacher)} --output_dir o {flags}".strip()


@pytest.mark.parametrize(
    "files",
    [
        files_of(),
        files_of("'Qwen/Qwen2-1.5B'"),
        files_of("teacher", LOADED),
        files_of(LOADED.partition(" = ")[2]),
    ],
)
def test_a_teacher_is_read_as_the_trainer_gets_it(tmp_path, files):
    plan = plan_of(tmp_path, command_of("--max_length 512 --max_new_tokens 100"), files)

    assert (plan.objective, plan.reference_model, plan.seq_len) == ("gkd", "Qwen/Qwen2-1.5B", 612)
    assert [each.unpriced for each in plan.notices if each.unpriced] == ["a teacher"]


@pytest.mark.parametrize(
    "files",
    [
        files_of("build(training_args)"),
        files_of(more="\n    data_collator=collate,"),
        files_of("teacher", f"{LOADED}\nteacher = grown(teacher)"),
    ],
)
def test_a_teacher_that_is_not_read_has_no_name(tmp_path, files):
    plan = plan_of(tmp_path, command_of(), files)

    assert plan.reference_model is None
    assert "a teacher" in {each.unpriced for each in plan.notices}


def answer_of(folder, command, files, device="h100-sxm-80"):
    for name, text in files.items():
        (folder / name).write_text(text)
    verdict = check(command.split(), device=device, cwd=folder, env={}).verdict
    return verdict.answer.value, {*verdict.unpriced}


ROOM = "--max_length 512 --use_peft --lora_target_modules q_proj v_proj"


def test_a_launch_with_room_for_the_most_that_a_teacher_takes_fits(tmp_path):
    assert answer_of(tmp_path, command_of(ROOM), files_of()) == ("fits", set())


@pytest.mark.parametrize(
    ("flags", "teacher", "files"),
    [
        (ROOM, "Qwen/Qwen2-1.5B", files_of("build(training_args)")),
        (ROOM, "nobody/knows-this", files_of()),
        (ROOM, "Qwen/Qwen2-72B", files_of()),  # at its most no card has room
        ("--max_length 30000", "Qwen/Qwen2-1.5B", files_of()),
        (f"{ROOM} --use_liger_kernel true", "Qwen/Qwen2-1.5B", files_of()),
        (ROOM, "Qwen/Qwen2-1.5B", files_of(before="class Own(GKDTrainer):\n    def generate(self, *given): ...\n", trainer="Own")),
        (ROOM, "Qwen/Qwen2-1.5B", files_of(before="judge = AutoModelForCausalLM.from_pretrained('big')")),
    ],
)  # fmt: skip
def test_a_teacher_alone_neither_refuses_nor_hides_what_else_is_there(
    tmp_path, flags, teacher, files
):
    answer, unpriced = answer_of(tmp_path, command_of(flags, teacher), files)

    assert answer == "unknown"
    assert unpriced


EVALUATES = """\
if training_args.eval_strategy != "no" and "prompt" in rows.column_names:
    callback = LogCompletionsCallback(trainer, config)
"""


@pytest.mark.parametrize(
    ("flags", "before", "named"),
    [
        ("", EVALUATES, False),
        ("--eval_strategy no", EVALUATES, False),
        ("--eval_strategy steps", EVALUATES, True),
        ("--evaluation_strategy epoch", EVALUATES, True),
        ("--config more.yaml", EVALUATES, True),
        ("", f"training_args.eval_strategy = 'steps'\n{EVALUATES}", True),
        ("", EVALUATES.replace("eval_strategy", "do_eval"), True),
    ],
)
def test_what_only_an_evaluation_has_counts_where_there_is_one(tmp_path, flags, before, named):
    """Nobody's default was ever another than `no`: transformers' from 4.41 on, and TRL's after it."""
    files = {**files_of(before=before), "more.yaml": "eval_strategy: steps\n"}
    plan = plan_of(tmp_path, command_of(flags), files)

    assert ("generation in an evaluation" in {each.unpriced for each in plan.notices}) == named
