"""The sizing worksheet as text for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from preflight.render.page import Page
from preflight.studies.worksheet import BUCKETS, Worksheet, WorksheetRow
from preflight.units import GIB, format_count

NAMES = ("method", "seq", "ckpt")
HEADS = ("weights", "grads", "states", "acts", "other", "total")


def worksheet_lines(sheet: Worksheet, page: Page, budget: float | None, verbose: bool) -> list[str]:
    """Return three tables, memory on one device, fewest devices, and the cheapest, with what they assume."""
    lines = [line for answer in answers(sheet) for line in page.wrap(answer, "", "  ")]
    lines += [
        "",
        *page.wrap(
            page.paint(f"{sheet.model}: {format_count(sheet.num_params)} parameters", "bold")
            + f", micro batch {sheet.rows[0].micro_batch_size}"
        ),
    ]
    lines += ["", *page.wrap("one rank that holds all, GiB at the peak, and the smallest card:")]
    lines += page.table(_memory_rows(sheet), right=(1, 3, 4, 5, 6, 7, 8))
    lines += ["", *page.wrap(f"fewest devices on which it fits, sharded{_within(budget)}:")]
    devices = device_rows(sheet, budget)
    lines += page.table(devices, right=(1, *range(3, len(devices[0]))))
    lines += ["", *page.wrap("the cheapest of them:")]
    lines += page.table(cost_rows(sheet, budget), right=(1, 4, 5))
    whose = "; ".join(f"{short_key(key)} {words}" for key, words in sheet.prices.items())
    notes = [f"prices, lowest listed: {whose}"] if whose else []
    notes += [
        f"{method}: {note} ({source if verbose else source.partition(',')[0]})"
        for method, (note, source) in sheet.quality.items()
    ]
    lines.append("")
    for note in notes:
        lines += page.wrap(note)
    if verbose:
        lines += ["", "taken for granted:"]
        for name, text in sheet.assumptions.items():
            lines += page.wrap(f"{name}: {text}", "  ", "    ")
    else:
        lines += page.wrap("-v shows what is taken for granted; --set changes it")
    return lines


METHOD_WORDS = {"qlora": "QLoRA", "lora": "LoRA", "full": "full"}


def answers(sheet: Worksheet) -> list[str]:
    """Return for each card what one of it trains, and to which length."""
    lines: list[str] = []
    for card, methods in sheet.longest.items():
        said = [
            f"{METHOD_WORDS[method]}: no"
            if methods[method] is None
            else f"{METHOD_WORDS[method]} to {methods[method]:,} tokens"
            for method in METHOD_WORDS
        ]
        lines.append(f"on 1 x {card}, with checkpointing: {', '.join(said)}")
    return lines


def _within(budget: float | None) -> str:
    return "" if budget is None else f", at most {budget:g} $/hour"


def _memory_rows(sheet: Worksheet) -> list[list[str]]:
    rows = [[*NAMES, *HEADS, "card"]]
    for row in sheet.rows:
        cells = [_gib(row.buckets.num_bytes[name]) for name in BUCKETS]
        card = "none" if row.smallest_device is None else short_key(row.smallest_device)
        rows.append([*_names(row), *cells, _gib(row.total_bytes), card])
    return rows


def device_rows(sheet: Worksheet, budget: float | None) -> list[list[str]]:
    """Return the fewest devices of each card, a heading first; `-` for none, or too dear."""
    keys = list(sheet.rows[0].num_devices)
    rows = [[*NAMES, *map(short_key, keys)]]
    for row in sheet.rows:
        rows.append([*_names(row), *(_number(row, key, budget) for key in keys)])
    return rows


def cost_rows(sheet: Worksheet, budget: float | None) -> list[list[str]]:
    """Return the cheapest devices of each row with their prices, a heading first."""
    rows = [[*NAMES, "devices", "$/hour", "$/M tokens"]]
    for row in sheet.rows:
        key = row.cheapest(budget)
        if key is None:
            rows.append([*_names(row), "none", "", ""])
            continue
        tokens = row.usd_per_million_tokens[key]
        cells = [f"{row.num_devices[key]} x {key}", f"{row.usd_per_hour[key]:.2f}"]
        rows.append([*_names(row), *cells, "" if tokens is None else f"{tokens:g}"])
    return rows


def short_key(key: str) -> str:
    """Return what a narrow column calls a card: `h100-80` for h100-sxm-80, `4090` for rtx4090-24."""
    if key.startswith("rtx"):
        return key.removeprefix("rtx").rpartition("-")[0]
    for build in ("-sxm", "-pcie", "-nvl"):
        key = key.replace(build, "")
    return key


def _number(row: WorksheetRow, key: str, budget: float | None) -> str:
    number, usd = row.num_devices[key], row.usd_per_hour.get(key)
    if number is None or (budget is not None and (usd is None or usd > budget)):
        return "-"
    return str(number)


def _names(row: WorksheetRow) -> list[str]:
    return [row.name, str(row.seq_len), row.activation_checkpointing]


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f}"


def markdown_lines(sheet: Worksheet, budget: float | None) -> list[str]:
    """Return the tables for a wiki or a pull request."""
    lines = [f"## {sheet.model}, {format_count(sheet.num_params)} parameters", ""]
    lines += [f"Micro batch {sheet.rows[0].micro_batch_size}.", ""]
    lines += ["One rank that holds all, GiB at the peak, and the smallest card:", ""]
    lines += _markdown(_memory_rows(sheet), (1, 3, 4, 5, 6, 7, 8))
    devices = device_rows(sheet, budget)
    lines += ["", f"Fewest devices on which it fits, sharded{_within(budget)}:", ""]
    lines += _markdown(devices, (1, *range(3, len(devices[0]))))
    lines += ["", "The cheapest of them:", "", *_markdown(cost_rows(sheet, budget), (1, 4, 5))]
    lines += ["", "Taken for granted:", ""]
    lines += [f"- {name}: {text}" for name, text in sheet.assumptions.items()]
    lines += [
        f"- quality of {method}: {note} ({source})"
        for method, (note, source) in sheet.quality.items()
    ]
    lines += [f"- price of {key}: {words}" for key, words in sheet.prices.items()]
    return lines


def _markdown(rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    head, *body = rows
    rule = ["--:" if i in right else "---" for i in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *body)]


def csv_text(sheets: Sequence[Worksheet]) -> str:
    """Return every row of every model as CSV; numbers and prices of a card in columns of their own."""
    out = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for sheet in sheets:
        for row in sheet.rows:
            flat = {"model": sheet.model, "num_params": sheet.num_params}
            for name, value in row.to_dict().items():
                if isinstance(value, dict):
                    flat.update({f"{name}.{key}": number for key, number in value.items()})
                else:
                    flat[name] = value
            if writer is None:
                writer = csv.DictWriter(out, list(flat), lineterminator="\n")
                writer.writeheader()
            writer.writerow(flat)
    return out.getvalue()
