"""A list or a dict that a script makes by a loop over what is known is known, entry by entry."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

from preflight.launch import LaunchCommand
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN

GIVEN = {"a": 1, "b": None, "c": [2, 3], "d": "x, y"}
KNOWN = [
    "[word.strip() for word in given['d'].split(',')]",
    "[word for word in given['d'].split(', ') if word != 'x']",
    "[n + 1 for n in given['c']]",
    "[name for name in given]",
    "{k: v for k, v in given.items() if v is not None}",
    "{k: v for k, v in given.items() if k not in ('a', 'c')}",
    "{name + '_id': 1 for name in ('bos', 'eos')}",
    "{name: given[name] for name in given.keys() if name != 'b'}",
    "[v for v in given.values() if isinstance(v, int)]",
    "[left for left, right in [(1, 2), (3, 4)] if right > 2]",
    "[[m for m in given['c'] if m > n] for n in given['c']]",
    "[k for k in given if given[k]]",
]
OPEN = [
    "[each for each in find()]",
    "[find(n) for n in given['c']]",
    "[n for n in given['c'] if find(n)]",
    "{find(k): v for k, v in given.items()}",
    "[a + b for a in given['c'] for b in given['c']]",
]


def value(expression):
    text = f"given = {GIVEN!r}\nmade = {expression}\nuse(made)\n"
    reader = ScriptReader(LaunchCommand(("python", "train.py"), {}, "."), "train.py", text)
    reader.read(lambda names: None)
    call = next(found for found in reader.calls if found.name == "use")
    return reader.evaluator.value(call.node.args[0], call.scope)


@pytest.mark.parametrize("expression", KNOWN)
def test_it_is_what_python_makes_of_it(expression):
    assert value(expression) == eval(expression, {"given": GIVEN})


@pytest.mark.parametrize("expression", OPEN)
def test_it_is_not_known_where_a_part_is_not(expression):
    assert value(expression) is UNKNOWN


def test_an_entry_that_may_be_left_out_is_not_known_and_the_others_are():
    made = value("{k: v for k, v in given.items() if k == 'a' or find(v)}")

    assert made == {"a": 1, "b": UNKNOWN, "c": UNKNOWN, "d": UNKNOWN}


SCRIPT = """\
import argparse
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments
parser = argparse.ArgumentParser()
parser.add_argument("--modules", default="q_proj, v_proj")
parser.add_argument("--revision", default=None)
parser.add_argument("--packed", action="store_true")
args = parser.parse_args()
options = {"revision": args.revision, "torch_dtype": torch.bfloat16}
options = {name: value for name, value in options.items() if value is not None}
if args.packed:
    options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", **options)
model = get_peft_model(model, LoraConfig(r=8, target_modules=[each.strip() for each in args.modules.split(",")]))
Trainer(model=model, args=TrainingArguments(output_dir="out"), train_dataset=rows).train()
"""


@pytest.mark.parametrize(("flags", "packed"), [("", None), ("--packed", "int8")])
def test_what_a_model_is_loaded_with_is_known_where_empty_entries_are_left_out(
    flags, packed, tmp_path
):
    """Whatever was handed over by such a dict was not known: attention, quantization and dtype were open."""
    plan = plan_of(tmp_path, f"python train.py --modules q_proj,o_proj {flags}", {"train.py": SCRIPT})  # fmt: skip

    quantization = plan.base_quantization
    assert (None if quantization is None else quantization.scheme) == packed
    assert plan.adapter.targets == ("q_proj", "o_proj") and plan.load_dtype == "bf16"
    assert not opens(plan) & {"adapter", "attention", "base_quantization", "load_dtype"}
