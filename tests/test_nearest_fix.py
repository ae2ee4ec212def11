"""What a misspelt name is taken for: difflib's answer, without asking difflib about every name."""

from __future__ import annotations

import difflib

from hypothesis import example, given
from hypothesis import strategies as st

from preflight.launch import PLAN_FIELDS
from preflight.near_names import NEAR, nearest_fix
from preflight.scripts.arguments.trainer_tables import argument_table

ARGUMENTS = tuple(argument_table("sft").arguments)
KNOWN = (PLAN_FIELDS, ARGUMENTS)
LETTERS = "abcdefgilmnoprstuwz_1"


@st.composite
def misspelt(draw: st.DrawFn) -> str:
    """A name with a few letters dropped, added or changed."""
    name = list(draw(st.sampled_from(PLAN_FIELDS + ARGUMENTS)))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(name)))
        name[at : at + draw(st.integers(0, 2))] = draw(st.text(LETTERS, max_size=2))
    return "".join(name)


@given(st.one_of(misspelt(), st.text(LETTERS, max_size=12)), st.sampled_from(KNOWN))
@example("seed_a", ARGUMENTS)
@example("", PLAN_FIELDS)
@example("aaaaaaaa", PLAN_FIELDS)
def test_the_answer_is_difflibs(name, known):
    near = difflib.get_close_matches(name, known, n=1, cutoff=NEAR)

    assert nearest_fix(name, known) == (f"did you mean {near[0]}" if near else "")
