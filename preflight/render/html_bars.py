"""Stacked bars and a step's timeline as HTML and SVG: bytes by bucket against a device's capacity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from preflight.formulas.engines.buckets import BUCKET_WORDS, BUCKETS, at_moment
from preflight.memory import TOWER_MOMENTS, MemoryEstimate, Moment
from preflight.units import GIB, MIB

MOMENT_WORDS = {
    Moment.TOWER_FORWARD: "tower",
    Moment.FORWARD: "forward",
    Moment.LOSS_FORWARD: "loss",
    Moment.LOSS_BACKWARD: "loss, backward",
    Moment.HEAD_BACKWARD: "head",
    Moment.LAST_LAYER_BACKWARD: "last layer",
    Moment.FIRST_LAYER_BACKWARD: "first layer",
    Moment.TOWER_BACKWARD: "tower, backward",
    Moment.EMBEDDING_BACKWARD: "embedding",
    Moment.OPTIMIZER_STEP: "optimizer",
}
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 860, 300, 56, 44, 16


def unit_of(capacity_bytes: int | None) -> tuple[int, str]:
    """Return the unit of a page: that of the device's capacity, or of its largest figure where there is none."""
    return (MIB, "MiB") if capacity_bytes is not None and capacity_bytes < GIB else (GIB, "GiB")


def scale_of(peaks: Sequence[int], capacity_bytes: int | None) -> int:
    """Return the bytes at the right end of every bar."""
    return max([*peaks, int(1.02 * (capacity_bytes or 0)), 1])


def bar(sums: Mapping[str, int], scale_bytes: int, capacity_bytes: int | None, says: str) -> str:
    """Return one stacked bar; `says` is what a screen reader hears in its place."""
    parts = "".join(
        f'<i style="width:{100 * sums[name] / scale_bytes:.3f}%;background:var(--{name})"'
        f' title="{escape(_title(name, sums[name], capacity_bytes or scale_bytes))}"></i>'
        for name in BUCKETS
        if sums[name]
    )
    line = ""
    if capacity_bytes is not None:
        line = f'<b style="left:{100 * capacity_bytes / scale_bytes:.3f}%" title="capacity"></b>'
    return f'<div class="bar" role="img" aria-label="{escape(says)}">{parts}{line}</div>'


def span(least: int, most: int, scale_bytes: int, capacity_bytes: int, says: str) -> str:
    """Return a bar from the fewest bytes to the most that readings come to; a mark where both are one."""
    left, wide = (100 * num_bytes / scale_bytes for num_bytes in (least, most - least))
    return (
        f'<div class="bar span" role="img" aria-label="{escape(says)}">'
        f'<i style="margin-left:{left:.3f}%;width:{wide:.3f}%" title="{escape(says)}"></i>'
        f'<b style="left:{100 * capacity_bytes / scale_bytes:.3f}%" title="capacity"></b></div>'
    )


def _title(name: str, num_bytes: int, capacity_bytes: int | None) -> str:
    unit, word = unit_of(capacity_bytes)
    return f"{BUCKET_WORDS[name]}: {num_bytes / unit:.1f} {word}"


def legend(names: Sequence[str], words: Mapping[str, str] = BUCKET_WORDS) -> str:
    """Return the colors with their words."""
    items = "".join(
        f'<li><i style="background:var(--{name})"></i>{escape(words[name])}</li>' for name in names
    )
    return f'<ul class="legend">{items}</ul>'


def timeline(estimate: MemoryEstimate, capacity_bytes: int | None) -> list[str]:
    """Return the second step as an SVG, moment by moment, with a sentence for who cannot see it."""
    moments = [moment for moment in MOMENT_WORDS if _has(estimate, moment)]
    if not moments:
        return []
    columns = [at_moment(estimate, moment) for moment in moments]
    totals = [sum(column.values()) for column in columns]
    top = scale_of(totals, capacity_bytes)
    unit, word = unit_of(capacity_bytes)
    worst = max(range(len(moments)), key=totals.__getitem__)
    says = (
        f"Memory through one training step: largest at {MOMENT_WORDS[moments[worst]]},"
        f" {totals[worst] / unit:.1f} {word}"
    )
    lines = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(says)}">'
        f"<title>{escape(says)}</title>"
    ]
    lines += grid(top, (unit, word), lambda num_bytes: _y(num_bytes, top))
    step = (WIDTH - LEFT - 8) / len(moments)
    for at, column in enumerate(columns):
        base, left = 0, LEFT + at * step
        for name in BUCKETS:
            if not column[name]:
                continue
            high, low = _y(base + column[name], top), _y(base, top)
            lines.append(
                f'<rect x="{left:.1f}" y="{high:.1f}" width="{step:.1f}" height="{low - high:.1f}"'
                f' fill="var(--{name})"><title>'
                f"{escape(_title(name, column[name], capacity_bytes))}</title></rect>"
            )
            base += column[name]
        middle = left + step / 2
        lines.append(
            f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{escape(MOMENT_WORDS[moments[at]])}</text>"
            f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 34}" text-anchor="middle">'
            f"{totals[at] / unit:.1f}</text>"
        )
    if capacity_bytes is not None:
        line = _y(capacity_bytes, top)
        lines.append(
            f'<path d="M{LEFT} {line:.1f}H{WIDTH - 8}" stroke="var(--bad)" stroke-width="2"'
            ' stroke-dasharray="6 4"/>'
        )
    return [*lines, "</svg>"]


def _has(estimate: MemoryEstimate, moment: Moment) -> bool:
    alive = estimate.terms_at(moment)
    if moment in TOWER_MOMENTS:
        return any(term.moments <= set(TOWER_MOMENTS) for term in alive)
    return moment in MOMENT_WORDS and bool(alive)


def _y(num_bytes: float, top: int) -> float:
    return TOP + (HEIGHT - BOTTOM - TOP) * (1 - num_bytes / top)


def grid(
    top: int, unit: tuple[int, str], y: Callable[[float], float], width: int = WIDTH
) -> list[str]:
    """Return lines at round numbers of a unit, up to `top` bytes, and the unit above them."""
    size, word = unit
    lines = []
    for tick in ticks(top / size):
        at = y(tick * size)
        lines.append(
            f'<path d="M{LEFT} {at:.1f}H{width - 8}" stroke="var(--line)"/>'
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    return [*lines, f'<text x="4" y="{y(top) - 4:.1f}">{word}</text>']


def ticks(top: float) -> list[float]:
    """Return four to ten round numbers from 0 to `top`: 1, 2 or 5 times a power of ten apart."""
    power = 10.0 ** math.floor(math.log10(top / 4))
    apart = max(factor * power for factor in (1, 2, 5) if factor * power <= top / 4)
    return [number * apart for number in range(int(top / apart) + 1)]
