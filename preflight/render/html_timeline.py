"""Two traced training steps on a page: the picture, the same in words, and every part in a table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape

from preflight.formulas.engines.buckets import BUCKET_WORDS, BUCKETS, of_traced
from preflight.memory import Phase
from preflight.render.html_bars import legend, unit_of
from preflight.render.html_page import details, table
from preflight.render.timeline_picture import PHASE_WORDS, Band, bands_of, is_drawn, picture
from preflight.render.words import amount
from preflight.trace.timeline import TracedPart

WORDS = {**BUCKET_WORDS, "buffers": "temporaries, gathered layers, copies, buffers"}
STEPS = ("first step", "second step")

Unit = tuple[int, str]


def timeline_section(parts: Sequence[TracedPart], capacity_bytes: int | None) -> list[str]:
    """Return the legend, the picture, how to read it, and the table of its parts."""
    peak_bytes = max(part.peak_bytes for part in parts)
    unit = unit_of(peak_bytes)
    used = [name for name in BUCKETS if any(of_traced(part.at_peak)[name] for part in parts)]
    bands = bands_of(parts)
    says = in_words(bands, unit, capacity_bytes)
    told = "Parts stand in order; widths are not times. Each is drawn at its peak, then at what it leaves."
    if capacity_bytes is not None:
        where = "the dashed line" if is_drawn(capacity_bytes, peak_bytes) else "far above this"
        told += f" The capacity is {amount(capacity_bytes, capacity_bytes)}, {where}."
    return [
        legend(used, WORDS),
        '<div class="scroll" role="region" tabindex="0" aria-label="timeline">',
        *picture(bands, capacity_bytes, says, partial(part_in_words, unit=unit)),
        "</div>",
        f'<p class="muted">{escape(told)}</p>',
        *details(f"Every part of both steps, in {unit[1]}", _table(parts, used, unit)),
    ]


def in_words(bands: Sequence[Band], unit: Unit, capacity_bytes: int | None) -> str:
    """Return what the picture shows: the peak of every phase of each step, and what is alive at the largest."""
    said = [f"Live tensors of two training steps, in {unit[1]}, at the peak of each phase."]
    for step, words in enumerate(STEPS):
        peaks: dict[Phase, int] = {}
        for band in bands:
            if band.step == step:
                highest = max(part.peak_bytes for part in band.parts)
                peaks[band.phase] = max(peaks.get(band.phase, 0), highest)
        told = ", ".join(f"{PHASE_WORDS[p]} {size / unit[0]:.1f}" for p, size in peaks.items())
        said.append(f"{words[:1].upper() + words[1:]}: {told}.")
    worst = max((part for band in bands for part in band.parts), key=lambda part: part.peak_bytes)
    said.append(f"Largest: {part_in_words(worst, unit)}.")
    if capacity_bytes is not None:
        said.append(f"Capacity: {amount(capacity_bytes, capacity_bytes)}.")
    return " ".join(said)


def part_in_words(part: TracedPart, unit: Unit) -> str:
    """Return where a part is, its bytes, and what they are, without what rounds to nothing."""
    size, word = unit
    sums = of_traced(part.at_peak)
    held = ", ".join(
        f"{WORDS[name]} {sums[name] / size:.1f}" for name in BUCKETS if sums[name] >= size / 20
    )
    peak, end = f"{part.peak_bytes / size:.1f} {word}", f"{part.end_bytes / size:.1f}"
    return f"{STEPS[part.part.step]}, {part.part.where}: {peak}, {end} at its end; {held}"


def _table(parts: Sequence[TracedPart], used: Sequence[str], unit: Unit) -> list[str]:
    accumulates = any(part.part.micro for part in parts)
    rows = []
    for part in parts:
        step = STEPS[part.part.step].removesuffix(" step")
        micro = f", micro step {part.part.micro + 1}" if accumulates else ""
        sums = of_traced(part.at_peak)
        figures = (part.peak_bytes, part.end_bytes, *(sums[name] for name in used))
        shown = [f"{num_bytes / unit[0]:.2f}" for num_bytes in figures]
        rows.append([step + micro, escape(part.part.where), *shown])
    short = {**BUCKET_WORDS, "buffers": "others"}
    head = ["step", "part", "peak", "at its end", *(escape(short[name]) for name in used)]
    return table(head, rows, right=range(2, len(head)), caption="Every part of both steps")
