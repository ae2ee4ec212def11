"""Two launches side by side, as text, as Markdown for a pull request, and as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from html import escape
from typing import Any

from preflight.printable import printable, text_of
from preflight.render.html_bars import unit_of
from preflight.render.html_page import page as html_page
from preflight.render.html_page import table as html_table
from preflight.render.page import Page
from preflight.render.report import said_at_once
from preflight.render.words import NOT_STATED, amount
from preflight.report import SCHEMA_VERSION, Report
from preflight.studies.comparison import Difference, Differences, differences

MOST_TERMS = 8
"""Memory terms that are listed, those that change most."""
Table = tuple[str, Sequence[str], list[Sequence[str]], Sequence[int]]
"""A caption, the head and the rows of one table, and its columns of values."""


class Comparison:
    """Two reports and what differs between them; `text`, `to_markdown()` and `to_html()` show it."""

    def __init__(self, before: Report, after: Report, names: tuple[str, str]) -> None:
        self.before = before
        self.after = after
        self.names = names

    @cached_property
    def differences(self) -> Differences:
        """What differs in plan, phases, terms and step time."""
        return differences(self.before, self.after)

    @property
    def text(self) -> str:
        """The comparison as `preflight diff` prints it to a file: 80 columns, no color."""
        return printable(text_of(comparison_lines(self, Page())))

    def to_markdown(self) -> str:
        """Return it for a pull request: both verdicts, and tables of what differs."""
        lines = [
            f"- **{escape(name)}**: {escape(said_at_once(one))}" for name, one in self._named()
        ]
        for caption, head, rows, right in _tables(self):
            ruled = ["--:" if column in right else "---" for column in range(len(head))]
            lines += ["", f"**{caption}**", ""]
            lines += [_cells(row) for row in (head, ruled, *rows)]
        return printable("\n".join(["### preflight: what changes", "", *lines, ""]))

    def to_html(self) -> str:
        """Return it as one HTML file, without scripts and without a network."""
        body = ["<h1>What changes</h1>"]
        for name, one in self._named():
            answer = one.verdict.answer.value
            body.append(
                f'<p>{escape(name)}: <b class="{answer}">{escape(said_at_once(one))}</b></p>'
            )
        for caption, head, rows, right in _tables(self):
            cells = [[escape(cell) for cell in row] for row in rows]
            body.append(f"<h2>{escape(caption)}</h2>")
            body += html_table(head, cells, right=right, caption=caption)
        return html_page("preflight: what changes", body)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON: both reports whole, and what differs."""
        found = self.differences
        return {
            "schema_version": SCHEMA_VERSION,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "plan": _to_dict(found.plan),
            "phases": _to_dict(found.phases),
            "terms": _to_dict(found.terms),
            "step_time_factor": found.step_time_factor,
        }

    def __repr__(self) -> str:
        first, second = (one.verdict.answer.words for one in (self.before, self.after))
        return f"<Comparison: {first} -> {second}; .text, .to_markdown() and .to_html() show it>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return f"<pre>{escape(self.text)}</pre>"

    def _named(self) -> Iterator[tuple[str, Report]]:
        return zip(self.names, (self.before, self.after), strict=True)


def comparison_lines(comparison: Comparison, page: Page) -> list[str]:
    """Return both verdicts, the tables of what differs, and what happens next."""
    first, second = comparison.before.verdict.answer.words, comparison.after.verdict.answer.words
    same = "" if first != second else ", as before"
    lines = [f"preflight: {second}{same}" if same else f"preflight: {first} -> {second}"]
    for name, one in comparison._named():
        lines += page.wrap(f"{name}: {said_at_once(one)}", "  ", "    ")
    for caption, head, rows, right in _tables(comparison):
        lines.append(page.paint(f"{caption}:", "bold"))
        lines += page.table([head, *rows], right=right)
    return [*lines, "next: nothing was started"]


def _tables(comparison: Comparison) -> Iterator[Table]:
    found = comparison.differences
    fields: list[Sequence[str]] = [
        (one.name, _value(one.before), _value(one.after)) for one in found.plan
    ]
    cards = [
        NOT_STATED if one.device is None else one.device.key or one.device.name
        for one in (comparison.before, comparison.after)
    ]
    if cards[0] != cards[1]:
        fields.insert(0, ("device", *cards))
    fields = fields or [("no field differs", "", "")]
    yield "plan", ("field", *comparison.names), fields, (1, 2)
    if found.phases:
        rows = [_row(one, comparison) for one in found.phases]
        factor = found.step_time_factor
        if factor is not None:
            rows.append(("step time, about", "x1.00", f"x{factor:.2f}", f"{factor - 1:+.0%}"))
        yield "phase, device bytes", ("phase", *comparison.names, "change"), rows, (1, 2, 3)
    if found.terms:
        # A name may be long: it comes last, where a line may be broken.
        changed = [_row(one, comparison) for one in found.terms[:MOST_TERMS]]
        turned: list[Sequence[str]] = [(*row[1:], row[0]) for row in changed]
        yield "terms that change most", (*comparison.names, "change", "term"), turned, (0, 1, 2)


def _row(one: Difference, comparison: Comparison) -> Sequence[str]:
    device = comparison.after.device or comparison.before.device
    capacity = None if device is None else device.capacity_bytes
    unit, word = unit_of(capacity)
    before, after = (
        "-" if value is None else amount(value, capacity) for value in (one.before, one.after)
    )
    name = one.name.replace("_", " ")
    return name, before, after, f"{one.change / unit:+.1f} {word}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "another config"
    if isinstance(value, bool):
        return "true" if value else "false"
    return NOT_STATED if value is None else str(value)


def _cells(row: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _to_dict(found: Sequence[Difference]) -> list[dict[str, Any]]:
    return [{"name": one.name, "before": one.before, "after": one.after} for one in found]
