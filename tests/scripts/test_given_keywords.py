"""What a trainer is given by a dict that `**` hands on, or by its place, counts as what it is given by its own keywords."""

from __future__ import annotations

import importlib
import inspect

import pytest
from launch_of_script import plan_of

from preflight.scripts.settings import behind
from preflight.scripts.settings.followed_models import arguments_given
from preflight.scripts.settings.given_keywords import ORDERED, PLACES
from preflight.unpriced_names import SECOND_MODEL

TRAIN = """\
import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-0.5B")


class Collate:
    def __call__(self, rows):
        ids = torch.full((len(rows), 4096), tokenizer.pad_token_id)
        return {{"input_ids": ids, "labels": ids}}


def parts_of(rows):
    whole = dict(train_dataset=rows)
    return {{**whole, "data_collator": {collator}}}


model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
arguments = TrainingArguments("out", per_device_train_batch_size=2)
held = load_dataset("text")["test"].map(lambda row: tokenizer(row["text"], truncation=True, max_length=512))
data = load_dataset("text")["train"].map(lambda row: tokenizer(row["text"]{cut}))
{before}
Trainer({first}, {handed}).train()
"""
WAYS = {
    "places": ("", "{collator}, data"),
    "keywords": ("", "train_dataset=data, data_collator={collator}"),
    "a dict": ("parts = dict(train_dataset=data, data_collator={collator})", "**parts"),
    "braces": ('parts = {{"train_dataset": data, "data_collator": {collator}}}', "**parts"),
    "at once": ("", '**{{"train_dataset": data, "data_collator": {collator}}}'),
    "a key": ('parts = dict(train_dataset=data)\nparts["data_collator"] = {collator}', "**parts"),
    "an update": (
        "parts = {{}}\nparts.update(train_dataset=data, data_collator={collator})",
        "**parts",
    ),
    "a function": ("", "**parts_of(data)"),
    "of a function": ("parts = parts_of(data)", "**parts"),
}


def plan(folder, way, collator="Collate()", cut=", truncation=True, max_length=512"):
    before, handed = (text.format(collator=collator) for text in WAYS[way])
    first = "model, arguments" if way == "places" else "model=model, args=arguments"
    text = TRAIN.format(before=before, first=first, handed=handed, collator=collator, cut=cut)
    return plan_of(folder, "python train.py", {"train.py": text})


@pytest.mark.parametrize("way", WAYS)
def test_rows_are_as_long_as_a_collator_of_the_scripts_own_makes_them(tmp_path, way):
    assert plan(tmp_path, way).seq_len == 4096


@pytest.mark.parametrize("way", [name for name in WAYS if "function" not in name])
def test_rows_that_nothing_cuts_have_no_length(tmp_path, way):
    """What a function is given is not followed back to its calls, so that rows of one may be cut."""
    assert plan(tmp_path, way, "default_data_collator", "").seq_len is None


PAIRS = """\
from datasets import load_dataset
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
frozen = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
parts = dict(model=model, {name}=frozen, args=DPOConfig("out", max_length=512))
DPOTrainer(**parts).train()
"""


@pytest.mark.parametrize(("name", "is_beside"), [("ref_model", False), ("judge", True)])
def test_a_reference_that_a_dict_hands_on_is_the_trainers(tmp_path, name, is_beside):
    found = plan_of(tmp_path, "python train.py", {"train.py": PAIRS.format(name=name)})

    assert (SECOND_MODEL in found.script_facts.uncounted) is is_beside


@pytest.mark.parametrize("name", sorted(ORDERED))
def test_trainers_have_their_parameters_in_this_order(name):
    """CPO and ORPO stand in `trl.experimental` in newer releases."""
    kind = getattr(pytest.importorskip("transformers"), name, None)
    kind = kind or getattr(pytest.importorskip("trl"), name, None)
    if kind is None:
        kind = getattr(importlib.import_module(f"trl.experimental.{name[:-7].lower()}"), name)

    assert tuple(inspect.signature(kind).parameters)[:5] == PLACES


SUBCLASSES = """\
class Part(Base):
    def __init__(self, options):
        super().__init__(options)
        self.trainer = Trainer(**options)

"""


def test_a_dict_that_many_constructors_hand_on_is_followed_once_through_each(tmp_path, monkeypatch):
    """Each call of a method may mean any of its name: there are twenty to the sixth ways through so many."""
    asked = []
    monkeypatch.setattr(
        behind, "arguments_given", lambda *args: asked.append(args) or arguments_given(*args)
    )
    names = [f"Part{number}" for number in range(20)]
    parts = "".join(SUBCLASSES.replace("Part", name) for name in names)
    made = [f"{name}(dict(model=model, args=arguments, train_dataset=data))" for name in names]
    text = TRAIN.partition("{before}")[0] + "\n".join([*made, f"{made[0]}.trainer.train()", ""])
    text = text.format(cut="", collator="None").replace("\nclass Coll", f"\n{parts}\nclass Coll")
    plan_of(tmp_path, "python train.py", {"train.py": text})

    assert 0 < len(asked) < 20**4
