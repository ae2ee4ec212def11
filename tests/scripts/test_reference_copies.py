"""A reference is a second copy of the model that trains where all that it is set to says so."""

from __future__ import annotations

import ast

import pytest

from preflight.scripts.reference_copies import PARTITIONS, is_second_copy

MODEL = "model = AutoModelForCausalLM.from_pretrained(args.model_name, torch_dtype=dtype)\n"


@pytest.mark.parametrize(
    "text",
    [
        "ref_model = AutoModelForCausalLM.from_pretrained(args.model_name, torch_dtype=dtype)",
        "ref_model = AutoModelForCausalLM.from_pretrained(args.model_name).eval().to(device)",
        "self.ref_model = copy.deepcopy(model)",
        "model = load('me/mine-1b')\nref_model = load('me/mine-1b')",
        "self.reference_model = create_reference_model(self.model)",
        "ref_model = model\nref_model = None",
        "ref_model = deepcopy(model)\nref_model, *_ = deepspeed.initialize(model=ref_model, config=c)",
        "ref_model = model\nref_model = AutoModelForCausalLM.from_pretrained(ref_model, **kwargs)",
    ],
)
def test_a_copy_is_read_as_one(text):
    assert is_second_copy([ast.parse(MODEL + text)])


@pytest.mark.parametrize(
    "text",
    [
        "ref_model = AutoModelForCausalLM.from_pretrained(args.other_name)",
        "ref_model = AutoModelForCausalLM.from_pretrained(args.ref_path or args.model_name)",
        "ref_model = deepcopy(model)\nref_model = load(args.sft_path)",
        "ref_model = get_model()",
        "model = load('me/mine-1b')\nref_model = load('me/mine-3b')",
        "ref_model = None",
        "self.ref_model = ref_model",
        "reference = 1",
    ],
)
def test_anything_else_is_none(text):
    assert not is_second_copy([ast.parse(MODEL + text)])


def test_a_copy_that_deepspeed_is_given_is_told_from_one_that_a_rank_keeps():
    assert PARTITIONS.search("ref, *_ = deepspeed.initialize(model=ref_model, config=c)")
    assert PARTITIONS.search("self.ref_model = self._prepare_deepspeed(self.ref_model)")
    assert not PARTITIONS.search("model, *_ = deepspeed.initialize(model=model, config=c)")
