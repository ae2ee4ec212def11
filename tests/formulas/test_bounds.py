"""What is bounded by terms of modules that are imported where a launch has it."""

from __future__ import annotations

import pytest

from preflight.formulas.limits.bounds import ADDED, BY_PLANS, bound_of


@pytest.mark.parametrize("name", {**ADDED, **BY_PLANS})
def test_the_function_of_every_bound_is_there(name):
    function = bound_of(name)

    assert function.__module__.endswith({**ADDED, **BY_PLANS}[name].partition(":")[0])
