"""A reference is a second copy of the model that trains where all that it is set to says so."""

from __future__ import annotations

import ast

import pytest

from preflight.scripts.uncounted.reference_copies import PARTITIONS, is_never_made, is_second_copy

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


NONE = "ref_model = None\nparts = {'model': model, 'ref_model': ref_model}\n"


@pytest.mark.parametrize(
    "text",
    [
        "ref_model = parts['ref_model']\ntrainer = Trainer(model, ref_model=ref_model)",
        "self.ref_model = ref_model\nparts['ref_model'] = None",
    ],
)
def test_a_reference_that_is_none_wherever_it_is_set_is_no_model(text):
    assert is_never_made([(ast.parse(NONE + text), range(1, 99))])


@pytest.mark.parametrize(
    "text",
    [
        "if is_dpo:\n    ref_model = load(name)",
        "ref_model, tokenizer = load(name)",
        "trainer = Trainer(model, ref_model=load(name))",
        "parts = {'ref_model': load(name)}",
        "parts['ref_model'] = model",
        "def prepare(model, ref_model):\n    pass",
        "from parts import ref_model",
        "ref_model(batch)",
        "self.ref_model.eval()",
        "setattr(self, 'ref_model', model)",
        "ref_model: Module",
    ],
)
def test_a_reference_that_may_be_set_to_a_model_is_one(text):
    assert not is_never_made([(ast.parse(NONE + text), range(1, 99))])


def test_lines_that_do_not_run_set_nothing():
    tree = ast.parse(NONE + "ref_model = load(name)")

    assert is_never_made([(tree, {1, 2})])
    assert not is_never_made([(tree, {3})])
