"""What a script sets on its arguments under a name in quotes, and on a Trainer that is made."""

from __future__ import annotations

import ast

import pytest
from launch_of_script import opens

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.scripts.settings.set_attributes import OF_METHODS
from preflight.unpriced_names import REPLICAS
from preflight.verdict import Answer

_ARGUMENTS = sorted({name for each in OF_METHODS.values() for name, _ in each.values()})

SCRIPT = """\
import dataclasses
from functools import partial
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


def own(*args, **kwargs):
    return build(*args)


model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype="bfloat16")
tokenizer(rows, max_length=512, truncation=True)
told = TrainingArguments(output_dir="o", per_device_train_batch_size=2, bf16=True, optim="sgd")
{before}
trainer = Trainer(model=model, args=told, train_dataset=rows)
{after}
trainer.train()
"""


@pytest.fixture
def checked(tmp_path):
    plugins = load_plugins()

    def check(before: str = "", after: str = ""):
        text = SCRIPT.replace("{before}", before).replace("{after}", after)
        (tmp_path / "train.py").write_text(text)
        command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
        return check_launch(command, plugins, Request("h100-sxm-80"))

    return check


@pytest.mark.parametrize(
    "statement",
    [
        "told.per_device_train_batch_size = 7",
        'setattr(told, "per_device_train_batch_size", 7)',
        'object.__setattr__(told, "per_device_train_batch_size", 7)',
        'vars(told)["per_device_train_batch_size"] = 7',
        'told.__dict__["per_device_train_batch_size"] = 7',
    ],
)
def test_a_name_in_quotes_is_an_attribute(checked, statement):
    assert checked(before=statement).plan.micro_batch_size == 7


@pytest.mark.parametrize(
    "statement",
    [
        "vars(told).update(per_device_train_batch_size=7)",
        "told.per_device_train_batch_size += 5",
        "told.per_device_train_batch_size = 7\ntold.per_device_train_batch_size *= rows_of(model)",
        "told.per_device_train_batch_size = 7\nfor row in rows:\n    told.per_device_train_batch_size *= 2",
    ],
)
def test_what_another_statement_makes_of_rows_is_not_what_was_said_first(checked, statement):
    assert checked(before=statement).plan.micro_batch_size in (7, None)


@pytest.mark.parametrize(
    "statement",
    [
        "trainer.args.optim = 'adafactor'",
        'setattr(trainer.args, "optim", "adafactor")',
    ],
)
def test_arguments_of_a_made_trainer_are_its_arguments(checked, statement):
    assert checked(after=statement).plan.optimizer == "adafactor"


PACKS = """\
import dataclasses
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype="bfloat16")
told = SFTConfig(output_dir="o", per_device_train_batch_size=2, SAID=1024)
BEFORE
trainer = SFTTrainer(model=model, args=told, train_dataset=rows)
AFTER
trainer.train()
"""


@pytest.mark.parametrize("name", ["max_length", "max_seq_length"])
@pytest.mark.parametrize(
    ("before", "after", "length"),
    [
        ("", "", 1024),
        ("told.SAID = 8192", "", 8192),
        ("setattr(told, 'SAID', 8192)", "", 8192),
        ("vars(told).update(SAID=8192)", "", 8192),
        ("if rows:\n    told.SAID = 8192", "", None),
        ("told.SAID *= 8", "", None),
        ("told = dataclasses.replace(told, SAID=8192)", "", None),
        ("", "trainer.args.SAID = 8192", None),
    ],
)
def test_a_length_that_is_set_later_is_the_one_at_which_rows_are_cut(tmp_path, name, before, after, length):  # fmt: skip
    """It was recorded beside the one that the arguments were made with, and 8,192 tokens were said to be 1,024."""
    text = PACKS.replace("BEFORE", before).replace("AFTER", after).replace("SAID", name)
    (tmp_path / "train.py").write_text(text)
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
    assert check_launch(command, load_plugins(), Request("h100-sxm-80")).plan.seq_len == length


def test_a_trainer_takes_its_rows_as_it_is_made(tmp_path):
    """To 4.57 `train()` took them again, so that what is set between the two is one or the other."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    told = transformers.TrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, use_cpu=True, report_to=[]
    )
    trainer = transformers.Trainer(torch.nn.Linear(1, 1), told, train_dataset=[{"x": 1}] * 9)
    trainer.args.per_device_train_batch_size = 7
    assert trainer.get_train_dataloader().total_batch_size == 2
    trainer._train_batch_size = 5
    assert trainer.get_train_dataloader().total_batch_size == 5


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("told = dataclasses.replace(told, per_device_train_batch_size=7)", ""),
        ("", "trainer._train_batch_size = rows_of(model)"),
        ("", "trainer.get_train_dataloader = partial(own, batch_size=7)"),
        ("if rows:\n    setattr(told, 'per_device_train_batch_size', 7)", ""),
        ("", "if rows:\n    trainer.args.per_device_train_batch_size = 7"),
        ("", "trainer.args.per_device_train_batch_size = 7"),
        ("", 'setattr(trainer.args, "per_device_train_batch_size", 7)'),
        ("", "told.per_device_train_batch_size = 7"),
        ("", "other = Trainer(model, told)\nother.args.per_device_train_batch_size = 7"),
    ],
)
def test_rows_that_are_said_elsewhere_are_not_known(checked, before, after):
    found = checked(before, after)
    assert found.plan.micro_batch_size is None
    assert found.verdict.answer is Answer.UNKNOWN


OWN = """\
class Own(Trainer):
    def {method}:
        {body}

Trainer = Own
"""
LOADER = "DataLoader(self.train_dataset, {rows}, collate_fn=self.data_collator)"


@pytest.mark.parametrize(
    ("method", "body", "rows"),
    [
        ("__init__(self, *given, **more)", "super().__init__(*given, **more)\n        self._train_batch_size = 7", None),
        ("__init__(self, *given, **more)", "super().__init__(*given, **more)\n        self.args.per_device_train_batch_size = 7", None),
        ("train(self)", "self._train_batch_size = 7\n        return super().train()", None),
        ("get_train_dataloader(self)", f"return {LOADER.format(rows='batch_size=7')}", None),
        ("get_train_dataloader(self)", f"return {LOADER.format(rows='batch_size=self.args.train_batch_size')}", 2),
        ("get_train_dataloader(self)", f"return {LOADER.format(rows='batch_sampler=TokenBudget(self.train_dataset, 65536)')}", None),
        ("get_train_dataloader(self)", f"made = BatchSampler(self._get_train_sampler(), self.args.train_batch_size, True)\n        return {LOADER.format(rows='batch_sampler=made')}", 2),
        ("get_train_dataloader(self)", f"made = TokenBudget(65536)\n        self.log(self.args.train_batch_size)\n        return {LOADER.format(rows='batch_sampler=made')}", None),
        ("get_batch_samples(self, rows, num, *more)", "got, n = super().get_batch_samples(rows, 8 * num, *more)\n        return [joined(got)], n", None),
        ("get_batch_samples(self, rows, num, *more)", "got, n = super().get_batch_samples(rows, num, *more)\n        return got, n", 2),
        ("get_batch_samples(self, rows, num, *more)", "return super().get_batch_samples(rows, num, *more)", 2),
        ("get_batch_samples(self, rows, num, *more)", "got = []\n        for _ in range(num):\n            got += [next(rows)]\n        return got, None", 2),
    ],
)  # fmt: skip
def test_rows_of_a_subclass_are_its_own_where_it_takes_them_otherwise(checked, method, body, rows):
    found = checked(before=OWN.format(method=method, body=body))
    assert found.plan.micro_batch_size == rows


@pytest.mark.parametrize(
    ("rows", "size"),
    [
        ("rows.batch(8)", None),
        ("rows.shuffle().batched(8).map(flat)", None),
        ("rows\nothers = rows.batch(8)", 2),
    ],
)
def test_a_set_whose_rows_are_several_has_more_of_them(checked, rows, size):
    assert checked(before=f"rows = {rows}").plan.micro_batch_size == size


@pytest.mark.parametrize(("number", "is_named"), [(1, False), (4, True)])
def test_a_number_of_devices_that_is_set_makes_replicas(checked, number, is_named):
    """torch's DataParallel stands around the model where it is more than one."""
    said = checked(before=f"told._n_gpu = {number}").verdict.unpriced
    assert (REPLICAS in said) is is_named


def test_an_optimizer_that_it_is_given_is_open(checked):
    assert checked().plan.optimizer == "sgd"
    assert "optimizer" in opens(checked(after="trainer.optimizer = own(model)").plan)
    kept = checked(after="trainer.optimizer = accelerator.prepare(trainer.optimizer)")
    assert "optimizer" not in opens(kept.plan)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("trainer.compute_loss = own", "compute_loss"),
        ("trainer.training_step = lambda *given: own(*given)", "training_step"),
        ("trainer.prediction_step = partial(own, model)", "prediction_step"),
        ("trainer.data_collator = own", "data_collator"),
        ("trainer.model = own(model)", "model"),
        ("trainer.compute_loss = own.__get__(trainer)", "compute_loss"),
    ],
)
def test_a_part_of_its_step_that_it_is_given_is_named(checked, statement, name):
    found = checked(after=statement).verdict
    assert found.answer is Answer.UNKNOWN
    assert f"the {name} that a script gives its trainer" in found.unpriced


@pytest.mark.parametrize(
    "statement",
    [
        "trainer.label_names = []",
        "trainer.log = own",
        "trainer.save_model = partial(own, model)",
        "Trainer._get_train_sampler = own",
        "trainer.model = torch.compile(trainer.model)",
        "trainer.callback_handler = own(model)",
    ],
)
def test_what_leaves_its_step_as_it_is_is_not(checked, statement):
    assert checked(after=statement).verdict.answer is Answer.FITS


@pytest.mark.parametrize(
    ("before", "after", "rows", "optimizer", "is_recomputed"),
    [
        ("told.set_training(batch_size=7)", "", 7, "sgd", False),
        ("told = told.set_training(learning_rate=1e-5)", "", 8, "sgd", False),
        ("told.set_training(batch_size=7, gradient_checkpointing=True)", "", 7, "sgd", True),
        ("told.set_training(batch_size=7, activation_checkpointing=True)", "", 7, "sgd", True),
        ("told.set_optimizer(name='adafactor')", "", 2, "adafactor", False),
        ("told.set_optimizer(learning_rate=1e-5)", "", 2, "adamw_torch", False),
        ("told.set_dataloader(train_batch_size=7)", "", 7, "sgd", False),
        ("told.set_dataloader(rows_of(told))", "", None, "sgd", False),
        ("if many:\n    told.set_dataloader(train_batch_size=7)", "", None, "sgd", False),
    ],
)  # fmt: skip
def test_a_method_of_the_arguments_sets_several(checked, before, after, rows, optimizer, is_recomputed):  # fmt: skip
    """What such a call does not give it sets to a default of its own, so that a batch of 2 becomes one of 8."""
    plan = checked(before, after).plan

    assert (plan.micro_batch_size, plan.optimizer) == (rows, optimizer)
    assert (plan.activation_checkpointing == "full") is is_recomputed


@pytest.mark.parametrize(
    "call",
    [
        "set_training()",
        "set_training(batch_size=7, gradient_accumulation_steps=2)",
        "set_optimizer()",
        "set_optimizer(name='adafactor')",
        "set_evaluate()",
        "set_evaluate(strategy='steps', batch_size=5)",
        "set_testing(batch_size=5)",
        "set_dataloader()",
        "set_dataloader(train_batch_size=7, eval_batch_size=5)",
    ],
)
def test_those_methods_are_the_librarys(checked, tmp_path, call):
    """The table of them says what the arguments are once the installed library's method has been called."""
    transformers = pytest.importorskip("transformers")
    told = transformers.TrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, optim="sgd", gradient_accumulation_steps=3
    )
    before = {name: getattr(told, name) for name in _ARGUMENTS}
    ast_call = ast.parse(f"told.{call}", mode="eval").body
    given = {each.arg: ast.literal_eval(each.value) for each in ast_call.keywords}
    getattr(told, ast_call.func.attr)(**given)
    method = OF_METHODS[ast_call.func.attr]
    said = {argument: given.get(name, default) for name, (argument, default) in method.items()}

    assert {name: getattr(told, name) for name in _ARGUMENTS} == {**before, **said}
