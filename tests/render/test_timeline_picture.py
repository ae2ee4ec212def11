"""The timeline of a trace as a picture: what it draws, what it says, and that both are the trace's bytes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reader import read

from preflight.render.html_bars import LEFT, ticks
from preflight.render.html_timeline import timeline_section
from preflight.render.timeline_picture import PLOT, RIGHT, TOP
from preflight.trace.log import Part
from preflight.trace.timeline import TracedPart
from preflight.units import GIB

NAMES = (
    "inputs", "embedding_forward", "layer_forward 0", "layer_forward 1", "loss_forward",
    "loss_backward", "layer_backward 1", "layer_backward 0", "embedding_backward", "end",
)  # fmt: skip
STEPPING = ("clip", "optimizer", "zero_grad")
CATEGORIES = (
    "parameters", "gradients", "optimizer states", "activations", "logits and loss", "temporaries",
)  # fmt: skip


def parts_of(num_micro_steps: int) -> list[Part]:
    """Return the parts of two steps in order."""
    found = []
    for step in (0, 1):
        for micro in range(num_micro_steps):
            for words in NAMES:
                name, _, layer = words.partition(" ")
                found.append(Part(step, micro, name, int(layer or -1)))
        found += [Part(step, 0, name) for name in STEPPING]
    return found


sizes = st.dictionaries(st.sampled_from(CATEGORIES), st.integers(1, 3 * GIB))


@st.composite
def timelines(draw) -> list[TracedPart]:
    """Draw a timeline of any bytes; the model's weights are always there, and a part's end is not above its peak."""
    weights = draw(st.integers(1, 80 * GIB))
    found = []
    for part in parts_of(draw(st.sampled_from((1, 2)))):
        at_peak = {**draw(sizes), "parameters": weights}
        kept = draw(st.sets(st.sampled_from(CATEGORIES)))
        at_end = {name: size for name, size in at_peak.items() if name in kept}
        found.append(TracedPart(part, at_peak, {**at_end, "parameters": weights}))
    return found


def heights(page: str) -> list[float]:
    """Return every height at which the colored areas have an edge."""
    areas = re.findall(r'<path d="(M[^"]*Z)" fill="var\(--(?!panel|paper)\w+\)"', page)
    return [float(y) for area in areas for y in re.findall(r"(?:V|M[\d.]+ )(-?[\d.]+)", area)]


@settings(max_examples=40)
@given(timelines())
def test_the_highest_edge_is_the_peak_and_no_edge_leaves_the_frame(timeline):
    page = "".join(timeline_section(timeline, None))
    dot = float(re.search(r'<circle cx="[\d.]+" cy="([\d.]+)"', page)[1])

    assert min(heights(page)) == pytest.approx(dot, abs=0.1)
    assert max(heights(page)) == TOP + PLOT
    assert dot >= TOP


@settings(max_examples=40)
@given(timelines())
def test_parts_stand_side_by_side_over_the_whole_width(timeline):
    page = "".join(timeline_section(timeline, None))
    found = re.findall(r'<rect x="([\d.]+)" y="34" width="([\d.]+)" [^>]*transparent', page)
    places = [(float(x), float(width)) for x, width in found]

    assert len(places) == len(timeline)
    assert places[0][0] == LEFT
    for (x, width), (after, _) in zip(places, [*places[1:], (RIGHT, 0.0)], strict=True):
        assert x + width == pytest.approx(after, abs=0.05)


@settings(max_examples=40)
@given(timelines())
def test_a_screen_reader_hears_the_peak_of_every_phase_and_the_table_has_every_part(timeline):
    page = "".join(timeline_section(timeline, 80 * GIB))
    reader = read(page)
    (says,) = reader.pictures
    peak = max(part.peak_bytes for part in timeline)
    unit = GIB if peak >= GIB else 2**20
    for step, words in enumerate(("First step", "Second step")):
        for phase, names in (("forward", NAMES[:4]), ("optimizer", STEPPING)):
            firsts = {name.partition(" ")[0] for name in names}
            own = [a for a in timeline if a.part.step == step and a.part.name in firsts]
            highest = max(a.peak_bytes for a in own)
            told = says[says.index(f"{words}: ") :].split(". ")[0]
            assert f"{phase} {highest / unit:.1f}" in told
    assert f"{peak / unit:.1f} {'GiB' if unit == GIB else 'MiB'}" in says
    assert "Capacity: 80.0 GiB." in says
    assert page.count("<tr>") == len(timeline) + 1
    assert reader.open == []


def test_a_capacity_is_a_line_where_it_is_near_and_words_where_it_is_far():
    timeline = [TracedPart(part, {"parameters": GIB}, {}) for part in parts_of(1)]
    near = "".join(timeline_section(timeline, 2 * GIB))
    far = "".join(timeline_section(timeline, 80 * GIB))

    assert "capacity 2.0 GiB" in near
    assert "The capacity is 2.0 GiB, the dashed line." in near
    assert "stroke-dasharray" not in far
    assert "The capacity is 80.0 GiB, far above this." in far


def test_micro_steps_are_told_apart_where_there_are_two():
    one, two = (
        "".join(timeline_section([TracedPart(p, {"parameters": 1}, {}) for p in parts_of(n)], None))
        for n in (1, 2)
    )

    assert "each later one" in two
    assert "first, micro step 2" in two
    assert "micro step" not in one


@given(st.floats(1e-6, 1e6))
def test_ticks_are_four_to_twelve_round_numbers_up_to_the_top(top):
    found = ticks(top)

    assert 4 <= len(found) <= 12
    assert found[0] == 0
    assert found[-1] <= top * 1.000001
