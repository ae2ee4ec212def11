"""A switch that a script's text turns off is off however it is spaced."""

from __future__ import annotations

import re

import pytest

from preflight.scripts.uncounted.sign_words import UNPRICED
from preflight.unpriced_names import FROZEN

ENGINE = UNPRICED["an inference engine's share of the card"][0]
SWITCHES = [
    (UNPRICED[FROZEN][0], "requires_grad", "True", "False"),
    (ENGINE, "fast_inference", "False", "True"),
    (UNPRICED["an embedding on the host"][0], "offload_embedding", "False", "True"),
    (UNPRICED["a loss of its own"][0], "compute_loss_func", "None", "loss_of"),
]


@pytest.mark.parametrize(("pattern", "name", "off", "on"), SWITCHES)
@pytest.mark.parametrize("equals", ["=", " = ", "= ", "  ="])
def test_a_switch_that_is_off_is_no_sign(
    pattern: str, name: str, off: str, on: str, equals: str
) -> None:
    assert re.search(pattern, f"x.{name}{equals}{on}\n")
    assert not re.search(pattern, f"x.{name}{equals}{off}\n")


def test_a_name_that_is_handed_on_says_what_its_callers_say() -> None:
    helper = "def load(fast_inference: bool):\n    return make(fast_inference = fast_inference)\n"

    assert re.search(ENGINE, helper)
    assert not re.search(ENGINE, helper + "load(fast_inference = False)\n")
    assert re.search(ENGINE, helper + "load(fast_inference = False)\nload(fast_inference = True)\n")
