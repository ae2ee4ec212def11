"""docs/comparison.md quotes the measured runs and preflight's own predictions as they are today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from preflight.formats.load import read_data_file
from preflight.plugins import load_plugins
from preflight.studies.measured import read_runs
from preflight.studies.validate import validate_run
from preflight.units import GIB

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "comparison.md").read_text()
JOBS = {"A": "fms_a100-033", "B": "fms_a100-009", "C": "stas00-001"}


def row_of(name: str) -> list[str]:
    """Return the cells of one tool's row."""
    (line,) = re.findall(rf"^\| ({re.escape(name)}\b.*) \|$", PAGE, re.M)
    return [cell.strip() for cell in line.split("|")]


@pytest.mark.parametrize("job", JOBS)
def test_the_page_quotes_the_run_and_what_preflight_says_of_it(job, tmp_path):
    runs = read_runs(read_data_file(str(ROOT / "tests" / "measured" / "runs-dev.yaml")))
    (run,) = [run for run in runs if run.id == JOBS[job]]
    validated = validate_run(run, load_plugins(str(tmp_path)))
    measured, predicted = (
        f"{run.measured_bytes / GIB:.1f}",
        f"{validated.predicted_bytes / GIB:.1f}",
    )
    device = (run.other_counters or {}).get("device")
    if device is not None:
        measured += f", device {device / GIB:.1f}"
        predicted += f", device {validated.predicted['device'] / GIB:.1f}"
    column = 1 + "ABC".index(job)

    assert f"`{run.id}`" in PAGE
    assert row_of("measured")[column] == measured
    assert row_of("preflight 0.1.0")[column] == predicted


def test_every_tool_of_the_numbers_is_described():
    numbers, _, rest = PAGE.partition("## What each is good at")
    described = rest.partition("## What preflight does that")[0]
    tools = re.findall(r"^\| ([a-zA-Z-]+)[^|]* \| +[\d.-]", numbers, re.M)

    assert len(tools) >= 9
    assert not [
        tool for tool in tools if tool not in ("measured", "preflight") and tool not in described
    ]
