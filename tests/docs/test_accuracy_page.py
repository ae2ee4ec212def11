"""docs/accuracy.md and its picture are what the command says today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from preflight.cli import main
from preflight.verdict import MARGIN_SHARE

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "accuracy.md"
PICTURE = ROOT / "docs" / "validate.svg"
COMMAND = ("validate", "tests/measured/runs-dev.yaml", "--plot")
UPDATE = "pytest tests/docs/test_accuracy_page.py --update-expected"


@pytest.fixture
def told(tmp_path, monkeypatch, capsys) -> tuple[str, str]:
    """The text and the picture that the command makes now."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    code = main([*COMMAND, str(tmp_path / "validate.svg")])

    assert code == 0
    return capsys.readouterr().out, (tmp_path / "validate.svg").read_text()


def test_the_page_shows_what_the_command_prints_today(told, request):
    text, picture = told
    page = PAGE.read_text()
    block = re.search(r"```text\n(.*?)```\n", page, re.S)
    assert block is not None
    if request.config.getoption("--update-expected"):
        PAGE.write_text(page[: block.start(1)] + text + page[block.end(1) :])
        PICTURE.write_text(picture)
        return

    assert block[1] == text, UPDATE
    assert PICTURE.read_text() == picture, UPDATE
    assert " ".join(COMMAND) in page


def test_every_group_of_the_runs_is_explained_on_the_page(told):
    groups = set(re.findall(r"^  (\w+) +(?:single|ddp|fsdp\d|zero\d) ", told[0], re.M))
    explained = PAGE.read_text().partition("## The groups")[2]

    assert len(groups) >= 10
    assert not [group for group in groups if group not in explained]


def test_the_margin_is_what_nine_of_ten_reserved_predictions_are_off_by(told):
    found = re.search(r"^reserved: .* p90 ([\d.]+)%", told[0], re.M)
    assert found is not None

    assert float(found[1]) / 100 == pytest.approx(MARGIN_SHARE, abs=0.01)


def test_no_run_that_died_was_said_to_fit_and_none_that_ran_was_refused(told):
    assert "0 false fits, 0 false blocks" in told[0]


def test_the_constants_on_the_page_are_those_of_the_code():
    from preflight.devices.step_links import LINK_SHARE
    from preflight.devices.step_work import MATMUL_SHARE
    from preflight.hooks.memory_host import PROCESS_BYTES
    from preflight.hooks.memory_runtime import (
        CUDA_CONTEXT_BYTES,
        NCCL_GROUP_BYTES,
        NCCL_TWO_RANKS_BYTES,
    )
    from preflight.units import GIB, MIB

    page = PAGE.read_text().partition("## What is fitted")[2]
    for name, value in (
        ("CUDA context", f"{CUDA_CONTEXT_BYTES // MIB} MiB"),
        ("NCCL buffers, two ranks", f"{NCCL_TWO_RANKS_BYTES // MIB} MiB"),
        ("NCCL buffers, more ranks", f"{NCCL_GROUP_BYTES // MIB} MiB"),
        ("a rank's process on the host", f"{PROCESS_BYTES // GIB} GiB"),
        ("margin of `fits`", f"{100 * MARGIN_SHARE:.1f} %"),
        ("share of a card's peak rate: products", f"{MATMUL_SHARE:.2f}"),
        ("share of a link's rate: collectives", f"{LINK_SHARE:.2f}"),
    ):
        assert f"| {name} | {value} |" in page


def test_the_worst_cell_of_the_traces_is_the_one_that_the_page_says():
    table = (
        (ROOT / "docs" / "formulas.md").read_text().partition("<!-- formulas against traces -->")[2]
    )
    cells = [float(cell) for cell in re.findall(r" ([+-]?\d\.\d\d) ", table)]
    said = re.search(r"\| ([\d.]+) % at worst, mostly 0.00", PAGE.read_text())
    assert said is not None

    assert round(max(map(abs, cells)), 1) == float(said[1])
    assert sum(abs(cell) < 0.005 for cell in cells) > len(cells) / 2
