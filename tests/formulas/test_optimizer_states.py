"""What an element costs an optimizer, held against real steps of the classes that are installed."""

from __future__ import annotations

import pytest
import torch

from preflight.derive.costs.optimizer_states import cost_of
from preflight.formulas.optimizer_classes import CLASSES, element_cost, optimizer_of, states_of
from preflight.formulas.optimizers import NUM_STATES, STEP_COPIES, is_known

OF_TORCH = ("ASGD", "Adadelta", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")
WITH = (("SGD", {"momentum": 0.9}), ("Adam", {"amsgrad": True}), ("RMSprop", {"centered": True}))


@pytest.mark.parametrize(("name", "options"), [*((one, {}) for one in OF_TORCH), *WITH])
def test_an_element_costs_what_a_real_step_keeps_of_it(name: str, options: dict) -> None:
    """Of a shape that the table was not made with: a matrix, a vector and three dimensions."""
    plan_name = optimizer_of(f"torch.optim.{name}", options)
    assert plan_name is not None
    cost = element_cost(plan_name) or element_cost(f"torch.{name}")
    assert cost is not None
    for dtype, per_element in (
        (torch.float32, cost.states_fp32),
        (torch.bfloat16, cost.states_16_bits),
    ):
        weights = [torch.nn.Parameter(torch.randn(n).to(dtype)) for n in ((5, 7), (11,), (2, 3, 4))]
        optimizer = getattr(torch.optim, name)(weights, lr=0.1, **options)
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer.step()
        kept = sum(
            state.nbytes
            for weight in weights
            for state in optimizer.state[weight].values()
            if isinstance(state, torch.Tensor) and state.shape == weight.shape
        )

        assert kept == per_element * sum(weight.numel() for weight in weights)


@pytest.mark.parametrize("cls", ["Adadelta", "NAdam", "RMSprop"])
def test_the_table_is_what_is_measured_today(cls: str) -> None:
    assert cost_of(getattr(torch.optim, cls), {}) == element_cost(f"torch.{cls}")


def test_names_of_the_trainers_are_the_same_in_both_tables() -> None:
    """NUM_STATES and STEP_COPIES were counted by hand: the derived rows say the same of torch's classes."""
    for cls, name in CLASSES["torch"].items():
        cost = element_cost(f"torch.{cls}")
        if cost is not None:
            assert cost.states_fp32 == 4 * NUM_STATES[name]
            assert cost.copies_of_all == STEP_COPIES[name].foreach


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torch.SGD(momentum)", "the states of SGD with momentum"),
        ("torch.Adadelta", "the states of Adadelta"),
        ("adamw_torch", "the states of adamw_torch"),
    ],
)
def test_a_name_is_spoken_of_as_a_script_writes_it(name: str, words: str) -> None:
    assert states_of(name) == words and is_known(name)


@pytest.mark.parametrize(
    "name", ["torch.Nothing", "torch.SGD(nothing)", "prodigyopt.Prodigy(beta3)", "mine.Lion"]
)
def test_what_nobody_counted_has_no_cost(name: str) -> None:
    assert element_cost(name) is None and not is_known(name)
