"""Scripts that have several trainers: the one that a command line leads to has its rules, and the others have none."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

SCRIPT = """\
from dataclasses import dataclass, field

from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer


@dataclass
class Task:
    task: str = field(default="plain")
    model: str = field(default="gpt2")


def make(task, args):
    model = AutoModelForCausalLM.from_pretrained(task.model)
    if task.task == "pairs":
        return DPOTrainer(model, None, args=args, train_dataset=rows)
    elif task.task == "rows":
        return SFTTrainer(model, args=args, train_dataset=rows)
    return Trainer(model=model, args=args, train_dataset=rows)


if __name__ == "__main__":
    task, args = HfArgumentParser((Task, TrainingArguments)).parse_args_into_dataclasses()
    make(task, args).train()
"""


@pytest.mark.parametrize(
    ("flags", "trainer", "objective"),
    [
        ("", "transformers", None),
        ("--task plain", "transformers", None),
        ("--task rows", "trl", "sft"),
        ("--task pairs", "trl", "dpo"),
    ],
)
def test_the_trainer_that_the_command_line_leads_to(tmp_path, flags, trainer, objective):
    plan = plan_of(tmp_path, f"torchrun train.py --output_dir out {flags}", {"train.py": SCRIPT})
    assert (plan.trainer, plan.objective) == (trainer, objective)
    assert not [problem for problem in plan.notices if "several trainers" in problem.unpriced]


def test_where_only_running_tells_it_is_one_of_several(tmp_path):
    script = SCRIPT.replace('task.task == "pairs"', "ready(task)").replace(
        'task.task == "rows"', "done(task)"
    )
    plan = plan_of(tmp_path, "torchrun train.py --output_dir out", {"train.py": script})
    assert any(problem.unpriced for problem in plan.notices)


OF_ANOTHER_PACKAGE = """\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
{imports}

model = AutoModelForCausalLM.from_pretrained("gpt2")
args = TrainingArguments("out", per_device_train_batch_size=2)
{made}(model, args=args, train_dataset=rows).train()
"""


def unpriced(folder, script, **files):
    named = {f"{name}.py": text for name, text in files.items()}
    plan = plan_of(folder, "torchrun train.py", {"train.py": script, **named})
    return {problem.unpriced for problem in plan.notices if problem.unpriced}


@pytest.mark.parametrize(
    ("imports", "made"),
    [
        ("from own import WeighedTrainer", "WeighedTrainer"),
        ("import own", "own.WeighedTrainer"),
        ("from own.deep import WeighedTrainer as Chosen", "Chosen"),
        ("from own import WeighedTrainer\nclass Ours(WeighedTrainer):\n    pass", "Ours"),
        ("from own import WeighedTrainer\nkind = WeighedTrainer if wide else Trainer", "kind"),
    ],
    ids=["imported", "in a module", "renamed", "derived from", "one of two"],
)
def test_what_a_trainer_of_a_package_that_is_not_here_computes_is_not_priced(
    tmp_path, imports, made
):
    script = OF_ANOTHER_PACKAGE.format(imports=imports, made=made)

    assert "what the trainer WeighedTrainer computes" in unpriced(tmp_path, script)


def test_a_trainer_that_is_here_or_of_a_known_library_is_read(tmp_path):
    here = "from transformers import Trainer\nclass WeighedTrainer(Trainer):\n    pass\n"
    imported = OF_ANOTHER_PACKAGE.format(
        imports="from own import WeighedTrainer", made="WeighedTrainer"
    )
    usual = OF_ANOTHER_PACKAGE.format(imports="import transformers", made="transformers.Trainer")

    assert unpriced(tmp_path, imported, own=here) == unpriced(tmp_path, usual) == set()


OF_ITS_OWN = """\
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, ModelConfig, TrlParser

from own import FirstTrainer, SecondTrainer

args, model_args = TrlParser((DPOConfig, ModelConfig)).parse_args_and_config()
model = AutoModelForCausalLM.from_pretrained(model_args.model_name_or_path)
kind = {chosen}
trainer = {made}(model, args=args, train_dataset=rows)
trainer.train()
"""


@pytest.mark.parametrize(
    ("chosen", "made", "name"),
    [
        ("SecondTrainer", "SecondTrainer", "what SecondTrainer.concatenated_inputs does"),
        ("SecondTrainer", "kind", "what SecondTrainer.concatenated_inputs does"),
        (
            "FirstTrainer\nif args.bf16:\n    kind = SecondTrainer",
            "kind",
            "a trainer that the script chooses",
        ),
        (
            "FirstTrainer if args.bf16 else SecondTrainer",
            "kind",
            "a trainer that the script chooses",
        ),
    ],
)
def test_a_trainer_that_stands_on_trls_in_another_file_is_named(tmp_path, chosen, made, name):
    own = "from trl import DPOTrainer\n"
    body = "    def concatenated_inputs(self, *given):\n        return given\n"
    own += "".join(f"class {each}Trainer(DPOTrainer):\n{body}" for each in ("First", "Second"))
    files = {"train.py": OF_ITS_OWN.format(chosen=chosen, made=made), "own.py": own}
    command = "accelerate launch train.py --model_name_or_path gpt2 --output_dir out"
    plan = plan_of(tmp_path, command, files)

    assert name in {problem.unpriced for problem in plan.notices}


OF_ONE = "from trl import {imported}\n" + OF_ITS_OWN.replace(
    "from own import FirstTrainer, SecondTrainer\n", ""
)


@pytest.mark.parametrize(
    ("chosen", "own", "names"),
    [
        ("DPOTrainer", "", set()),
        ("KTOTrainer if args.bf16 else DPOTrainer", "", {"a trainer that the script chooses"}),
        ("DPOTrainer\nkind = wrapped(kind)", "", {"a trainer that the script chooses"}),
        ("OwnTrainer", "class OwnTrainer(DPOTrainer):\n    pass\n", set()),
        (
            "OwnTrainer",
            "class OwnTrainer(DPOTrainer):\n    def concatenated_inputs(self, *given):\n        return given\n",
            {"what OwnTrainer.concatenated_inputs does"},
        ),
        ("OwnTrainer", "class OwnTrainer(Trainer):\n    pass\n", {"the trainer OwnTrainer"}),
    ],
)
def test_a_trainer_under_another_name_is_read_as_by_its_own(tmp_path, chosen, own, names):
    script = OF_ONE.format(imported="DPOTrainer, KTOTrainer", chosen=chosen, made="kind")
    script = script.replace(
        "args, model_args =", f"from transformers import Trainer\n{own}args, model_args ="
    )
    command = "accelerate launch train.py --model_name_or_path gpt2 --output_dir out"
    plan = plan_of(tmp_path, command, {"train.py": script})

    assert {each.unpriced for each in plan.notices if "trainer" in each.message.lower()} == names
    assert (
        (plan.objective == "dpo")
        or "chooses" in "".join(names)
        or "the trainer OwnTrainer" in names
    )


def test_what_pairs_are_told_is_read_beside_other_trainers_that_are_imported(tmp_path):
    script = (
        "from transformers import AutoModelForCausalLM\n"
        "from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer\n"
        "model = AutoModelForCausalLM.from_pretrained('Qwen/Qwen2.5-0.5B')\n"
        "told = DPOConfig('o', {told}, max_length=512)\n"
        "DPOTrainer(model=model, args=told, train_dataset=rows).train()\n"
    )
    plans = {
        told: plan_of(tmp_path, "python t.py", {"t.py": script.format(told=told)})
        for told in ("beta=0.1", "precompute_ref_log_probs=True")
    }
    assert plans["precompute_ref_log_probs=True"].reference_model == "none"
    assert plans["beta=0.1"].reference_model is None  # its trainer makes one
    assert not opens(plans["precompute_ref_log_probs=True"]) & {"objective", "reference_model"}
