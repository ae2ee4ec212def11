"""The sizing worksheet as text for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from preflight.render.page import Page
from preflight.studies.worksheet import BUCKETS, Worksheet, WorksheetRow
from preflight.units import GIB, format_count

NAMES = ("method", "seq", "ckpt")
HEADS = ("params", "grads", "optim", "acts", "other", "total")


def worksheet_lines(
    sheet: Worksheet, page: Page, budget: float | None, verbose: bool, is_long: bool = False
) -> list[str]:
    """Return the answer, then memory on one device and the fewest devices of each method; long, of every row."""
    lines = [line for answer in answers(sheet) for line in page.wrap(answer, "", "  ")]
    of_model = f"{sheet.model}: {format_count(sheet.num_params)} parameters"
    micro = f", micro batch {sheet.rows[0].micro_batch_size}, above with checkpointing"
    lines += ["", *page.wrap(page.paint(of_model, "bold") + micro)]
    lines += _long_tables(sheet, page, budget) if is_long else _short_tables(sheet, page, budget)
    whose = "; ".join(f"{key} {words}" for key, words in sheet.prices.items())
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
        more = "" if is_long else "; --long shows every length, and without checkpointing"
        lines += page.wrap(f"-v shows what is taken for granted; --set changes it{more}")
    return lines


def compared_lines(sheets: Sequence[Worksheet], page: Page) -> list[str]:
    """Return models side by side as a terminal shows them."""
    lines: list[str] = []
    for title, rows in side_by_side(sheets):
        lines += [*page.wrap(f"{title}:"), *page.table(rows, right=range(1, len(rows[0]))), ""]
    return [*lines, *page.wrap("--long shows the worksheet of each, -v what is taken for granted")]


def side_by_side(sheets: Sequence[Worksheet]) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield what each method takes of each model at one length, then how long rows may be on one of each card: a title,
    and rows under a heading."""
    first, *_ = short = [_middle_rows(sheet) for sheet in sheets]
    names = [row.name for row in first]
    peaks = [["model", "parameters", *names]]
    for sheet, rows in zip(sheets, short, strict=True):
        taken = {row.name: _gib(row.total_bytes) for row in rows}
        of_model = format_count(sheet.num_params)
        peaks.append([sheet.model, of_model, *(taken.get(name, "-") for name in names)])
    at = f"{first[0].seq_len:,} tokens, with checkpointing"
    yield f"side by side, one rank at {at}, GiB at the peak", peaks
    for card in sheets[0].longest:
        longest = [["model", *METHOD_WORDS]]
        for sheet in sheets:
            fits = [sheet.longest[card][method] for method in METHOD_WORDS]
            longest.append([sheet.model, *(f"{most:,}" if most else "no" for most in fits)])
        yield f"longest rows on 1 x {card}, in tokens", longest


def _middle_rows(sheet: Worksheet) -> list[WorksheetRow]:
    """Return the rows of every method at the length in the middle, with checkpointing."""
    lengths = sorted({row.seq_len for row in sheet.rows})
    length = lengths[(len(lengths) - 1) // 2]
    return [
        row
        for row in sheet.rows
        if row.seq_len == length and row.activation_checkpointing == "full"
    ]


def _short_tables(sheet: Worksheet, page: Page, budget: float | None) -> list[str]:
    """Return a row for every method, at the length in the middle with checkpointing."""
    rows = _middle_rows(sheet)
    at = f"{rows[0].seq_len:,} tokens, with checkpointing"
    lines = ["", *page.wrap(f"one rank at {at}, GiB at the peak, and the smallest card:")]
    held = [["method", *HEADS, "card"]]
    for row in rows:
        cells = [_gib(row.buckets.num_bytes[name]) for name in BUCKETS]
        held.append([row.name, *cells, _gib(row.total_bytes), row.smallest_device or "none"])
    lines += page.table(held, right=(1, 2, 3, 4, 5, 6))
    lines += ["", *page.wrap(f"fewest cards at {at}, sharded, and $/hour{_within(budget)}:")]
    fewest = [["card", *(row.name for row in rows)]]
    for key in sheet.rows[0].num_devices:
        fewest.append([key, *(_number_and_price(row, key, budget) for row in rows)])
    return lines + page.table(fewest, right=range(1, len(rows) + 1))


def _number_and_price(row: WorksheetRow, key: str, budget: float | None) -> str:
    number, usd = _number(row, key, budget), row.usd_per_hour.get(key)
    return number if usd is None or number == "-" else f"{number} ({usd:.2f} $)"


MOST_CARDS = 3
"""Cards of a table that a line of 80 holds beside method, length and checkpointing."""


def _long_tables(sheet: Worksheet, page: Page, budget: float | None) -> list[str]:
    """Return three tables of every row: memory on one device, fewest devices, and the cheapest."""
    lines = ["", *page.wrap("one rank that holds all, GiB at the peak, and the smallest card:")]
    lines += page.table(_memory_rows(sheet), right=(1, 3, 4, 5, 6, 7, 8), indent="")
    lines += ["", *page.wrap(f"fewest devices on which it fits, sharded{_within(budget)}:")]
    devices = device_rows(sheet, budget)
    for first in range(3, len(devices[0]), MOST_CARDS):
        part = [[*row[:3], *row[first : first + MOST_CARDS]] for row in devices]
        lines += page.table(part, right=(1, *range(3, len(part[0]))))
    lines += ["", *page.wrap("the cheapest of them:")]
    return lines + page.table(cost_rows(sheet, budget), right=(1, 4, 5))


METHOD_WORDS = {"qlora": "QLoRA", "lora": "LoRA", "full": "full"}


def answers(sheet: Worksheet) -> list[str]:
    """Return for each card what one of it trains, and to which length."""
    lines: list[str] = []
    for card, methods in sheet.longest.items():
        said = [
            f"{METHOD_WORDS[method]}: no"
            if methods[method] is None
            else f"{METHOD_WORDS[method]} to {methods[method]:,}{'' if said_of(methods) != method else ' tokens'}"
            for method in METHOD_WORDS
        ]
        lines.append(f"on 1 x {card}: {', '.join(said)}")
    return lines


def said_of(methods: Mapping[str, int | None]) -> str:
    """Return the first method that fits at all: the one whose number is called tokens."""
    return next((method for method in METHOD_WORDS if methods[method] is not None), "")


def _within(budget: float | None) -> str:
    return "" if budget is None else f", at most {budget:g} $/hour"


def _memory_rows(sheet: Worksheet) -> list[list[str]]:
    rows = [[*NAMES, *HEADS, "card"]]
    for row in sheet.rows:
        cells = [_gib(row.buckets.num_bytes[name]) for name in BUCKETS]
        card = row.smallest_device or "none"
        rows.append([*_names(row), *cells, _gib(row.total_bytes), card])
    return rows


def device_rows(sheet: Worksheet, budget: float | None) -> list[list[str]]:
    """Return the fewest devices of each card, a heading first; `-` for none, or too dear."""
    keys = list(sheet.rows[0].num_devices)
    rows = [[*NAMES, *keys]]
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
