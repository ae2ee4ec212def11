"""A reading is a value with its problems, and a function keeps the problems of what it calls in order."""

from __future__ import annotations

import pytest

from preflight.errors import Problem
from preflight.reading import Problems, Reading

WARNING = Problem("odd", "a.yaml:1", severity="warning")
ERROR = Problem("wrong", "a.yaml:2")


def test_problems_are_kept_in_the_order_in_which_they_came_up():
    problems = Problems([ERROR])
    values = [problems.take(Reading(7, (WARNING,))), problems.take(Reading("x"))]

    assert (values, problems) == ([7, "x"], [ERROR, WARNING])


def test_only_what_is_an_error_was_refused():
    assert Problems([WARNING, ERROR]).refused == {"a.yaml:2"}


def test_a_reading_is_equal_to_another_of_the_same_and_cannot_be_changed():
    reading = Reading[int](1, (ERROR,))

    assert reading == Reading(1, (ERROR,))
    with pytest.raises(AttributeError):
        reading.value = 2
