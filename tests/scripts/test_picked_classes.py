"""A class that a table of the script holds loads a model as it would by its own name."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

from preflight.unpriced_names import adds_to_model

SCRIPT = """\
import argparse
from collections import namedtuple
from types import SimpleNamespace
import torch
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, LlamaTokenizer, OPTForCausalLM, Trainer, TrainingArguments,
)
class WiderForCausalLM(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)

Kind = namedtuple("Kind", ("tokenizer", "net"))
TABLE
parser = argparse.ArgumentParser()
parser.add_argument("--kind", default="llama")
args = parser.parse_args()
PICK
made = LOAD.from_pretrained("huggyllama/llama-7b", torch_dtype=torch.float16)
training = TrainingArguments("out", per_device_train_batch_size=2)
Trainer(model=made, args=training).train()
"""
PAIRS = (
    'KINDS = {"llama": (LlamaForCausalLM, LlamaTokenizer), "opt": (OPTForCausalLM, AutoTokenizer)}'
)
NAMED = 'KINDS = {"llama": Kind(net=LlamaForCausalLM, tokenizer=LlamaTokenizer), "opt": Kind(**{"net": OPTForCausalLM})}'
UNPACKED = "kind, words = KINDS[args.kind]"


def plan_with(folder, table, pick, load):
    text = SCRIPT.replace("TABLE", table).replace("PICK", pick).replace("LOAD", load)
    return plan_of(folder, "python train.py --kind opt", {"train.py": text})


READ = {"adapter", "base_quantization", "load_dtype"}


@pytest.mark.parametrize(
    ("table", "pick", "load"),
    [
        (PAIRS, UNPACKED, "kind"),
        (PAIRS, "", "KINDS[args.kind][0]"),
        (NAMED, "kind = KINDS[args.kind]", "kind.net"),
        (NAMED, 'kind = KINDS["opt"].net', "kind"),
        (
            'KINDS = {"opt": {"net": OPTForCausalLM}}',
            "kind = KINDS[args.kind]",
            'kind["net"]',
        ),
        (
            "",
            "kind = OPTForCausalLM if args.kind == 'opt' else AutoModelForCausalLM",
            "kind",
        ),
    ],
)
def test_a_class_of_a_table_loads_a_model(table, pick, load, tmp_path):
    plan = plan_with(tmp_path, table, pick, load)

    assert (plan.model, plan.load_dtype) == ("huggyllama/llama-7b", "fp16")
    assert not READ & opens(plan)


@pytest.mark.parametrize(
    ("table", "pick"),
    [
        (f"{PAIRS}\nKINDS['opt'] = made_elsewhere()", UNPACKED),
        (f"{PAIRS}\nKINDS.update(more_kinds())", UNPACKED),
        ('KINDS = {"llama": (LlamaForCausalLM, None), **more_kinds()}', UNPACKED),
        ('KINDS = {"llama": (LlamaForCausalLM, None), "opt": some_kind()}', UNPACKED),
        ("KINDS = all_kinds()", UNPACKED),
    ],
)
def test_a_table_that_may_hold_anything_leaves_what_loads_open(table, pick, tmp_path):
    assert opens(plan_with(tmp_path, table, pick, "kind")) >= READ


def test_a_class_of_ones_own_in_a_table_is_named(tmp_path):
    def names(table):
        plan = plan_with(tmp_path, table, UNPACKED, "kind")
        return {notice.unpriced for notice in plan.notices}

    assert adds_to_model("WiderForCausalLM") not in names(PAIRS)
    assert adds_to_model("WiderForCausalLM") in names(
        PAIRS.replace("OPTForCausalLM", "WiderForCausalLM")
    )
