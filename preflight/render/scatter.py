"""A validation as a picture: predicted against measured, every run a mark, as an SVG that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from preflight.printable import printable
from preflight.render.svg import STYLE, cross, line, mark, text
from preflight.studies.measured import COUNTERS
from preflight.studies.validate import ValidatedRun, Validation, summarize
from preflight.units import GIB, format_gib
from preflight.values import dataclass
from preflight.verdict import Answer

SIZE = 560.0
"""Pixels of a side of the square that the runs are drawn in."""
LEFT, TOP = 72.0, 96.0
WIDTH, HEIGHT = 1000, 730
LEGEND = LEFT + SIZE + 36
LINE = 19.0
BAND = 0.1
MAX_GROUPS = 22


@dataclass(frozen=True)
class Scale:
    """A range of bytes on both axes, logarithmic."""

    low_bytes: float
    high_bytes: float

    def along(self, num_bytes: float) -> float:
        """Return how far along an axis a value is, in pixels."""
        share = math.log(num_bytes / self.low_bytes) / math.log(self.high_bytes / self.low_bytes)
        return SIZE * share

    def x(self, num_bytes: float) -> float:
        return LEFT + self.along(num_bytes)

    def y(self, num_bytes: float) -> float:
        return TOP + SIZE - self.along(num_bytes)

    def ticks(self) -> Iterator[float]:
        """Yield 1, 2, 5, 10, ... GiB and their fractions, as far as they are inside."""
        for power in range(-6, 7):
            for digit in (1, 2, 5):
                value = digit * 10.0**power * GIB
                if self.low_bytes <= value <= self.high_bytes:
                    yield value


def scatter_svg(validation: Validation) -> str:
    """Return the picture of a validation; runs without two numbers to compare are counted under it."""
    compared = [v for v in validation.compared if v.error is not None]
    died = [v for v in validation.runs if v.run.outcome == "oom" and v.needed_bytes and v.device]
    scale = _scale(compared, died)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' width="{WIDTH}" height="{HEIGHT}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(_title(validation))}</title>',
        f'<desc id="desc">{escape(_description(validation))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        *_heading(validation),
        *_axes(scale),
        *_capacities(died, scale),
    ]
    # What counts is drawn last, so that nothing covers it.
    for v in sorted(compared, key=lambda v: v.run.is_scored):
        parts.append(_run_mark(v, scale))
    parts += [_died_mark(v, scale) for v in died]
    parts += _labels(compared, died, scale)
    parts += _legend(validation)
    return printable("\n".join([*parts, "</svg>"])) + "\n"


def _scale(compared: list[ValidatedRun], died: list[ValidatedRun]) -> Scale:
    values = [float(v.run.measured_bytes or 0) for v in compared]
    values += [float(v.predicted_bytes or 0) for v in compared]
    values += [float(v.device.capacity_bytes) for v in died if v.device]
    values = [value for value in values if value > 0] or [float(GIB), 100.0 * GIB]
    # A launch that needs ten times its device is not worth half of the picture: it stands at the edge.
    return Scale(min(values) / 1.25, max(values) * 1.9)


def _title(validation: Validation) -> str:
    return f"Predicted against measured peak memory per rank, {len(validation.runs)} runs"


def _sentences(validation: Validation) -> list[str]:
    """Return what the picture shows, as sentences."""
    errors = []
    for counter in COUNTERS:
        summary = validation.summary_of(counter)
        if summary.median_abs_error is not None and summary.p90_abs_error is not None:
            errors.append(
                f"{counter} {100 * summary.median_abs_error:.1f}%"
                f" (p90 {100 * summary.p90_abs_error:.1f}%, {summary.num_runs} runs)"
            )
    said = [f"Median error of scored runs: {', '.join(errors)}."] if errors else []
    died = [v for v in validation.scored if v.run.outcome == "oom"]
    if died:
        refused = sum(v.answer is Answer.DOES_NOT_FIT for v in died)
        said.append(
            f"Of {len(died)} scored runs that died, {refused} are predicted not to fit"
            f" and {len(validation.false_fits)} to fit;"
            f" of {len(validation.scored) - len(died)} that ran,"
            f" {len(validation.false_blocks)} not to fit."
        )
    return said


def _description(validation: Validation) -> str:
    return " ".join(
        (
            "A scatter plot, both axes logarithmic, in GiB; a run on the diagonal is predicted exactly,"
            " in the grey band within 10 percent, above it too large.",
            *_sentences(validation),
            "Crosses are runs that died, at the capacity of their device: above the diagonal,"
            " the prediction does not fit either.",
        )
    )


def _heading(validation: Validation) -> Iterator[str]:
    yield text(LEFT, 32, _title(validation), "title")
    for number, sentence in enumerate(_sentences(validation)):
        yield text(LEFT, 55 + LINE * number, sentence, "muted")


def _axes(scale: Scale) -> Iterator[str]:
    low, high = scale.low_bytes, scale.high_bytes
    corners = (
        (low, low),
        (low, low * (1 + BAND)),
        (high / (1 + BAND), high),
        (high, high),
        (high, high * (1 - BAND)),
        (low / (1 - BAND), low),
    )
    points = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in corners)
    yield f'<polygon class="band" points="{points}"/>'
    bottom, right = TOP + SIZE, LEFT + SIZE
    for tick in scale.ticks():
        x, y = scale.x(tick), scale.y(tick)
        yield line(x, TOP, x, bottom, "grid")
        yield line(LEFT, y, right, y, "grid")
        yield text(x, bottom + 19, f"{tick / GIB:g}", "muted middle")
        yield text(LEFT - 9, y + 4.5, f"{tick / GIB:g}", "muted end")
    yield line(LEFT, bottom, right, TOP, "exact")
    yield f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{SIZE}" height="{SIZE}"/>'
    yield text(LEFT + SIZE / 2, bottom + 43, "measured, GiB", "middle")
    middle = TOP + SIZE / 2
    yield (
        f'<text class="middle" x="24" y="{middle}" transform="rotate(-90 24 {middle})">'
        "predicted, GiB</text>"
    )


def _capacities(died: list[ValidatedRun], scale: Scale) -> Iterator[str]:
    """Yield a line for each capacity that runs died on."""
    for capacity in sorted({v.device.capacity_bytes for v in died if v.device}):
        x = scale.x(capacity)
        yield line(x, TOP, x, TOP + SIZE, "capacity")
        yield text(x - 5, TOP + SIZE - 7, format_gib(capacity), "label end")


def _run_mark(v: ValidatedRun, scale: Scale) -> str:
    """Return a run's mark: a shape and color per counter, filled where it scores."""
    x, y = scale.x(v.run.measured_bytes or 1), scale.y(v.predicted_bytes or 1)
    why = (
        "" if v.run.is_scored else f"; not scored: {v.run.not_scored_because or 'as the file says'}"
    )
    says = (
        f"{v.run.id}: {v.run.group}, {v.run.plan.engine}, {v.run.counter};"
        f" measured {format_gib(v.run.measured_bytes or 0)},"
        f" predicted {format_gib(v.predicted_bytes or 0)} ({100 * (v.error or 0):+.1f}%){why}"
    )
    return mark(x, y, v.run.counter or "", v.run.is_scored, says)


def _died_mark(v: ValidatedRun, scale: Scale) -> str:
    """Return the cross of a run that died: measured is at least the capacity, so there it stands."""
    assert v.device is not None and v.needed_bytes is not None
    says = (
        f"{v.run.id}: {v.run.group}, {v.run.plan.engine}; died on"
        f" {format_gib(v.device.capacity_bytes)}, predicted to need"
        f" {format_gib(v.needed_bytes)}: {v.answer.words}"
        + ("" if v.run.is_scored else "; not scored")
    )
    y = max(scale.y(v.needed_bytes), TOP)
    return cross(scale.x(v.device.capacity_bytes), y, v.run.is_scored, says)


def _labels(compared: list[ValidatedRun], died: list[ValidatedRun], scale: Scale) -> Iterator[str]:
    """Yield the name of each group beside its worst run, where that covers nothing."""
    taken = [
        (scale.x(v.run.measured_bytes or 1) - 6, scale.y(v.predicted_bytes or 1) - 6, 12.0, 12.0)
        for v in compared
    ]
    taken += [
        (scale.x(v.device.capacity_bytes) - 6, scale.y(v.needed_bytes or 1) - 6, 12.0, 12.0)
        for v in died
        if v.device
    ]
    groups: dict[str, list[ValidatedRun]] = {}
    for v in compared:
        groups.setdefault(v.run.group, []).append(v)
    for name, runs in sorted(groups.items()):
        width, height = 7.0 * len(name), 14.0
        for v in sorted(runs, key=lambda v: -abs(v.error or 0)):
            x, y = scale.x(v.run.measured_bytes or 1), scale.y(v.predicted_bytes or 1)
            # Away from the diagonal first: there is room.
            left, right = (x - 11 - width, y - height / 2), (x + 10, y - height / 2)
            sides = (left, right) if (v.error or 0) > 0 else (right, left)
            box = next((b for b in sides if _is_free((*b, width, height), taken)), None)
            if box is not None:
                taken.append((*box, width, height))
                yield text(box[0], box[1] + 11, name, "label")
                break


def _is_free(
    box: tuple[float, float, float, float], taken: list[tuple[float, float, float, float]]
) -> bool:
    x, y, width, height = box
    if x < LEFT + 3 or x + width > LEFT + SIZE - 3 or y < TOP + 3 or y + height > TOP + SIZE - 3:
        return False
    return not any(
        x < left + w and left < x + width and y < top + h and top < y + height
        for left, top, w, h in taken
    )


def _legend(validation: Validation) -> Iterator[str]:
    """Yield what marks mean, and every group with its runs and signed median error."""
    y = TOP + 10
    for counter in COUNTERS:
        if any(v.run.counter == counter and v.error is not None for v in validation.compared):
            yield mark(LEGEND + 6, y - 4, counter, True)
            yield mark(LEGEND + 24, y - 4, counter, False)
            yield text(LEGEND + 40, y, f"{counter}: scored, not scored")
            y += LINE
    if any(v.run.outcome == "oom" for v in validation.runs):
        yield cross(LEGEND + 6, y - 4, True)
        yield cross(LEGEND + 24, y - 4, False)
        yield text(LEGEND + 40, y, "died on this capacity; at the upper")
        y += LINE
        yield text(LEGEND + 40, y, "edge: predicted to need even more")
        y += LINE
    yield f'<rect class="band" x="{LEGEND}" y="{y - 11}" width="28" height="13"/>'
    yield line(LEGEND, y + 2, LEGEND + 28, y - 11, "exact")
    yield text(LEGEND + 40, y, "exact, and within 10%")
    y += 2 * LINE
    columns = ((0.0, "strong"), (96.0, "strong"), (196.0, "strong end"), (258.0, "strong end"))
    for (x, css), title in zip(columns, ("group", "counter", "runs", "signed"), strict=True):
        yield text(LEGEND + x, y, title, css)
    groups: dict[tuple[bool, str, str], list[ValidatedRun]] = {}
    for v in validation.compared:
        if v.error is not None:
            key = (not v.run.is_scored, v.run.group, v.run.counter or "")
            groups.setdefault(key, []).append(v)
    rows = sorted(groups.items())
    for (is_unscored, group, counter), runs in rows[:MAX_GROUPS]:
        y += LINE
        css = "muted" if is_unscored else ""
        cells = (
            group,
            counter,
            str(len(runs)),
            f"{100 * (summarize(runs).median_error or 0):+.1f}%",
        )
        for (x, column), cell in zip(columns, cells, strict=True):
            yield text(LEGEND + x, y, cell, f"{css} {column.removeprefix('strong')}".strip())
    left_out = [v for v in validation.runs if v.run.outcome == "value" and v.error is None]
    notes = ["grey: not scored"] if any(is_unscored for is_unscored, _, _ in groups) else []
    if len(rows) > MAX_GROUPS:
        notes.append(f"and {len(rows) - MAX_GROUPS} more groups")
    if left_out:
        notes += [
            f"not drawn: {len(left_out)} runs without a counter",
            "of that name or without an estimate",
        ]
    for note in notes:
        y += LINE
        yield text(LEGEND, y, note, "muted")
