"""The optimizer that a loop of somebody's own makes is the plan's; one that nobody finds, or only running tells, is open."""

from __future__ import annotations

import pytest
import torch
from launch_of_script import opens, plan_of

from preflight.formulas.optimizer_classes import CLASSES
from preflight.formulas.optimizers import is_known

SCRIPT = """\
import bitsandbytes as bnb
import torch
import torch.optim as optim
from accelerate import Accelerator
from torch.optim import AdamW
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.2-1B")
loader = torch.utils.data.DataLoader(rows, batch_size=4, shuffle=True)
accelerator = Accelerator()
{before}
optimizer = {made}
for batch in loader:
    accelerator.backward(model(**batch).loss)
    optimizer.step()
"""


def read(folder, made, before="", launch="accelerate launch --num_processes 1 train.py"):
    files = {"train.py": SCRIPT.format(made=made, before=before)}
    return plan_of(folder, launch, files)


@pytest.mark.parametrize(
    ("made", "optimizer", "kernel"),
    [
        ("AdamW(model.parameters(), lr=1e-4)", "adamw_torch", None),
        ("AdamW(params=model.parameters(), lr=1e-4)", "adamw_torch", None),
        ("optim.Adam(groups, lr=1e-4)", "adamw_torch", None),
        ("torch.optim.AdamW(groups, fused=True)", "adamw_torch_fused", None),
        ("torch.optim.AdamW(groups, foreach=False)", "adamw_torch", "for_loop"),
        ("optim.SGD(groups, lr=1.0)", "sgd", None),
        ("optim.SGD(groups, lr=1.0, momentum=0.9)", "torch.SGD(momentum)", None),
        ("optim.Adadelta(groups)", "torch.Adadelta", None),
        ("optim.AdamW(groups, amsgrad=True)", "torch.AdamW(amsgrad)", None),
        ("optim.NAdam(params=model.parameters())", "torch.NAdam", None),
        ("bnb.optim.AdamW8bit(groups)", "adamw_bnb_8bit", None),
        ("(bnb.optim.AdamW8bit if True else AdamW)(groups)", "adamw_bnb_8bit", None),
    ],
)
def test_the_optimizer_is_the_one_that_is_made(tmp_path, made, optimizer, kernel):
    plan = read(tmp_path, made)

    assert (plan.optimizer, plan.optimizer_kernel) == (optimizer, kernel)
    assert "optimizer" not in opens(plan)


@pytest.mark.parametrize(
    ("before", "made", "optimizer"),
    [
        ("cls = bnb.optim.PagedAdamW8bit", "cls(groups)", "paged_adamw_8bit"),
        ("from lion_pytorch import Lion", "Lion(groups)", "lion_pytorch.Lion"),
        ("cls = AdamW if False else bnb.optim.Lion8bit", "cls(groups)", "lion_8bit"),
        (
            "def build(model):\n    return AdamW(model.parameters())",
            "build(model)",
            "adamw_torch",
        ),
        ("from transformers import Adafactor", "Adafactor(groups)", "adafactor"),
        ("from deepspeed.ops.adam import FusedAdam", "FusedAdam(groups)", "deepspeed_fused_adam"),
        ("from apex.optimizers import FusedAdam", "FusedAdam(groups)", "adamw_apex_fused"),
    ],
)
def test_a_class_is_followed_by_its_name(tmp_path, before, made, optimizer):
    plan = read(tmp_path, made, before)

    assert plan.optimizer == optimizer
    assert "optimizer" not in opens(plan)


@pytest.mark.parametrize(
    ("before", "made"),
    [
        ("", "make_optimizer(model)"),
        ("", "AdamW(groups, **more)"),
        ("", "AdamW(groups, fused=on_gpu())"),
        ("", "bnb.optim.AdamW(groups)"),
        ("cls = AdamW if ready() else bnb.optim.AdamW8bit", "cls(groups)"),
        ("class AdamW:\n    pass", "AdamW(groups)"),
        ("from lions import Lion", "Lion(groups)"),
        ("optimizer = bnb.optim.AdamW8bit(groups)", "AdamW(groups)"),
    ],
)
def test_one_that_is_not_known_is_open_to_the_cheapest_and_the_dearest(tmp_path, before, made):
    plan = read(tmp_path, made, before)
    may_be = plan.origins["optimizer"].may_be

    assert {"sgd", "adamw_torch"} <= set(may_be)


def test_a_loop_without_accelerate_is_read_alike(tmp_path):
    text = SCRIPT.format(made="bnb.optim.AdamW8bit(groups)", before="")
    text = text.replace(
        "accelerator.backward(model(**batch).loss)", "model(**batch).loss.backward()"
    )
    lines = [line for line in text.splitlines() if "ccelerat" not in line]
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 2 train.py", {"train.py": "\n".join(lines)})

    assert plan.trainer is None
    assert plan.optimizer == "adamw_bnb_8bit"


def test_every_name_in_the_table_is_one_that_is_priced():
    assert all(is_known(name) for names in CLASSES.values() for name in names.values())
    assert all(hasattr(torch.optim, name) for name in CLASSES["torch"])


@pytest.mark.parametrize(
    "made",
    ["optim.Adadelta(model.parameters())", "optim.SGD(model.parameters(), lr=1.0, momentum=0.9)"],
)
def test_the_states_of_the_one_that_is_made_are_priced_and_not_named(tmp_path, made):
    plan = read(tmp_path, made)

    assert not {one.unpriced for one in plan.notices if "states" in one.unpriced}


def test_a_class_of_the_scripts_own_is_named_whatever_library_has_its_name(tmp_path):
    own = "class Prodigy(torch.optim.Optimizer):\n    pass\n"
    plan = read(tmp_path, "Prodigy(model.parameters())", own)

    assert "the states of Prodigy" in {one.unpriced for one in plan.notices}


def test_momentum_by_its_place_is_open(tmp_path):
    assert "optimizer" in opens(read(tmp_path, "optim.SGD(groups, 1.0, 0.9)"))


@pytest.mark.parametrize(
    ("other", "name", "is_named"),
    [
        ("optim.NAdam(model.parameters())", "torch.NAdam", False),
        ("optim.SGD(model.parameters(), lr=1.0, momentum=0.9)", "torch.SGD(momentum)", False),
        ("optim.Adadelta(model.parameters())", "torch.Adadelta", True),
        ("optim.AdamW(model.parameters(), amsgrad=True)", "torch.AdamW(amsgrad)", True),
    ],
)
def test_one_of_several_is_among_what_the_optimizer_may_be(tmp_path, other, name, is_named):
    """What costs more than AdamW is named, too: another one that nobody follows may stand beside it."""
    before = f"if ready():\n    optimizer = {other}"
    plan = read(tmp_path, "AdamW(groups)", before)

    assert name in plan.origins["optimizer"].may_be
    assert any("states" in one.unpriced for one in plan.notices) == is_named
