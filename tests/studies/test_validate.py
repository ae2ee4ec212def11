"""Predicted against measured: the arithmetic of the summary, the file's format, and the real runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preflight.cli import main
from preflight.errors import BadInput
from preflight.formats.load import read_data_file
from preflight.launch import LaunchPlan
from preflight.plugins import load_plugins
from preflight.render.page import Page
from preflight.render.validation import validation_lines
from preflight.studies.accuracy import quantile
from preflight.studies.measured import MeasuredRun, read_runs
from preflight.studies.validate import ValidatedRun, Validation, device_of, summarize
from preflight.verdict import Answer

MEASURED = Path(__file__).parents[1] / "measured" / "runs-dev.yaml"


def validated(
    run_id: str,
    group: str = "a",
    measured: int = 100,
    predicted: int | None = 100,
    counter: str = "allocated",
    **changes,
) -> ValidatedRun:
    answer = changes.pop("answer", Answer.FITS)
    outcome = changes.pop("outcome", "value")
    if outcome != "value":
        counter, measured = None, None
    run = MeasuredRun(
        run_id,
        group,
        LaunchPlan(),
        {},
        outcome,
        counter,
        measured,
        is_scored=changes.pop("scored", True),
    )
    assert not changes
    levels = {} if predicted is None else {"allocated": predicted, "reserved": 2 * predicted}
    return ValidatedRun(run, answer, levels)


def test_an_error_is_relative_to_what_was_measured():
    assert validated("x", measured=100, predicted=110).error == pytest.approx(0.1)
    assert validated("x", measured=100, predicted=90).error == pytest.approx(-0.1)


def test_each_counter_is_compared_with_the_level_of_its_name_only():
    assert validated("x", counter="reserved", predicted=50).predicted_bytes == 100
    assert validated("x", counter="allocated", predicted=50).predicted_bytes == 50
    assert validated("x", counter="unknown", predicted=50).error is None
    assert validated("x", outcome="oom").error is None


def test_groups_weigh_the_same_and_small_ones_are_pooled():
    """Four runs at 10 %, one each at 20 % and 40 % in groups of their own: (10 + 30) / 2."""
    runs = [validated(f"l{i}", "large", predicted=110) for i in range(4)]
    runs += [validated("s1", "small", predicted=120), validated("s2", "other", predicted=60)]
    summary = summarize(runs)

    assert summary.num_runs == 6
    assert summary.macro_median_abs_error == pytest.approx(0.2)
    assert summary.median_abs_error == pytest.approx(0.1)
    assert summary.median_error == pytest.approx(0.1)


def test_quantiles_are_linear_between_neighbours():
    assert quantile([1, 2, 3, 4], 0.5) == 2.5
    assert quantile([0, 10], 0.9) == pytest.approx(9)
    assert quantile([7], 0.9) == 7


def test_false_fits_and_blocks_count_scored_runs_and_leave_tight_alone():
    outcome = Validation(
        (
            validated("died", outcome="oom", answer=Answer.FITS),
            validated("died, tight", outcome="oom", answer=Answer.TIGHT),
            validated("died, said so", outcome="oom", answer=Answer.DOES_NOT_FIT),
            validated("died, not scored", outcome="oom", answer=Answer.FITS, scored=False),
            validated("ran, refused", answer=Answer.DOES_NOT_FIT),
            validated("ran without a value, refused", outcome="fits", answer=Answer.DOES_NOT_FIT),
            validated("ran, unknown", answer=Answer.UNKNOWN),
        )
    )

    assert [v.run.id for v in outcome.false_fits] == ["died"]
    assert [v.run.id for v in outcome.false_blocks] == [
        "ran, refused",
        "ran without a value, refused",
    ]
    assert outcome.to_dict()["summary"]["false_fits"] == 1
    assert outcome.to_dict()["summary"]["false_blocks"] == 2


def test_the_summary_counts_scored_runs_of_named_counters_only():
    summary = Validation(
        (
            validated("a", predicted=110),
            validated("b", predicted=500, scored=False),
            validated("c", predicted=500, counter="unknown"),
        )
    ).to_dict()["summary"]

    assert set(summary) == {"allocated", "false_fits", "false_blocks"}
    assert summary["allocated"]["num_runs"] == 1


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "runs.yaml"
    path.write_text(text)
    return str(path)


def test_every_problem_of_a_file_is_told_at_once_with_its_line(tmp_path):
    path = write(
        tmp_path,
        """\
schema: 1
models: {}
runs:
- id: one
  plan: {engine: fsdp3}
  device: {memory_gb: 80}
  measured: {outcome: value, counter: alocated, peak_bytes: 12.5}
- id: two
  plan:
    engine: ddp
    micro_batchsize: 4
  device: {memory_gb: 80}
  measured: {outcome: crashed}
- just a line
""",
    )

    with pytest.raises(BadInput) as error:
        read_runs(read_data_file(path))
    told = [(p.where.removeprefix(str(tmp_path)), p.message) for p in error.value.problems]

    assert [where for where, _ in told] == [
        "/runs.yaml:5",
        "/runs.yaml:4",
        "/runs.yaml:4",
        "/runs.yaml:11",
        "/runs.yaml:8",
        "/runs.yaml:14",
    ]
    assert "engine must be one of" in told[0][1]
    assert "there is no plan field 'micro_batchsize'" in told[3][1]
    assert "outcome must be value, fits, oom, not 'crashed'" in told[4][1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema: 2\nruns: []\n", "schema must be 1, not 2"),
        ("schema: 1\nruns: {}\n", "runs must be a list"),
        ("schema: 1\nschema: 1\nruns: []\n", "schema is given twice, on lines 1 and 2"),
        ("- 1\n", "holds a list, not a mapping"),
        ("", "is empty"),
        ("a: [1\n", "a `,`, `}` or `]` is missing"),
    ],
)
def test_a_malformed_file_is_bad_input_and_no_traceback(tmp_path, capsys, text, message):
    code = main(["validate", write(tmp_path, text)])
    told = capsys.readouterr().err

    assert code == 2
    assert message in told
    assert "runs.yaml" in told and "Traceback" not in told


def test_a_device_is_its_stated_bytes_before_its_key_before_its_nominal_size():
    plugins = load_plugins()

    def capacity(**device):
        return device_of(
            MeasuredRun("x", "g", LaunchPlan(), device, "fits"), plugins
        ).capacity_bytes

    table = capacity(key="a100-sxm-80", memory_gb=80)
    assert capacity(key="a100-sxm-80", memory_gb=80, capacity_bytes=1234) == 1234
    assert 78 * 2**30 < table < 80 * 2**30
    assert capacity(name="a card of nobody", memory_gb=16) == 16 * 2**30
    assert capacity(key="no-such-key", memory_gb=16) == 16 * 2**30


@pytest.fixture(scope="module")
def real_runs() -> Validation:
    from preflight.studies.validate import validate_runs

    return validate_runs(read_runs(read_data_file(str(MEASURED))), load_plugins())


def test_the_published_runs_all_have_a_prediction(real_runs):
    """A run without one would drop out of the error silently."""
    without = [(v.run.id, v.reason) for v in real_runs.scored if not v.predicted]

    assert len(real_runs.runs) == 165
    assert len(real_runs.scored) == 58
    assert not without


def test_the_json_of_the_published_runs_keeps_the_contract(real_runs):
    value = json.loads(json.dumps(real_runs.to_dict()))
    keys = {"id", "group", "engine", "counter", "measured_bytes", "predicted_bytes", "error"}

    assert value["schema_version"] == 1
    assert all(keys | {"outcome", "verdict"} <= set(run) for run in value["runs"])
    for run in value["runs"]:
        if run["error"] is not None:
            ratio = run["predicted_bytes"] / run["measured_bytes"]
            assert run["error"] == pytest.approx(ratio - 1)
    for counter in ("allocated", "reserved"):
        summary = value["summary"][counter]
        assert {"num_runs", "median_abs_error", "p90_abs_error", "macro_median_abs_error"} <= set(
            summary
        )


@pytest.mark.parametrize("width", [40, 80])
def test_the_text_says_the_errors_first_and_fits_the_terminal(real_runs, width):
    lines = validation_lines(real_runs, Page(width))

    assert lines[0].startswith("preflight: 58 scored runs")
    assert lines[-1].startswith("next: ")
    assert max(map(len, lines[1:-1])) <= width


@pytest.mark.parametrize(
    "device",
    [
        {"capacity_bytes": []},
        {"capacity_bytes": "5"},
        {"capacity_bytes": -1},
        {"capacity_bytes": 10**30},
        {"memory_gb": "x"},
        {"memory_gb": float("inf")},
        {"memory_gb": True},
    ],
)
def test_a_device_of_no_size_is_refused_by_name(device, tmp_path, capsys):
    run = {"id": "a", "plan": {"model": "gpt2"}, "device": device, "measured": {"outcome": "fits"}}
    path = tmp_path / "runs.json"
    path.write_text(json.dumps({"schema": 1, "runs": [run]}))

    assert main(["validate", str(path)]) == 2
    assert next(iter(device)) in capsys.readouterr().err


@pytest.mark.parametrize("peak", ["5", [], -1, True, 10**30, 1.5])
def test_a_second_counter_that_is_no_number_of_bytes_is_refused_by_name(peak, tmp_path, capsys):
    measured = {
        "outcome": "value",
        "counter": "allocated",
        "peak_bytes": 5,
        "device_peak_bytes": peak,
    }
    run = {"id": "a", "plan": {"model": "gpt2"}, "device": {"name": "x"}, "measured": measured}
    path = tmp_path / "runs.json"
    path.write_text(json.dumps({"schema": 1, "runs": [run]}))

    assert main(["validate", str(path)]) == 2
    assert "device_peak_bytes must be a whole number of bytes" in capsys.readouterr().err
