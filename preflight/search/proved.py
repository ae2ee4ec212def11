"""What real trainings before and after a remedy showed: the rows of docs/remedies-proof.md, in words."""

from __future__ import annotations

import os

from preflight.documentation import page_of
from preflight.values import dataclass

FIELDS = ("remedy", "launch", "engine", "safety", "loss", "why")
"""Columns of proofs.tsv; a remedy that no training can prove has an empty launch, and why."""


@dataclass(frozen=True)
class Proved:
    """One remedy on one launch that was trained before and after."""

    remedy: str
    launch: str
    """Launcher and trainer."""
    engine: str
    safety: str
    loss: str
    """The largest difference of a step's loss as a share of it, to one digit."""
    why: str


def proofs_of(remedy: str) -> tuple[Proved, ...]:
    """Return what was measured for a remedy, in the order of the page."""
    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "proofs.tsv"), encoding="utf-8") as file:
        next(file)
        rows = [Proved(*line.rstrip("\n").split("\t")) for line in file]
    return tuple(row for row in rows if row.remedy == remedy)


def proof_words(remedy: str) -> str:
    """Return one sentence for the manual page of a remedy; empty where nothing is claimed."""
    rows = proofs_of(remedy)
    if not rows:
        return ""
    if not rows[0].launch:
        return f"by no training, so that it takes --allow: {rows[0].why}"
    engines = ", ".join(dict.fromkeys(row.engine for row in rows))
    worst = max(rows, key=lambda row: float(row.loss))
    found = "bit-equal" if worst.safety == "same" else "no difference in the loss of a step"
    if float(worst.loss):
        found = f"the loss of a step differs by at most {worst.loss} of it"
    return f"by training before and after, {engines}: {found} ({page_of('remedies-proof')})"
