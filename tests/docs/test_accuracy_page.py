"""docs/accuracy.md and its picture are what the command says today."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from preflight.cli import main
from preflight.derive.costs import formula_table
from preflight.derive.pages.accuracy_page import BEGIN, END, RUNS, lines, measured_validation
from preflight.derive.pages.leave_one_out import compared_runs, margin_of
from preflight.derive.target import put_between
from preflight.plan_choices import ENGINES
from preflight.verdict import ENGINE_MARGIN_SHARES, MARGIN_SHARE, margin_share_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "accuracy.md"
PICTURE = ROOT / "docs" / "validate.svg"
COMMAND = ("validate", *RUNS, "--plot")
UPDATE_TABLES = "python -m preflight.derive accuracy"
UPDATE = "pytest tests/docs/test_accuracy_page.py --update-expected"


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> tuple[str, str]:
    """The text and the picture that the command makes now."""
    picture, text = tmp_path_factory.mktemp("told") / "validate.svg", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        patch.chdir(ROOT)
        patch.setenv("COLUMNS", "100")
        patch.setenv("NO_COLOR", "1")
        code = main([*COMMAND, str(picture)])

    assert code == 0
    return text.getvalue(), picture.read_text()


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


@pytest.fixture(scope="module")
def validation():
    """Every measured run of the checkout beside its prediction."""
    return measured_validation()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_margin_is_what_nine_of_ten_runs_need_where_their_source_is_left_out(
    engine, validation
):
    derived = margin_of(engine, compared_runs(validation))

    assert margin_share_of(engine) == pytest.approx(derived)


def test_the_tables_of_left_out_sources_are_todays(validation):
    page = PAGE.read_text()

    assert put_between(page, BEGIN, END, lines(validation)) == page, UPDATE_TABLES


def test_live_tensors_and_the_device_are_right_to_what_the_page_promises(validation):
    allocated, device = (validation.summary_of(c) for c in ("allocated", "device"))

    assert allocated.macro_median_abs_error <= 0.015
    assert device.median_abs_error <= 0.05
    assert validation.summary_of("reserved").macro_median_abs_error <= 0.04


def test_no_run_that_died_was_said_to_fit_and_none_that_ran_was_refused(told):
    assert "0 false fits, 0 false blocks" in told[0]


def test_the_constants_on_the_page_are_those_of_the_code():
    from preflight.devices.step_links import LINK_SHARE
    from preflight.devices.step_work import MATMUL_SHARE
    from preflight.formulas.outside_torch import (
        CUDA_CONTEXT_BYTES,
        LEAST_CONTEXT_BYTES,
        NCCL_FIRST_BYTES,
        NCCL_GROUP_BYTES,
    )
    from preflight.hooks.memory_host import PROCESS_BYTES
    from preflight.units import GIB, MIB

    page = PAGE.read_text().partition("## What is fitted")[2]
    for name, value in (
        ("CUDA context", f"{CUDA_CONTEXT_BYTES // MIB} MiB"),
        ("CUDA context, at least", f"{LEAST_CONTEXT_BYTES // MIB} MiB"),
        ("NCCL buffers, first group", f"{NCCL_FIRST_BYTES // MIB} MiB"),
        ("NCCL buffers, each other group", f"{NCCL_GROUP_BYTES // MIB} MiB"),
        ("a rank's process on the host", f"{PROCESS_BYTES // GIB} GiB"),
        ("margin of `fits`", f"{100 * MARGIN_SHARE:.1f} %"),
        ("margin of `fits`, one device", f"{100 * ENGINE_MARGIN_SHARES['single']:.1f} %"),
        ("margin of `fits`, FSDP1", f"{100 * ENGINE_MARGIN_SHARES['fsdp1']:.1f} %"),
        ("share of a card's peak rate: products", f"{MATMUL_SHARE:.2f}"),
        ("share of a link's rate: collectives", f"{LINK_SHARE:.2f}"),
    ):
        assert f"| {name} | {value} |" in page


def test_the_worst_cell_of_the_traces_is_the_one_that_the_page_says():
    page = (ROOT / "docs" / "formulas.md").read_text()
    table = page.partition(formula_table.BEGIN)[2].partition(formula_table.END)[0]
    cells = [float(cell) for cell in re.findall(r" ([+-]?\d\.\d\d) ", table)]
    said = re.search(r"\| ([\d.]+) % at worst, mostly 0.00", PAGE.read_text())
    assert said is not None

    assert round(max(map(abs, cells)), 1) == float(said[1])
    assert sum(abs(cell) < 0.005 for cell in cells) > len(cells) / 2
