"""The sizing worksheet: its arithmetic, its command, and a public table beside it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import in_process
import pytest
import yaml

from preflight.judge import judge_plan
from preflight.policy import Policy
from preflight.render.page import Page
from preflight.render.worksheet import worksheet_lines
from preflight.studies.fewest_devices import NUMBERS, sharded
from preflight.studies.fitting import Choice
from preflight.studies.new_launch import Wish, read_choice
from preflight.studies.sizing import SizingRequest, _base_plan, _ways, size
from preflight.studies.worksheet import BUCKETS, WorksheetRow

ROOT = Path(__file__).parents[2]
TABLE: Mapping[str, Any] = yaml.safe_load(
    (Path(__file__).parents[1] / "measured" / "sizing_table.yaml").read_text()
)
PAGE = ROOT / "docs" / "sizing.md"
SOUND = 0.05
"""A row of the table comes out where it is within this share of what the worksheet has under its assumptions."""
LLAMA = "meta-llama/Llama-3.1-8B"


@pytest.fixture(scope="module")
def sheet(plugins):
    return size(LLAMA, SizingRequest(has_variants=True, seq_lens=(512, 4096)), plugins)


def rows_by(sheet, **wanted) -> list[WorksheetRow]:
    return [
        row
        for row in sheet.rows
        if all(getattr(row, name) == value for name, value in wanted.items())
    ]


def test_every_method_length_and_checkpointing_has_one_row(sheet):
    seen = {(row.name, row.seq_len, row.activation_checkpointing) for row in sheet.rows}

    assert len(seen) == len(sheet.rows)
    assert {name for name, *_ in seen} == {
        *("full", "full 8bit", "lora", "lora 8bit", "dora", "qlora", "qlora 8bit", "qdora")
    }
    assert len(seen) == 8 * 2 * 2


def test_full_training_in_fp32_holds_16_bytes_a_parameter(sheet):
    for row in rows_by(sheet, method="full", variant=""):
        held = row.buckets.num_bytes
        states = held["weights"] + held["gradients"] + held["optimizer_states"]

        assert states == pytest.approx(16 * sheet.num_params, rel=1e-4)


def test_a_row_adds_up_and_what_is_inside_other_is_no_more_than_it(sheet):
    for row in sheet.rows:
        assert set(row.buckets.num_bytes) == set(BUCKETS)
        inside = row.buckets.logits_bytes + row.buckets.runtime_bytes
        assert 0 < inside <= row.buckets.num_bytes["other"]


def test_what_saves_memory_never_takes_more(sheet):
    """Checkpointing beside none, LoRA beside full, QLoRA beside LoRA, an 8-bit optimizer beside Adam."""

    def total(name: str, seq_len: int, checkpointing: str) -> int:
        (row,) = (
            row
            for row in sheet.rows
            if (row.name, row.seq_len, row.activation_checkpointing)
            == (name, seq_len, checkpointing)
        )
        return row.total_bytes

    for seq_len in (512, 4096):
        for name in {row.name for row in sheet.rows}:
            assert total(name, seq_len, "full") <= total(name, seq_len, "none")
        for checkpointing in ("none", "full"):
            at = seq_len, checkpointing
            assert total("qlora", *at) < total("lora", *at) < total("full", *at)
            assert total("full 8bit", *at) < total("full", *at)
            assert total("lora 8bit", *at) < total("lora", *at)


def test_a_larger_card_needs_no_more_of_them(sheet):
    order = ("rtx4090-24", "rtx5090-32", "l40s-48", "a100-sxm-80", "h200-sxm-141")
    for row in sheet.rows:
        numbers = [row.num_devices[key] or 10**6 for key in order]

        assert numbers == sorted(numbers, reverse=True)
        assert set(row.num_devices.values()) <= {*NUMBERS, None}


def test_the_smallest_card_holds_what_a_smaller_one_does_not(plugins):
    (row,) = size(LLAMA, SizingRequest(seq_lens=(2048,), devices=("h100-sxm-80",)), plugins).rows[
        4:5
    ]

    assert (row.method, row.activation_checkpointing) == ("qlora", "none")
    assert row.smallest_device == "a4500-20"
    assert 16 * 2**30 < row.total_bytes < 20 * 2**30


def test_what_is_set_changes_the_rows_it_is_about(plugins):
    plain = size(LLAMA, SizingRequest(seq_lens=(512,)), plugins)
    wide = size(LLAMA, SizingRequest(seq_lens=(512,), settings={"adapter.rank": 64}), plugins)

    for before, after in zip(plain.rows, wide.rows, strict=True):
        factor = 1 if before.method == "full" else 4
        assert after.num_trainable_params == factor * before.num_trainable_params
    assert wide.assumptions["adapter.rank"] == "64, by --set"


def test_own_prices_and_a_budget_decide_what_is_cheapest(plugins):
    from preflight.devices.prices import Price

    devices = ("a100-sxm-80", "h100-sxm-80")
    prices = {"a100-sxm-80": Price(9.0, "", "", "mine.yaml")}
    request = SizingRequest(seq_lens=(512,), devices=devices, prices=prices)
    row = size(LLAMA, request, plugins).rows[0]

    assert row.usd_per_hour["a100-sxm-80"] == 9.0 * (row.num_devices["a100-sxm-80"] or 0)
    assert row.cheapest() == "h100-sxm-80"
    assert row.cheapest(budget=0.5) is None


def test_the_first_lines_say_what_one_card_trains_and_agree_with_the_rows(sheet):
    """A length of a row fits on one card if and only if it is no longer than the longest that is said."""
    lines = worksheet_lines(sheet, Page(200), None, False)
    checked = [
        row for row in sheet.rows if row.activation_checkpointing == "full" and not row.variant
    ]

    for card, methods in sheet.longest.items():
        assert any(line.startswith(f"on 1 x {card}") for line in lines[: len(sheet.longest)])
        for row in checked:
            longest = methods[row.method]
            fits = longest is not None and row.seq_len <= longest
            assert (row.num_devices[card] == 1) is fits, (card, row.method, row.seq_len)


@pytest.mark.parametrize("model", [LLAMA, "google/gemma-2-9b"])
def test_a_row_is_to_the_byte_what_check_says_of_the_launch_that_init_writes(
    plugins, tmp_path, model
):
    for row in size(model, SizingRequest(seq_lens=(2048,)), plugins).rows:
        wish = Wish(model, "h100-sxm-80", 1, 1, row.method, 2048, str(tmp_path))
        choice = Choice("single", row.activation_checkpointing == "full", 1, 2)
        checked = judge_plan(read_choice(wish, choice, plugins), plugins, Policy()).estimate

        assert checked is not None
        assert row.total_bytes == checked.device_peak_bytes


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_so_is_the_plan_over_several_devices(plugins, tmp_path, method):
    wish = Wish(LLAMA, "h100-sxm-80", 8, 1, method, 2048, str(tmp_path))
    checked = judge_plan(
        read_choice(wish, Choice("fsdp2", True, 1, 2, True), plugins), plugins, Policy()
    )
    (edits,) = (edits for name, _, edits in _ways(False) if name == method)
    own = {**edits, "seq_len": 2048, "activation_checkpointing": "full"}
    plan = sharded(_base_plan(LLAMA, SizingRequest()).with_edits(own), 8)
    ours = judge_plan(plan, plugins, Policy(), checked.model, checked.device)

    assert checked.estimate is not None and ours.estimate is not None
    assert ours.estimate.device_peak_bytes == checked.estimate.device_peak_bytes


def test_without_an_option_every_method_has_one_row(sheet):
    lines = worksheet_lines(sheet, Page(200), None, False)
    names = {row.name for row in sheet.rows}

    for name in names:
        assert sum(line.startswith(f"  {name}  ") for line in lines) == 1
    for card in sheet.longest:
        assert sum(line.startswith(f"  {card} ") for line in lines) == 1


@pytest.mark.parametrize("width", [80, 40])
def test_lines_are_no_wider_than_the_page(sheet, width):
    for verbose in (False, True):
        lines = worksheet_lines(sheet, Page(width), None, verbose)

        wide = [line for line in lines if len(line) > width and " " in line.strip()]
        assert wide == []


def test_every_row_of_all_variants_is_one_line_of_a_terminal():
    words = ("Qwen/Qwen3-8B", "--all", "--long", "--seq-len", "8192", "--compare", LLAMA)
    whole = preflight(*words).stdout
    lines = whole[whole.index("on 1 x") :].splitlines()  # past what stands side by side
    tables = 2 + 2  # memory and the cheapest, and the cards in two parts

    assert sum(" none  " in line or " full  " in line for line in lines) == 2 * tables * 16
    assert [line for line in lines if line.startswith(" " * 6)] == []


def test_models_stand_side_by_side_with_the_numbers_of_their_own_worksheets():
    words = ("--seq-len", "512", "--gpu", "t4-16", "--gpu", "h100-sxm-80")
    others = ("Qwen/Qwen3-8B", "Qwen/Qwen3-0.6B")
    whole = preflight(LLAMA, *words, "--compare", *others)
    page = [line.split() for line in whole.stdout.splitlines()]

    assert "worksheet of each" in whole.stdout
    for model in (LLAMA, *others):
        alone = json.loads(preflight(model, *words, "--format", "json").stdout)
        peaks = [
            f"{row['total_bytes'] / 2**30:.1f}"
            for row in alone["rows"]
            if row["activation_checkpointing"] == "full"
        ]
        rows = [row for row in page if row[:1] == [model]]
        assert rows[0][-len(peaks) :] == peaks
        told = preflight(model, *words).stdout.splitlines()
        answers = [line.partition(": ")[2] for line in told if line.startswith("on 1 x")]
        for row, answer in zip(rows[1:], answers, strict=True):
            said = [each.replace(" tokens", "").split()[-1] for each in answer.split(", ")]
            assert row[1:] == said


def preflight(*words: str) -> subprocess.CompletedProcess[str]:
    return in_process.preflight(Path(), "size", *words)


def test_json_is_the_contract():
    run = preflight(
        LLAMA,
        "--seq-len",
        "512",
        "--format",
        "json",
        "--compare",
        "Qwen/Qwen3-8B",
        "Qwen/Qwen3-14B",
    )
    whole = json.loads(run.stdout)

    assert whole["schema_version"] == 1
    assert whole["model"] == {"name": LLAMA, "num_params": 8_030_261_248}
    assert [other["model"]["name"] for other in whole["compare"]] == [
        "Qwen/Qwen3-8B",
        "Qwen/Qwen3-14B",
    ]
    for row in whole["rows"]:
        parts = [row[f"{name}_bytes"] for name in BUCKETS]
        assert sum(parts) == row["total_bytes"]
        assert row["method"] in ("full", "lora", "qlora")
        assert row["activation_checkpointing"] in ("none", "full")
        assert row["num_devices"].keys() == row["usd_per_hour"].keys()


def test_csv_and_markdown_have_the_same_numbers():
    words = (LLAMA, "--seq-len", "512", "--gpu", "h100-sxm-80")
    table = list(csv.DictReader(io.StringIO(preflight(*words, "--format", "csv").stdout)))
    page = preflight(*words, "--format", "md").stdout

    assert len(table) == 6
    for row in table:
        total = f"{int(row['total_bytes']) / 2**30:.1f}"
        assert any(row["method"] in line and total in line for line in page.splitlines())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody/no-such-model",), "nobody/no-such-model"),
        ((LLAMA, "--gpu", "h1000"), "no card is called 'h1000'"),
        ((LLAMA, "--gpu", "a100"), "a100-sxm-40"),
        ((LLAMA, "--seq-len", "0"), "--seq-len must be at least 1"),
        ((LLAMA, "--set", "seqlen=3"), "no plan field 'seqlen'"),
    ],
)
def test_bad_input_is_named(words, said):
    run = preflight(*words)

    assert run.returncode == 2
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def of_table(entry: Mapping[str, Any], plugins) -> float:
    """Return the decimal GB of live tensors that the worksheet has under the table's assumptions."""
    settings = {**TABLE["settings"], **entry.get("settings", {})}
    settings = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    sheet = size(entry["model"], SizingRequest(seq_lens=(512,), settings=settings), plugins)
    wanted = {name: entry[name] for name in ("method", "activation_checkpointing")}
    (row,) = rows_by(sheet, **wanted)
    return (row.total_bytes - row.buckets.runtime_bytes) / 1e9


def is_sound(entry: Mapping[str, Any], ours: float) -> bool:
    return abs(entry["says"] / ours - 1) <= SOUND


def page_of(numbers: list[float]) -> str:
    """Return docs/sizing.md."""
    lines = [
        "# The sizing worksheet, beside a public table",
        "",
        "`preflight size MODEL` says what full training, LoRA and QLoRA of a model take before there is a launch:",
        "memory of one rank by what holds it, the smallest card, the fewest devices when sharded, dollars an hour"
        " and for a million tokens.",
        "Every row is a plan, priced by the same terms as a launch: it is to the byte what `check` says of the launch"
        " that `init` writes, with the loss of TRL's trainer.",
        "`-v` shows what it takes for granted, and `--set` changes that; `--long` has every length, with and without"
        " checkpointing.",
        "The devices that it counts can be rented: 1, 2, 4 or whole nodes of 8, each with its own activations,"
        " gathered layers, allocator, context and NCCL buffers.",
        "",
        "## A public table",
        "",
        f"{TABLE['source']}.",
        f"It states: {TABLE['states']}.",
        "Its full rows come out without activation checkpointing, its LoRA and QLoRA rows of 8 billion parameters and"
        " more only with it.",
        "It counts live tensors and no allocator or CUDA context, in decimal GB; so does the column `worksheet` here,"
        " at exact parameter counts.",
        "Its numbers of cards (3, 5 and 11 for 14B, 32B and 70B) are totals over 80 GB, rounded up: nodes of that many"
        " are not rented, and what each card has for itself is not in them.",
        "",
        "Written by `pytest tests/studies/test_sizing.py --update-expected` from `tests/measured/sizing_table.yaml`;"
        f" a row is sound within {SOUND:.0%}.",
        "",
        "| row | model | method | checkpointing | table, GB | worksheet, GB | verdict | why |",
        "|---|---|---|---|--:|--:|---|---|",
    ]
    for entry, ours in zip(TABLE["rows"], numbers, strict=True):
        off = entry["says"] / ours - 1
        verdict = "sound" if is_sound(entry, ours) else f"wrong, {off:+.0%}"
        lines.append(
            f"| {entry['row']} | {entry['model']} | {entry['method']} |"
            f" {entry['activation_checkpointing']} | {entry['says']} | {ours:.1f} | {verdict} |"
            f" {entry.get('because', '')} |"
        )
    num_sound = sum(map(is_sound, TABLE["rows"], numbers))
    lines += ["", f"{num_sound} of {len(numbers)} rows are sound."]
    return "\n".join(lines) + "\n"


def test_the_public_table_comes_out_where_it_is_sound(plugins, request):
    """A row that is off says why, and one that is not off claims no reason."""
    numbers = [of_table(entry, plugins) for entry in TABLE["rows"]]
    if request.config.getoption("--update-expected"):
        PAGE.write_text(page_of(numbers))

    for entry, ours in zip(TABLE["rows"], numbers, strict=True):
        assert is_sound(entry, ours) is ("because" not in entry), (entry, ours)
    assert PAGE.read_text() == page_of(numbers)
