"""docs/remedies-proof.md says what the proofs measure today."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from table import CONTRASTS, NOT_PROVED, PROOFS, Proof

PAGE = Path(__file__).parents[2] / "docs" / "remedies-proof.md"
UPDATE = "pytest tests/proofs --update-expected"
HEAD = (
    "| remedy | launch | engine | class | loss | weights | why not 0 |\n"
    "| --- | --- | --- | --- | --: | --: | --- |\n"
)


@pytest.mark.launch
def test_the_page_shows_classes_and_orders_of_magnitude_of_today(prover, request):
    page = PAGE.read_text()
    tables = list(re.finditer(r"\| remedy \|.*\n\| ---.*\n((?:\|.*\n)*)", page))
    assert len(tables) == 2
    today = [[_row(prover, proof) for proof in group] for group in (PROOFS, CONTRASTS)]
    if request.config.getoption("--update-expected"):
        for table, rows in reversed(list(zip(tables, today, strict=True))):
            text = HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)
            page = page[: table.start()] + text + page[table.end() :]
        PAGE.write_text(page)
        return

    for table, rows in zip(tables, today, strict=True):
        shown = [_cells(line) for line in table[1].splitlines()]
        assert [_words(row) for row in shown] == [_words(row) for row in rows], UPDATE
        for old, new in zip(shown, rows, strict=True):
            assert _are_near(old[4], new[4]) and _are_near(old[5], new[5]), (old, new, UPDATE)


def test_the_page_names_what_is_not_proved():
    page = PAGE.read_text()

    for remedy, reason in NOT_PROVED.items():
        assert f"| {remedy} | {reason} |" in page


def _row(prover, proof: Proof) -> list[str]:
    measured = prover.measure(proof)
    difference, before = measured.difference, measured.rewritten.before
    launcher = f"{before.launcher}, {before.trainer}"
    engines = dict.fromkeys([before.engine, measured.rewritten.after.engine])
    return [
        proof.remedy,
        launcher,
        " to ".join(engines),
        proof.safety,
        _rounded(difference.loss),
        _rounded(difference.weights),
        proof.why or " ",
    ]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _rounded(share: float) -> str:
    """Return a share with one digit: the last ones are another machine's business."""
    return f"{share:.0e}" if share else "0"


def _words(row: list[str]) -> list[str]:
    return [cell.strip() for cell in (*row[:4], *row[6:])]


def _are_near(shown: str, now: str) -> bool:
    """Tell whether two shares are within a factor of 30; bit-equal is bit-equal."""
    old, new = float(shown), float(now)
    if old == 0 or new == 0:
        return old == new
    return abs(math.log10(old / new)) < 1.5
