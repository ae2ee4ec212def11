"""Two traced training steps as SVG: live bytes of every part, by what holds them, with its phases below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import groupby, pairwise

from preflight.formulas.engines.buckets import BUCKETS, of_traced
from preflight.memory import Phase
from preflight.render.html_bars import LEFT, WIDTH, grid, unit_of
from preflight.trace.result import PHASE_PARTS
from preflight.trace.timeline import TracedPart
from preflight.values import dataclass

PHASE_OF = {name: phase for phase, names in PHASE_PARTS.items() for name in names}
PHASE_WORDS = {
    Phase.FORWARD: "forward",
    Phase.LOSS: "loss",
    Phase.BACKWARD: "backward",
    Phase.OPTIMIZER_STEP: "optimizer",
}
SHARES = {Phase.FORWARD: 3, Phase.LOSS: 2, Phase.BACKWARD: 3, Phase.OPTIMIZER_STEP: 3}
"""How wide a phase is drawn: an optimizer's three parts would vanish beside those of eighty layers."""
STEP_WORDS = ("first step: makes the optimizer's states", "second step: as every later one")
MICRO_WORDS = ("first micro step", "each later one")
TOP, PLOT, STRIP = 34, 270, 22
RIGHT = WIDTH - 8
PEAK_SHARE = 0.6
"""Of a part's width, for its peak; the rest is for what it leaves."""
NEAR = 3
"""A capacity further away than this many peaks would press the picture flat, and is left to words."""


@dataclass(frozen=True)
class Band:
    """The parts of one phase of a micro step, and where they are drawn."""

    step: int
    micro: int
    phase: Phase
    parts: tuple[TracedPart, ...]
    left: float
    right: float

    @property
    def part_width(self) -> float:
        return (self.right - self.left) / len(self.parts)

    def placed(self) -> list[tuple[float, TracedPart]]:
        """Return the parts, each with where it begins."""
        return [(self.left + at * self.part_width, part) for at, part in enumerate(self.parts)]


def bands_of(parts: Sequence[TracedPart]) -> list[Band]:
    """Return the phases of both steps from left to right; a part that only frees is of the phase before it."""
    keys = []
    phase = Phase.FORWARD
    for part in parts:
        phase = PHASE_OF.get(part.part.name, phase)
        micro = 0 if phase is Phase.OPTIMIZER_STEP else part.part.micro
        keys.append((part.part.step, micro, phase))
    groups = [
        (key, tuple(part for _, part in group))
        for key, group in groupby(zip(keys, parts, strict=True), key=lambda pair: pair[0])
    ]
    scale = (RIGHT - LEFT) / sum(SHARES[key[2]] for key, _ in groups)
    bands, left = [], float(LEFT)
    for (step, micro, phase), own in groups:
        right = left + scale * SHARES[phase]
        bands.append(Band(step, micro, phase, own, left, right))
        left = right
    return bands


def is_drawn(capacity_bytes: int | None, peak_bytes: int) -> bool:
    """Tell whether a capacity is near enough to be a line of the picture."""
    return capacity_bytes is not None and capacity_bytes <= NEAR * peak_bytes


def picture(
    bands: Sequence[Band],
    capacity_bytes: int | None,
    says: str,
    says_of: Callable[[TracedPart], str],
) -> list[str]:
    """Return the SVG; `says` is what a screen reader hears in its place, `says_of` what a part shows under a pointer."""
    placed = [(left, band.part_width, part) for band in bands for left, part in band.placed()]
    at, width, worst = max(placed, key=lambda place: place[2].peak_bytes)
    drawn_bytes = capacity_bytes or 0 if is_drawn(capacity_bytes, worst.peak_bytes) else 0
    top = max(int(1.02 * worst.peak_bytes), int(1.05 * drawn_bytes), 1)
    num_strips = 3 if any(band.micro for band in bands) else 2
    height = TOP + PLOT + num_strips * STRIP + 6

    def y(num_bytes: float) -> float:
        return TOP + PLOT * (1 - num_bytes / top)

    lines = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(says)}">']
    lines += (
        grid(top, unit_of(worst.peak_bytes), y) + _areas(placed, y) + _strips(bands, num_strips)
    )
    peak_x, peak_y = at + PEAK_SHARE * width / 2, y(worst.peak_bytes)
    label_y = peak_y - 8
    if drawn_bytes:
        line_y = y(drawn_bytes)
        lines += _capacity_line(drawn_bytes, line_y, is_right=peak_x < WIDTH / 2)
        if peak_y - 24 < line_y <= peak_y:
            label_y = line_y - 6  # the line would go through the words
    lines += _peak_mark(peak_x, peak_y, label_y, _amount(worst.peak_bytes))
    lines += [
        f'<rect x="{left:.2f}" y="{TOP}" width="{width:.2f}" height="{PLOT}" fill="transparent">'
        f"<title>{escape(says_of(part))}</title></rect>"
        for left, width, part in placed
    ]
    return [*lines, "</svg>"]


def _areas(
    placed: Sequence[tuple[float, float, TracedPart]], y: Callable[[float], float]
) -> list[str]:
    """Return a path for each bucket, stacked; a part is two columns of each, its peak and what it leaves."""
    xs: list[float] = []
    columns: list[Mapping[str, int]] = []
    for left, width, part in placed:
        xs += [left, left + PEAK_SHARE * width]
        columns += [of_traced(part.at_peak), of_traced(part.at_end)]
    xs.append(RIGHT)
    lines = []
    base = [0] * len(columns)
    for name in BUCKETS:
        above = [low + column[name] for low, column in zip(base, columns, strict=True)]
        if above != base:
            area = _area(xs, [y(a) for a in above], [y(a) for a in base])
            lines.append(f'<path d="{area}" fill="var(--{name})"/>')
        base = above
    return lines


def _area(xs: Sequence[float], highs: Sequence[float], lows: Sequence[float]) -> str:
    """Return the path around a layer of the stack: its upper edge to the right, its lower edge back."""
    path = f"M{xs[0]:.2f} {highs[0]:.1f}" + _edge(xs, highs)
    return path + f"V{lows[-1]:.1f}" + _edge(xs[::-1], lows[::-1]) + "Z"


def _edge(xs: Sequence[float], ys: Sequence[float]) -> str:
    turns = [
        f"H{x:.2f}V{after:.1f}"
        for x, (before, after) in zip(xs[1:-1], pairwise(ys), strict=True)
        if before != after
    ]
    return "".join(turns) + f"H{xs[-1]:.2f}"


def _strips(bands: Sequence[Band], num_strips: int) -> list[str]:
    """Return the rows below that name phases, micro steps and steps, and the line between the steps."""
    y = TOP + PLOT
    lines = []
    for band in bands:
        lines += _strip([band], y, PHASE_WORDS[band.phase])
    if num_strips == 3:
        for (_, micro, is_last), group in groupby(
            bands, key=lambda band: (band.step, band.micro, band.phase is Phase.OPTIMIZER_STEP)
        ):
            lines += _strip(list(group), y + STRIP, "" if is_last else MICRO_WORDS[min(micro, 1)])
    bottom = y + num_strips * STRIP
    for step, group in groupby(bands, key=lambda band: band.step):
        own = list(group)
        lines += _strip(own, bottom - STRIP, STEP_WORDS[step])
        if step:
            lines.append(f'<path d="M{own[0].left:.1f} {TOP}V{bottom}" stroke="var(--ink)"/>')
    return lines


def _strip(bands: Sequence[Band], y: float, words: str) -> list[str]:
    left, right = bands[0].left, bands[-1].right
    box = f'x="{left:.1f}" y="{y:.1f}" width="{right - left:.1f}" height="{STRIP}"'
    lines = [f'<rect {box} fill="var(--panel)" stroke="var(--line)"/>']
    if words:
        at = f'x="{(left + right) / 2:.1f}" y="{y + 15:.1f}"'
        lines.append(f'<text {at} text-anchor="middle">{escape(words)}</text>')
    return lines


def _capacity_line(capacity_bytes: int, y: float, is_right: bool) -> list[str]:
    x, anchor = (RIGHT - 4, "end") if is_right else (LEFT + 4, "start")
    return [
        f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="var(--bad)" stroke-width="2" stroke-dasharray="6 4"/>',
        f'<text class="over" x="{x}" y="{y - 6:.1f}" text-anchor="{anchor}">'
        f"capacity {_amount(capacity_bytes)}</text>",
    ]


def _peak_mark(x: float, y: float, label_y: float, amount: str) -> list[str]:
    anchor = "end" if x > WIDTH / 2 else "start"
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="var(--ink)" stroke="var(--paper)"/>',
        f'<text class="over" x="{x:.1f}" y="{label_y:.1f}" text-anchor="{anchor}">largest: {amount}</text>',
    ]


def _amount(num_bytes: int) -> str:
    unit, word = unit_of(num_bytes)
    return f"{num_bytes / unit:.1f} {word}"
