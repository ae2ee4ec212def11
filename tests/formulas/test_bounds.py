"""What is bounded by terms of modules that are imported where a launch has it."""

from __future__ import annotations

import pytest

from preflight.formulas.limits.bounds import ADDED, LENGTHENED, bound_of


@pytest.mark.parametrize("name", {**ADDED, **LENGTHENED})
def test_the_function_of_every_bound_is_there(name):
    function = bound_of(name)

    assert function.__module__.endswith({**ADDED, **LENGTHENED}[name].partition(":")[0])
