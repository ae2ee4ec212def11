"""docs/remedies-proof.md says what the proofs measure today."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from table import CONTRASTS, NOT_PROVED, PROOFS, ROUNDING, Proof

from preflight.commands.explain import all_pages
from preflight.search.proved import FIELDS

DATA = Path(__file__).parents[2] / "preflight" / "search" / "proofs.tsv"
PAGE = Path(__file__).parents[2] / "docs" / "remedies-proof.md"
UPDATE = "pytest tests/proofs --update-expected"
HEAD = (
    "| remedy | launch | engine | class | loss | weights | why not 0 |\n"
    "| --- | --- | --- | --- | --: | --: | --- |\n"
)


@pytest.mark.launch
def test_the_page_shows_classes_and_orders_of_magnitude_of_today(prover, request):
    page = PAGE.read_text()
    tables = list(re.finditer(r"\| remedy \| launch \|.*\n\| ---.*\n((?:\|.*\n)*)", page))
    assert len(tables) == 2
    today = [[_row(prover, proof) for proof in group] for group in (PROOFS, CONTRASTS)]
    if request.config.getoption("--update-expected"):
        for table, rows in reversed(list(zip(tables, today, strict=True))):
            text = HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)
            page = page[: table.start()] + text + page[table.end() :]
        PAGE.write_text(page)
        DATA.write_text(_data(page))
        return

    for table, rows in zip(tables, today, strict=True):
        shown = [_cells(line) for line in table[1].splitlines()]
        assert [_words(row) for row in shown] == [_words(row) for row in rows], UPDATE
        for old, new in zip(shown, rows, strict=True):
            may_round = new[3] != "same"
            for shown_share, share in zip(old[4:6], new[4:6], strict=True):
                assert _are_near(shown_share, share, may_round), (old, new, UPDATE)


def test_the_page_names_what_is_not_proved():
    page = PAGE.read_text()

    for remedy, reason in NOT_PROVED.items():
        assert f"| {remedy} | {reason} |" in page


def test_what_explain_says_is_what_the_page_says():
    assert DATA.read_text() == _data(PAGE.read_text()), UPDATE


@pytest.mark.parametrize(
    ("remedy", "words"),
    [
        ("activation_checkpointing", "bit-equal"),
        ("offload_optimizer", "differs by at most"),
        ("context_parallel", "takes --allow"),
        ("lora", ""),
    ],
)
def test_explain_says_how_a_remedy_was_proved(remedy, words):
    text = all_pages()[remedy]

    assert words in text
    assert ("Proved " in text) == bool(words)


def _data(page: str) -> str:
    """Return proofs.tsv: the first table without weights, then what is not proved."""
    proved, _, rest = page.partition("## Not proved")
    lines = ["\t".join(FIELDS)]
    for row in map(_cells, re.findall(r"^\| \w+ \| \w+, .*$", proved, re.M)):
        lines.append("\t".join([*row[:5], row[6]]))
    unproved = rest.partition("## What is not the same")[0]
    for remedy, why in map(_cells, re.findall(r"^\| \w+_\w+ \| .*$", unproved, re.M)):
        lines.append(f"{remedy}\t\t\t\t\t{why}")
    return "".join(f"{line}\n" for line in lines)


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


def _are_near(shown: str, now: str, may_round: bool) -> bool:
    """Tell whether two shares are within a factor of 30; another CPU's kernels may add what came out equal here."""
    old, new = float(shown), float(now)
    if old == 0 or new == 0:
        return old == new or (may_round and max(old, new) <= ROUNDING)
    return abs(math.log10(old / new)) < 1.5
