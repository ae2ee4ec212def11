"""What a branch of a script decides holds where the command line takes it, also through the functions that it calls."""

from __future__ import annotations

import dataclasses

import pytest
from launch_of_script import opens, plan_of

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.scripts.python.dataclass_fields import NEVER_MOVED

SCRIPT = """\
import argparse, os
from helpers import saves_memory as cheaper
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--cheap", action="store_true")
parser.add_argument("--scores", type=int, default=0)
args = parser.parse_args()


def scorer_of(model):
    return AutoModelForSequenceClassification.from_pretrained(model)


def main():
    model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype="bfloat16")
    if {condition}:
        cheaper(model)
    if args.scores > 0:
        reward_model = scorer_of(model)
    stored = GPTQConfig(bits=4) if args.cheap and args.scores else None
    told = TrainingArguments(output_dir="o", per_device_train_batch_size=2, bf16=True)
    tokenizer(rows, max_length=512, truncation=True)
    Trainer(model=model, args=told).train()


main()
"""
HELPERS = """\
def saves_memory(model):
    model.gradient_checkpointing_enable()
"""


@pytest.fixture
def checked(tmp_path):
    plugins = load_plugins()

    def check(condition: str, *flags: str):
        (tmp_path / "helpers.py").write_text(HELPERS)
        (tmp_path / "train.py").write_text(SCRIPT.replace("{condition}", condition))
        words = ("torchrun", "--nproc_per_node", "1", "train.py", *flags)
        return check_launch(
            LaunchCommand(words, {}, str(tmp_path)), plugins, Request("h100-sxm-80")
        )

    return check


CONDITIONS = {
    "taken": ("args.cheap", ("--cheap",), "full", False),
    "not taken": ("args.cheap", (), "none", False),
    "known only when it runs": ("os.path.exists('small')", (), None, True),
}


@pytest.mark.parametrize("condition, flags, mode, is_open", CONDITIONS.values(), ids=CONDITIONS)
def test_a_function_runs_where_a_branch_that_is_taken_calls_it(
    checked, condition, flags, mode, is_open
):
    plan = checked(condition, *flags).plan

    if mode is not None:
        assert plan.activation_checkpointing == mode
    assert ("activation_checkpointing" in plan.script_facts.unread) is is_open


def test_what_a_branch_that_is_not_taken_speaks_of_is_no_sign(checked):
    assert checked("args.cheap").verdict.unpriced == ()

    taken = checked("args.cheap", "--scores", "1").verdict.unpriced
    assert set(taken) == {
        "a head that is no language model's",
        "generation and the models that score it",
    }
    both = checked("args.cheap", "--cheap", "--scores", "1").verdict.unpriced
    assert set(both) - set(taken) == {"weights that GPTQ or AWQ packs"}


LOOP = """\
import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype="float32")
loader = DataLoader(train_rows, batch_size=2)
tokenizer(rows, max_length=512, truncation=True)
for batch in loader:
{step}
"""
STEPS = {
    "in bf16": "    with torch.autocast('cuda', torch.bfloat16):\n        model(**batch).loss.backward()",
    "as it is": "    model(**batch).loss.backward()",
}


@pytest.mark.parametrize("step", STEPS)
def test_the_precision_of_a_loop_that_may_cast_is_open(tmp_path, step):
    (tmp_path / "train.py").write_text(LOOP.replace("{step}", STEPS[step]))
    command = LaunchCommand(("torchrun", "--nproc_per_node", "1", "train.py"), {}, str(tmp_path))
    origin = check_launch(command, load_plugins(), Request("h100-sxm-80")).plan.origins[
        "mixed_precision"
    ]

    assert origin.may_be == (("no", "bf16") if step == "in bf16" else ())


BY_PRECISION = """\
import torch
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", torch_dtype=dtype)
Trainer(model, args).train()
"""


@pytest.mark.parametrize(
    ("flags", "dtype"), [("", "fp32"), ("--bf16", "bf16"), ("--fp16", "fp16"), ("--bf16 False", "fp32")]
)  # fmt: skip
def test_a_branch_on_an_argument_that_nobody_gave_is_that_of_its_default(tmp_path, flags, dtype):
    command = f"torchrun --nproc_per_node 1 train.py --output_dir o {flags}"
    plan = plan_of(tmp_path, command, {"train.py": BY_PRECISION})

    assert (plan.load_dtype, opens(plan) & {"load_dtype"}) == (dtype, set())


def test_defaults_that_never_moved_are_those_of_the_classes():
    import transformers
    import trl

    for name, defaults in NEVER_MOVED.items():
        cls = getattr(trl, name, None) or getattr(transformers, name)
        of_class = {field.name: field.default for field in dataclasses.fields(cls)}

        assert {field: of_class[field] for field in defaults} == defaults, name


SET_LATER = """\
import os
import torch
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

def main():
    training_args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
    model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
    {later}
    Trainer(model=model, args=training_args).train()

main()
"""


@pytest.mark.parametrize(
    ("later", "field", "value", "is_open"),
    [
        ("if os.path.exists('x'):\n        training_args.gradient_checkpointing = False",
         "activation_checkpointing", None, True),
        ("if os.path.exists('x'):\n        training_args.gradient_checkpointing = True",
         "activation_checkpointing", "full", False),
        ("if os.path.exists('x'):\n        training_args.optim = 'adamw_8bit'", "optimizer", None, True),
        ("training_args.gradient_checkpointing = not os.environ.get('X') and True\n"
         "    if training_args.gradient_checkpointing:\n"
         "        training_args.gradient_checkpointing_kwargs = {'use_reentrant': False}",
         "checkpointing_reentrant", False, False),
    ],
)  # fmt: skip
def test_an_argument_that_a_branch_may_change_is_open(later, field, value, is_open, tmp_path):
    words = (
        "--output_dir out --bf16 true --per_device_train_batch_size 2 --gradient_checkpointing true"
    )
    files = {"train.py": SET_LATER.format(later=later)}
    plan = plan_of(tmp_path, f"torchrun --nproc_per_node 2 train.py {words}", files)

    assert (field in opens(plan)) is is_open
    if not is_open:
        assert getattr(plan, field) == value


FOUND_ROWS = """\
import torch
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

class OwnTrainer(Trainer):
    def create_scheduler(self, num_training_steps, optimizer=None):
        if {test}:
            before = self.args.per_device_train_batch_size
            self.args.per_device_train_batch_size = self._train_batch_size // 2
            self.propagate_args_to_deepspeed(True)
            self.args.per_device_train_batch_size = before
        return super().create_scheduler(num_training_steps, optimizer)

training_args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("gpt2", torch_dtype=torch.bfloat16)
OwnTrainer(model=model, args=training_args, train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    ("test", "flags", "is_known"),
    [
        ("self.args.auto_find_batch_size", "", True),
        ("self.args.auto_find_batch_size", "--auto_find_batch_size false", True),
        ("self.args.auto_find_batch_size", "--auto_find_batch_size", False),
        ("not self.args.auto_find_batch_size", "", False),
        ("self.args.n_gpu > 1", "", False),
    ],
)
def test_rows_of_a_trainer_that_looks_for_them_are_set_where_it_does(
    test, flags, is_known, tmp_path
):
    words = f"--output_dir out --bf16 true --per_device_train_batch_size 2 {flags}"
    files = {"train.py": FOUND_ROWS.format(test=test)}
    plan = plan_of(tmp_path, f"torchrun --nproc_per_node 2 train.py {words}", files)

    assert (plan.micro_batch_size == 2) is is_known


SET_DEFAULTS = """\
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
parser = HfArgumentParser(TrainingArguments)
parser.set_defaults({defaults})
(args,) = parser.parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("gpt2", torch_dtype="bfloat16" if args.bf16 else "float32")
Trainer(model, args, train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    ("defaults", "flags", "dtype", "is_open"),
    [
        ("bf16=True, gradient_checkpointing=True", "", "bf16", True),
        ("bf16=True", "--bf16 false", "fp32", False),
        ("learning_rate=1e-4", "", "fp32", False),
    ],
)
def test_defaults_that_a_script_gives_its_parser_decide_where_no_flag_does(
    defaults, flags, dtype, is_open, tmp_path
):
    script = SET_DEFAULTS.format(defaults=defaults)
    plan = plan_of(tmp_path, f"torchrun train.py --output_dir o {flags}", {"train.py": script})

    assert plan.load_dtype == dtype
    opened = {
        name for name in ("mixed_precision", "activation_checkpointing") if name in opens(plan)
    }
    assert bool(opened) is is_open


OWN_ARGUMENTS = """\
from dataclasses import dataclass, field
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments


@dataclass
class Own:
    wide: bool = field(default=False)
    lora: bool = field(default=False)
    rank: int = field(default=8)


def settle(own):
    {elsewhere}


def main():
    own, told = HfArgumentParser((Own, TrainingArguments)).parse_args_into_dataclasses()
    model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype="bfloat16")
    {early}
    if own.wide:
        own.lora = True
        own.rank = 4 * own.rank
    {late}
    if own.lora:
        model = get_peft_model(model, LoraConfig(r=own.rank, target_modules="all-linear"))
    Trainer(model=model, args=told).train()


main()
"""


def own_plan(folder, *flags: str, elsewhere: str = "pass", early: str = "pass", late: str = "pass"):
    text = OWN_ARGUMENTS.replace("{elsewhere}", elsewhere)
    text = text.replace("{early}", early).replace("{late}", late)
    return plan_of(folder, " ".join(("python", "train.py", *flags)), {"train.py": text})


def adapter_of(plan):
    is_open = "adapter" in plan.script_facts.unread or "adapter" in plan.script_facts.half_said
    return "open" if is_open else getattr(plan.adapter, "rank", None)


@pytest.mark.parametrize(
    ("flags", "rank"),
    [
        ((), None),
        (("--lora", "True"), 8),
        (("--wide", "True"), 32),
        (("--wide", "True", "--rank", "16"), 64),
    ],
)
def test_an_argument_holds_what_the_branches_that_are_taken_set_it_to(tmp_path, flags, rank):
    assert adapter_of(own_plan(tmp_path, *flags)) == rank


@pytest.mark.parametrize(
    "other",
    [
        {"elsewhere": "own.rank = 2"},
        {"late": "own.rank = 2"},
        {"early": "for each in (1, 2): own.rank += each"},
        {"late": "own = settle(own)"},
    ],
    ids=["in another function", "twice", "in a loop", "on another object"],
)
def test_an_argument_that_more_than_one_line_sets_is_open(tmp_path, other):
    assert adapter_of(own_plan(tmp_path, "--wide", "True", **other)) == "open"


def test_an_argument_is_open_above_the_line_that_sets_it(tmp_path):
    early = "if own.lora: model.gradient_checkpointing_enable()"
    plan = own_plan(tmp_path, "--wide", "True", early=early)

    assert "activation_checkpointing" in plan.script_facts.unread
