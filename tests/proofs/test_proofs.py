"""Every remedy that is applied unasked trains the same: measured in real launches, before and after."""

from __future__ import annotations

import importlib
import re

import pytest
from table import CONTRASTS, NOT_PROVED, PROOFS, ROUNDING

from preflight.builtin_hooks import BUILTIN_HOOKS
from preflight.remedy import UNPROVED

EVALUATION_MEANS = 1e-3
"""Of an evaluation's loss: the means of batches of 8 and of 4 ragged rows, over 96 rows, weigh rows differently."""


@pytest.mark.launch
@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.id)
def test_a_remedy_that_is_applied_unasked_trains_the_same(proof, prover):
    measured = prover.measure(proof)

    assert measured.rewritten.remedy.safety == proof.safety
    assert measured.unreached == {}
    if proof.safety == "same":
        assert measured.difference.is_bit_equal, measured.difference
    else:
        assert measured.difference.loss <= proof.tolerance, measured.difference
        assert measured.difference.eval_loss <= EVALUATION_MEANS, measured.difference
    assert proof.why or proof.safety == "same"


@pytest.mark.launch
@pytest.mark.parametrize("contrast", CONTRASTS, ids=lambda proof: proof.id)
def test_the_measure_sees_a_training_that_is_not_the_same(contrast, prover):
    measured = prover.measure(contrast)

    assert measured.rewritten.remedy.safety == contrast.safety
    assert measured.difference.loss > 100 * ROUNDING


def test_a_remedy_that_may_be_applied_unasked_is_proved_or_says_why_not():
    safe = {
        name.removeprefix("remedy_")
        for name in BUILTIN_HOOKS
        if name.startswith("remedy_") and _may_be_safe(name)
    }
    proved = {proof.remedy for proof in PROOFS}

    assert safe - proved == UNPROVED == NOT_PROVED.keys()
    assert proved <= safe


def _may_be_safe(name: str) -> bool:
    """Tell whether the manual page's safety line has a class that is applied unasked."""
    manual = importlib.import_module(f"preflight.hooks.{name}").__doc__ or ""
    found = re.search(r"^Safety +(\w+)", manual, re.M)
    assert found is not None, name
    return found[1] in ("same", "equivalent")
