"""What a sweep found: how many launches get a verdict, what the others lack, what is refused, and what is called an error."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from .checking import Answered

VERDICTS = ("fits", "tight", "does_not_fit")


class Table:
    """Counts of a sweep; it keeps what it prints and none of the answers."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.lacks: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.refused: list[str] = []
        self.crashed: list[str] = []
        self.seconds: list[float] = []

    def add(self, answered: Answered) -> None:
        """Count one launch."""
        outcome = answered.outcome
        self.outcomes[answered.launcher][outcome] += 1
        self.seconds.append(answered.seconds)
        name = f"{answered.launch.repository} {answered.launch.where}"
        if outcome == "unknown":
            self.lacks[lacking(answered.answer)] += 1
        if outcome == "does_not_fit":
            self.refused.append(f"{name}: {settled_by(answered.answer)}")
        if answered.exit_code > 2:
            self.crashed.append(f"{name}: exit {answered.exit_code} {answered.stderr[-300:]}")
        for problem in answered.errors:
            what = f"{problem.get('id') or 'no id'} {problem['message'].splitlines()[0][:80]}"
            self.errors[what] += 1
            self.examples.setdefault(what, name)

    def lines(self) -> Iterator[str]:
        """Yield the whole table as text."""
        columns = (*VERDICTS, "unknown", "exit 2", "exit 3")
        yield f"{'launcher':<22}{'launches':>9}" + "".join(f"{name:>13}" for name in columns)
        total: Counter[str] = Counter()
        by_size = sorted(self.outcomes.items(), key=lambda item: -item[1].total())
        for launcher, counts in by_size:
            total.update(counts)
            yield _row(launcher, counts, columns)
        yield _row("together", total, columns)
        yield from _section("unknown, and what is missing", self.lacks.most_common())
        listed = [
            (f"{what}  ({self.examples[what]})", count) for what, count in self.errors.most_common()
        ]
        yield from _section("called an error", listed)
        yield from _section("does not fit, and what decides", [(line, 1) for line in self.refused])
        yield from _section("crashed", [(line, 1) for line in self.crashed])
        if self.seconds:
            yield f"\n{sum(self.seconds):.0f} s, the slowest {max(self.seconds):.2f} s"


def lacking(answer: dict[str, Any]) -> str:
    """Return in words why the answer is unknown: inputs, open fields that decide, what is not priced."""
    parts = []
    if missing := answer.get("missing"):
        parts.append(", ".join(missing))
    deciding = [name for name, field in (answer.get("open") or {}).items() if field["deciding"]]
    if deciding:
        parts.append(f"open: {', '.join(deciding)}")
    if unpriced := answer.get("unpriced"):
        parts.append(f"not priced: {'; '.join(unpriced)}")
    return " | ".join(parts) or "NOTHING IS NAMED"


def settled_by(answer: dict[str, Any]) -> str:
    """Return what a refusal rests on: the least of its readings, and the fields that were open."""
    readings = answer.get("readings") or {}
    fields = ", ".join(answer.get("open") or {}) or "none"
    least = (readings.get("least") or {}).get("device_peak_bytes")
    return f"open fields {fields}" + (f", least {least / 2**30:.1f} GiB" if least else "")


def _row(name: str, counts: Counter[str], columns: Iterable[str]) -> str:
    cells = "".join(f"{counts[column]:>13}" for column in columns)
    share = sum(counts[verdict] for verdict in VERDICTS) / max(1, counts.total())
    return f"{name:<22}{counts.total():>9}{cells}   {share:.0%} get a verdict"


def _section(title: str, rows: Iterable[tuple[str, int]]) -> Iterator[str]:
    rows = list(rows)
    if rows:
        yield f"\n{title}"
        yield from (f"{count:>6}  {what}" for what, count in rows)
