"""A launch whose script takes its loss of logits itself has a plan with the rows, the reference and the bytes of that."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

TRAIN = """
import copy
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
from pairs import scores

class PairTrainer(Trainer):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        {reference}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        chosen, rejected = self.both(model, inputs)
        {compared}
        return -F.logsigmoid(chosen - rejected).mean()

    def both(self, model, inputs):
        logps = scores(model(inputs["input_ids"]).logits, inputs["labels"])
        n = len(logps) // 2
        return logps[:n], logps[n:]
{more}
(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", torch_dtype=torch.bfloat16)
PairTrainer(model=model, args=args, train_dataset=rows(max_length=512)).train()
"""
PAIRS = """
def scores(logits, labels):
    picked = logits[:, :-1].log_softmax(-1).gather(2, labels[:, 1:, None]).squeeze(2)
    return picked.sum(-1)
"""
COMMAND = "accelerate launch --num_processes 1 train.py --output_dir out --per_device_train_batch_size 2 --bf16"
BESIDE = """
        with torch.no_grad():
            theirs, others = self.both(self.ref_model, inputs)
        chosen, rejected = chosen - theirs, rejected - others"""


def launch(folder, reference="pass", compared="pass", more=""):
    text = TRAIN.format(reference=reference, compared=compared.strip(), more=more)
    return plan_of(folder, COMMAND, {"train.py": text, "pairs.py": PAIRS})


def unpriced(plan) -> dict[str, str]:
    return {each.unpriced: each.takes for each in plan.notices if each.unpriced}


def test_pairs_of_a_script_are_two_sequences_with_log_probabilities(tmp_path):
    plan = launch(tmp_path)
    loss = plan.script_facts.step_loss

    assert (plan.objective, plan.reference_model, loss.forwards) == ("preference_pairs", None, 1)
    assert (loss.narrow.forward, loss.wide.backward) == (6, 12)
    assert not unpriced(plan)


def test_a_copy_that_it_compares_with_is_held_too(tmp_path):
    plan = launch(tmp_path, "self.ref_model = copy.deepcopy(self.model).eval()", BESIDE)

    assert plan.reference_model == "same"
    assert set(unpriced(plan).values()) == {"less"}


@pytest.mark.parametrize(
    ("reference", "compared", "more"),
    [
        ("self.ref_model = load_elsewhere()", BESIDE, ""),
        ("self.ref_model = copy.deepcopy(self.model)", "pass", ""),
        ("pass", "chosen = chosen + sharpened(model, inputs)", ""),
        ("pass", "pass", "    def training_step(self, *given):\n        return super().training_step(*given)\n"),
    ],
)  # fmt: skip
def test_what_was_not_read_is_named(tmp_path, reference, compared, more):
    plan = launch(tmp_path, reference, compared, more)

    assert plan.objective is None and plan.script_facts.step_loss is None
    assert set(unpriced(plan).values()) & {"more", "either"}


BELOW = """
import torch
import torch.nn.functional as F
from trl import {kind}Config, {kind}Trainer
from transformers import AutoModelForCausalLM, HfArgumentParser
from pairs import scores

class OwnTrainer({kind}Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        logits = model(input_ids=inputs["input_ids"], use_cache=False).logits
        {loss}
{more}
(args,) = HfArgumentParser({kind}Config).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", torch_dtype=torch.bfloat16)
OwnTrainer(model=model, args=args, train_dataset=rows).train()
"""
FOCAL = "return F.cross_entropy(logits.view(-1, logits.size(-1)), inputs['labels'].view(-1))"
MARGIN = """logps = scores(logits, inputs["input_ids"])
        n = len(logps) // 2
        with torch.no_grad():
            others = scores(self.ref_model(inputs["input_ids"], use_cache=False).logits, inputs["input_ids"])
        return -F.logsigmoid(logps[:n] - logps[n:] - others[:n] + others[n:]).mean()"""
ROWS = "    def concatenated_inputs(self, batch, padding_value):\n        return {}\n"


def launch_below(folder, kind, loss, more=""):
    text = BELOW.format(kind=kind, loss=loss, more=more)
    command = f"{COMMAND} true --max_length 512"
    return plan_of(folder, command, {"train.py": text, "pairs.py": PAIRS})


@pytest.mark.parametrize(("kind", "loss"), [("SFT", FOCAL), ("DPO", MARGIN)])
def test_a_loss_of_a_trainer_below_which_trls_stands_is_counted(tmp_path, kind, loss):
    plan = launch_below(tmp_path, kind, loss)
    step = plan.script_facts.step_loss

    assert (plan.objective or "sft", plan.loss) == (kind.lower(), "full_logits")
    assert step.is_prepared_below and bool(step.compares) is (kind == "DPO")
    assert not set(unpriced(plan).values()) & {"more", "either"}


@pytest.mark.parametrize(
    ("kind", "loss", "more"),
    [
        ("DPO", MARGIN, ROWS),
        ("DPO", FOCAL, ""),
        ("DPO", MARGIN.replace("no_grad", "enable_grad"), ""),
        ("SFT", MARGIN, ""),
        ("SFT", FOCAL, "    def _prepare_inputs(self, rows):\n        return self.longer(rows)\n"),
        ("KTO", MARGIN, ""),
    ],
)
def test_one_that_is_not_of_its_rows_alone_is_named(tmp_path, kind, loss, more):
    plan = launch_below(tmp_path, kind, loss, more)

    assert plan.script_facts.step_loss is None
    assert set(unpriced(plan).values()) & {"more", "either"}


@pytest.mark.parametrize(
    ("said", "caches"),
    [
        ("pass", True),
        ("options = dict(use_cache=False)", False),
        ("options = dict(use_cache=False if args.gradient_checkpointing else True)", None),
        ("self.model.config.use_cache = False", True),
    ],
)
def test_keys_of_a_reference_are_held_unless_the_script_says_that_it_has_none(
    tmp_path, said, caches
):
    reference = f"self.ref_model = copy.deepcopy(self.model).eval(); {said}"
    plan = launch(tmp_path, reference, BESIDE)

    assert plan.script_facts.step_loss.caches_keys is caches
