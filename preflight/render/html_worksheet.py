"""The sizing worksheet as one HTML file: a bar per row, the fewest of each card, and the cheapest."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from preflight.render.html_bars import bar, legend, scale_of
from preflight.render.html_page import page, table
from preflight.render.worksheet import answers, cost_rows, device_rows, side_by_side
from preflight.studies.worksheet import Worksheet, WorksheetRow
from preflight.units import GIB, format_count

WORDS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer_states": "optimizer states",
    "activations": "activations",
    "buffers": "logits, copies of weights, buffers, allocator and context",
}


def worksheet_html(sheets: Sequence[Worksheet], budget: float | None) -> str:
    """Return one page of one model's worksheet, or several."""
    scale = scale_of([row.total_bytes for sheet in sheets for row in sheet.rows], None)
    body: list[str] = []
    for title, cells in side_by_side(sheets) if len(sheets) > 1 else ():
        head, *rows = [[escape(cell) for cell in row] for row in cells]
        columns = range(1, len(head))
        shown = title[:1].upper() + title[1:]
        body += [f"<h2>{escape(shown)}</h2>", *table(head, rows, right=columns, caption=shown)]
    for sheet in sheets:
        body.append(
            f"<h1>{escape(sheet.model)}: {format_count(sheet.num_params)} parameters,"
            f" micro batch {sheet.rows[0].micro_batch_size}</h1>"
        )
        body += [f"<p>{escape(line)}</p>" for line in answers(sheet)]
        body += ["<h2>One rank that holds all</h2>", legend(list(WORDS), WORDS)]
        rows = [_row(row, scale) for row in sheet.rows]
        head = ["method", "seq", "ckpt", "GiB by what holds it", "total", "smallest card"]
        body += table(head, rows, right=(1, 4), caption="Memory of one rank", kind="sheet", wide=3)
        for title, cells in (
            ("Fewest devices on which it fits, sharded", device_rows(sheet, budget)),
            ("The cheapest of them", cost_rows(sheet, budget)),
        ):
            first, *rest = [[escape(cell) for cell in row] for row in cells]
            right = (1, *range(3 if cells[0][3] != "devices" else 4, len(first)))
            body += [f"<h2>{title}</h2>", *table(first, rest, right=right, caption=title)]
        body.append("<h2>Taken for granted</h2><ul>")
        told = [f"{name}: {text}" for name, text in sheet.assumptions.items()]
        told += [f"{name}: {note} ({source})" for name, (note, source) in sheet.quality.items()]
        told += [f"price of {key}: {words}" for key, words in sheet.prices.items()]
        body += [f"<li>{escape(line)}</li>" for line in told]
        body.append("</ul>")
    return page("preflight size", body)


def _row(row: WorksheetRow, scale: int) -> list[str]:
    sums = dict(row.buckets.num_bytes)
    sums["buffers"] = sums.pop("other")
    sums.update(logits=0, allocator=0, outside_torch=0)
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in row.buckets.num_bytes.items())
    return [
        escape(row.name),
        str(row.seq_len),
        escape(row.activation_checkpointing),
        bar(sums, scale, None, f"{row.total_bytes / GIB:.1f} GiB: {parts}"),
        f"{row.total_bytes / GIB:.1f}",
        escape(row.smallest_device or "none"),
    ]
