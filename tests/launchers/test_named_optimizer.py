"""An optimizer that a config names by its class: the plan has its name, and a state that the name does not price is said."""

from __future__ import annotations

import pytest
import torch
from framework_launches import CONFIGS, cases_of

from preflight.formulas.optimizer_classes import CLASSES, optimizer_of, with_more_states
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewriting import read_launch

CLASS = {
    "torchtune": "optimizer._component_={} {}",
    "litgpt": "--optimizer {} {}",
    "automodel": "--optimizer._target_ {} {}",
}
FOLDERS = {"torchtune": CONFIGS, "litgpt": CONFIGS / "litgpt", "automodel": CONFIGS / "automodel"}
OPTION = {
    "torchtune": "optimizer.{}={}",
    "litgpt": "--optimizer.init_args.{} {}",
    "automodel": "--optimizer.{} {}",
}


def line_of(framework: str) -> str:
    """Return a command of the framework's own cases that its reader takes."""
    cases = cases_of(framework)
    return next(case["argv"] for case in cases.values() if "refused" not in case)


def read(framework, plugins, cls, **options) -> LaunchPlan:
    given = " ".join(OPTION[framework].format(*each) for each in options.items())
    words = f"{line_of(framework)} {CLASS[framework].format(cls, given)}".split()
    plan = read_launch(LaunchCommand(tuple(words), {}, str(FOLDERS[framework])), plugins)
    assert plan is not None
    return plan


def unpriced(plan: LaunchPlan) -> set[str]:
    return {n.unpriced for n in plan.notices if n.unpriced and "states" in n.unpriced}


@pytest.mark.parametrize("framework", CLASS)
@pytest.mark.parametrize(
    ("cls", "options", "name", "left_out"),
    [
        ("torch.optim.SGD", {}, "sgd", set()),
        ("torch.optim.SGD", {"momentum": 0.9}, "torch.SGD(momentum)", set()),
        ("torch.optim.Adadelta", {}, "torch.Adadelta", set()),
        ("lion_pytorch.Lion", {}, "lion_pytorch.Lion", set()),
        ("torch.optim.SGD", {"momentum": 0}, "sgd", set()),
        ("torch.optim.Adam", {"amsgrad": "true"}, "torch.Adam(amsgrad)", set()),
        (
            "torch.optim.RMSprop",
            {"momentum": 0.9, "centered": "true"},
            "adamw_torch",
            {"the states of torch.optim.RMSprop"},
        ),
        ("optimi.AdamW", {"kahan_sum": "false"}, "adamw_torch", {"the states of optimi.AdamW"}),
        ("torchao.optim.AdamW8bit", {}, "adamw_torch_8bit", set()),
        ("mine.Sophia", {}, "adamw_torch", {"the states of mine.Sophia"}),
    ],
)
def test_a_class_has_its_name_and_what_it_keeps_beside_is_said(
    framework, plugins, cls, options, name, left_out
):
    plan = read(framework, plugins, cls, **options)

    assert plan.optimizer == name
    assert unpriced(plan) == left_out


@pytest.mark.parametrize(
    ("name", "options", "num_states"),
    [
        ("SGD", {}, 0),
        ("SGD", {"momentum": 0.9}, 1),
        ("RMSprop", {}, 1),
        ("RMSprop", {"momentum": 0.9}, 2),
        ("RMSprop", {"centered": True}, 2),
        ("Adam", {}, 2),
        ("AdamW", {"amsgrad": True}, 3),
        ("Adagrad", {}, 1),
    ],
)
def test_torch_itself_keeps_a_state_more_where_it_is_said(name, options, num_states):
    """Counted in a real step; NUM_STATES prices the states of a class without options."""
    from preflight.formulas.optimizers import NUM_STATES

    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = getattr(torch.optim, name)([weight], lr=0.1, **options)
    weight.sum().backward()
    optimizer.step()
    kept = [state for state in optimizer.state[weight].values() if state.shape == weight.shape]
    priced = NUM_STATES[optimizer_of(f"torch.optim.{name}")]

    assert len(kept) == num_states
    assert (num_states > priced) == bool(with_more_states(name, options))


def test_a_class_is_found_by_the_module_that_it_lives_in():
    assert optimizer_of("torch.optim.adamw.AdamW") == optimizer_of("torch.optim.AdamW")
    assert optimizer_of("torchao.prototype.low_bit_optim.AdamW8bit") == "adamw_torch_8bit"
    assert optimizer_of("mine.AdamW") is None
    assert "FusedAdam" in CLASSES["apex"] and "FusedAdam" in CLASSES["deepspeed"]
