"""What is said of a block's graph is what torch makes of it."""

import ast
from contextlib import nullcontext

import pytest
import torch

from preflight.scripts.python.without_graph import (
    may_run_without_graph,
    runs_without_graph,
    with_graph,
)

NAMES = {"torch": torch, "nullcontext": nullcontext, "no_grad": torch.no_grad}
SURE = {
    "torch.no_grad()": True,
    "no_grad()": True,
    "torch.inference_mode()": True,
    "torch.inference_mode(True)": True,
    "torch.inference_mode(mode=True)": True,
    "torch.inference_mode(False)": False,
    "torch.inference_mode(mode=False)": False,
    "torch.set_grad_enabled(False)": True,
    "torch.set_grad_enabled(mode=False)": True,
    "torch.set_grad_enabled(True)": False,
    "torch.enable_grad()": False,
    "nullcontext(), torch.no_grad()": True,
    "torch.autograd.profiler.record_function('no_grad')": False,
}
ASKED = {
    "torch.no_grad() if {} else nullcontext()": (True, False),
    "nullcontext() if {} else torch.inference_mode()": (False, True),
    "torch.set_grad_enabled({})": (False, True),
    "torch.inference_mode(mode={})": (True, False),
}


def block_of(managers):
    return ast.parse(f"with {managers}:\n    pass").body[0]


def has_graph(managers, **names):
    found = {}
    code = f"weight = torch.ones(2, requires_grad=True)\nwith {managers}:\n    has = (weight * 2).requires_grad"
    exec(code, {**NAMES, **names}, found)
    return found["has"]


@pytest.mark.parametrize(("managers", "is_without"), SURE.items())
def test_a_block_runs_without_a_graph_where_torch_makes_none(managers, is_without):
    assert runs_without_graph(block_of(managers)) is is_without
    assert has_graph(managers) is not is_without


@pytest.mark.parametrize(("managers", "ways"), ASKED.items())
def test_what_only_running_tells_may_and_is_not_sure(managers, ways):
    block = block_of(managers.format("is_frozen"))

    assert may_run_without_graph(block)
    assert not runs_without_graph(block)
    assert tuple(not has_graph(managers.format(way)) for way in (True, False)) == ways


@pytest.mark.parametrize("decorator", ["torch.no_grad()", "torch.no_grad", "torch.inference_mode()", "torch.inference_mode"])  # fmt: skip
def test_a_decorated_function_runs_without_a_graph(decorator):
    text = f"@{decorator}\ndef doubled(weight):\n    return weight * 2\n"
    found = {}
    exec(text, NAMES, found)

    assert runs_without_graph(ast.parse(text).body[0])
    assert not found["doubled"](torch.ones(2, requires_grad=True)).requires_grad


def test_a_model_that_is_told_to_evaluate_makes_a_graph():
    text = "def scored(model, rows):\n    model.eval()\n    return model(rows)\n"

    assert not may_run_without_graph(ast.parse(text).body[0])


AGAIN = """\
with torch.no_grad():
    one = weight * 2
    with torch.enable_grad():
        two = weight * 2
three = weight * 2
"""


def test_what_asks_for_a_graph_in_a_block_without_one_has_it():
    found = {"weight": torch.ones(2, requires_grad=True)}
    exec(AGAIN, NAMES, found)
    assigned = [n for n in with_graph(ast.parse(AGAIN).body) if isinstance(n, ast.Assign)]

    assert {each.targets[0].id for each in assigned} == {"two", "three"}
    assert [found[name].requires_grad for name in ("one", "two", "three")] == [False, True, True]
