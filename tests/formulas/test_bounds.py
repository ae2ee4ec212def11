"""What is bounded by terms of modules that are imported where a launch has it."""

from __future__ import annotations

import pytest

from preflight.formulas.limits.bounds import ADDED, bound_of


@pytest.mark.parametrize("name", ADDED)
def test_the_function_of_every_bound_is_there(name):
    function = bound_of(name)

    assert function.__module__.endswith(ADDED[name].partition(":")[0])
