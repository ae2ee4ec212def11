"""What `validate` draws and explains: the picture, the worst rows, the cap at the capacity."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from preflight.cli import main
from preflight.device import DeviceSpec
from preflight.formats.load import read_data_file
from preflight.memory import ALWAYS, Level, MemoryTerm
from preflight.peaks import estimate_peaks
from preflight.plugins import load_plugins
from preflight.render.page import Page
from preflight.render.scatter import scatter_svg
from preflight.render.validation import validation_lines
from preflight.studies.measured import read_runs
from preflight.studies.validate import Validation, levels_of, validate_runs

MEASURED = Path(__file__).parents[1] / "measured" / "runs-dev.yaml"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def real_runs() -> Validation:
    return validate_runs(read_runs(read_data_file(str(MEASURED))), load_plugins())


def marks_of(svg: str) -> dict[tuple[str, str], ElementTree.Element]:
    """Return (run id, counter or nothing) -> its mark, by the tooltip that names both."""
    marks = {}
    for element in ElementTree.fromstring(svg):
        title = element.find(f"{SVG}title")
        if title is not None and title.text:
            run_id, _, says = title.text.partition(": ")
            words = says.partition(";")[0].split(", ")
            marks[run_id, words[2] if len(words) == 3 else ""] = element
    return marks


def test_every_run_with_two_numbers_and_every_run_that_died_is_drawn(real_runs):
    marks = marks_of(scatter_svg(real_runs))
    drawn = {(v.run.id, v.run.counter) for v in real_runs.compared if v.error is not None}
    drawn |= {(v.run.id, "") for v in real_runs.runs if v.run.outcome == "oom"}

    assert set(marks) == drawn


def test_shape_and_color_say_the_counter_and_filling_says_scored(real_runs):
    marks = marks_of(scatter_svg(real_runs))
    shapes = {"allocated": "circle", "reserved": "rect", "device": "path"}
    for v in real_runs.compared:
        if v.error is None:
            continue
        mark = marks[v.run.id, v.run.counter]
        kind = mark.get("class", "").split()

        assert (v.run.counter, "solid" if v.run.is_scored else "hollow") == tuple(kind[1:])
        assert mark.tag == SVG + shapes[kind[1]]


def test_a_run_above_the_diagonal_is_predicted_too_large(real_runs):
    """The square's lower left corner is at (72, 656): on the diagonal, x - 72 = 656 - y."""
    marks = marks_of(scatter_svg(real_runs))
    for v in real_runs.compared:
        mark = marks.get((v.run.id, v.run.counter or ""))
        if v.error is None or mark is None or abs(v.error) < 0.01 or v.run.counter == "device":
            continue
        if mark.tag == f"{SVG}circle":
            x, y = float(mark.get("cx", 0)), float(mark.get("cy", 0))
        else:
            x, y = float(mark.get("x", 0)) + 4.2, float(mark.get("y", 0)) + 4.2

        assert ((656 - y) > (x - 72)) == (v.error > 0), v.run.id


def test_the_picture_says_in_words_what_it_shows_and_needs_no_other_file(real_runs):
    svg = scatter_svg(real_runs)
    root = ElementTree.fromstring(svg)
    title, desc = root.find(f"{SVG}title"), root.find(f"{SVG}desc")

    assert root.get("role") == "img" and root.get("aria-labelledby") == "title desc"
    assert title is not None and title.text and "165 runs" in title.text
    assert desc is not None and desc.text and "Median error of scored runs" in desc.text
    assert "prefers-color-scheme: dark" in svg
    assert "href" not in svg and "url(" not in svg and "<script" not in svg


def test_a_picture_of_no_runs_is_a_picture():
    ElementTree.fromstring(scatter_svg(Validation(())))


def test_words_from_a_file_are_escaped(tmp_path):
    path = tmp_path / "runs.yaml"
    path.write_text(MEASURED.read_text().replace("group: deepspeed\n", 'group: "a<b & c"\n', 1))
    svg = scatter_svg(validate_runs(read_runs(read_data_file(str(path))), load_plugins()))

    assert "a&lt;b &amp; c" in svg
    ElementTree.fromstring(svg)


def test_another_picture_format_is_refused_before_anything_is_estimated(capsys):
    code = main(["validate", "no-such-file.yaml", "--plot", "runs.png"])
    told = capsys.readouterr().err

    assert code == 2
    assert "--plot writes SVG" in told and "rsvg-convert" in told


@pytest.mark.parametrize("number", ["-1", "many"])
def test_a_number_of_worst_runs_that_is_none_is_bad_input(number, capsys):
    assert main(["validate", str(MEASURED), f"--worst={number}"]) == 2
    assert "must be a whole number" in capsys.readouterr().err


def test_the_worst_runs_are_explained_by_their_launch_and_terms(real_runs):
    lines = validation_lines(real_runs, Page(100), num_explained=3)
    for v in real_runs.worst_first(real_runs.scored_by_counter)[:3]:
        at = next(i for i, line in enumerate(lines) if line.startswith(f"  {v.run.id}: "))
        explained = "\n".join(lines[at : at + 12])

        assert "largest terms" in explained
        assert str(v.run.plan.model) in explained


def test_terms_that_are_shown_make_up_the_prediction(real_runs):
    """Shown terms and the rest, together, are the predicted bytes wherever nothing was capped."""
    for v in real_runs.runs:
        if v.predicted_bytes is not None and not v.is_capped:
            assert sum(term.num_bytes for term in v.terms) == v.predicted_bytes, v.run.id


def test_the_json_explains_the_same_runs_as_the_text(real_runs):
    assert "worst" not in real_runs.to_dict()
    explained = real_runs.to_dict(2)["worst"]
    worst = [v.run.id for v in real_runs.worst_first(real_runs.scored_by_counter)[:2]]

    assert [run["id"] for run in explained][-2:] == worst
    assert all(run["terms"][0]["num_bytes"] > 0 for run in explained)


def test_runs_that_do_not_score_stand_in_the_table_with_their_reason(real_runs):
    text = " ".join(" ".join(validation_lines(real_runs, Page(120))).split())

    for reason in {v.run.not_scored_because for v in real_runs.runs if not v.run.is_scored}:
        assert f"not scored: {reason}" in text


def estimate_of(allocated: int, reserved: int, device: int):
    levels = ((Level.ALLOCATED, allocated), (Level.RESERVED, reserved), (Level.DEVICE, device))
    return estimate_peaks(
        MemoryTerm(level.value, num_bytes, ALWAYS, level=level) for level, num_bytes in levels
    )


def test_reserved_ends_at_the_capacity_where_live_tensors_fit():
    estimate = estimate_of(allocated=70, reserved=40, device=5)
    device = DeviceSpec("card", 100)

    assert levels_of(estimate) == {"allocated": 70, "reserved": 110, "device": 115}
    assert levels_of(estimate, device) == {"allocated": 70, "reserved": 95, "device": 100}


def test_a_run_that_does_not_fit_is_predicted_as_what_it_would_need():
    estimate = estimate_of(allocated=96, reserved=40, device=5)

    assert levels_of(estimate, DeviceSpec("card", 100))["device"] == 141
