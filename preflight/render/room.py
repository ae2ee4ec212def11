"""What a launch leaves, in words: of one that fits the largest micro batch and the longest rows that fit too, of one
whose length nobody said how long rows may be with each remedy."""

from __future__ import annotations

from preflight.render.page import Page
from preflight.render.words import amount
from preflight.report import Report


def room_words(report: Report) -> str:
    """Return one clause for each number that was found; empty where nothing was looked for."""
    room = report.extra.get("room")
    if room is None:
        return ""
    plan = report.final_plan
    left = amount(room["headroom_bytes"], report.device.capacity_bytes if report.device else None)
    micro, seq_len = room["micro_batch_size"], room["seq_len"]
    larger, only = [], []
    if micro is not None and plan.micro_batch_size is not None:
        if micro > plan.micro_batch_size:
            larger.append(f"with micro batches up to {micro:,}")
        else:
            only.append("no larger micro batch")
    if seq_len is not None and plan.seq_len is not None:
        if seq_len > plan.seq_len:
            positions = report.model.config.get("max_position_embeddings") if report.model else None
            whole = ", all that the model has positions for" if seq_len == positions else ""
            larger.append(f"with rows of up to {seq_len:,} tokens{whole}")
        else:
            only.append("no longer rows")
    words = f"{left} at the peak{_of_which_reading(report, room['headroom_bytes'])}"
    if larger:
        words += f"; it also fits {', or '.join(larger)}"
    if only:
        words += f"; {' and '.join(only)}"
    if report.verdict.bounded:
        words += f"; the most that {' and '.join(report.verdict.bounded)} may take fits beside it"
    return words


def _of_which_reading(report: Report, headroom_bytes: int) -> str:
    """Return which peak headroom is beside, where that is another than the one that the first line says."""
    estimate = report.applied[-1].estimate if report.applied and report.rewrite else report.estimate
    if report.device is None or estimate is None or not estimate.peaks:
        return ""
    capacity_bytes = report.device.capacity_bytes
    peak = amount(capacity_bytes - headroom_bytes, capacity_bytes)
    if peak == amount(estimate.device_peak_bytes, capacity_bytes):
        return ""
    return f" of the dearest reading, {peak}"


MOST_LISTED = 5
"""Remedies that are listed where nobody said how long rows are; JSON has all."""


def longer_lines(report: Report, page: Page) -> list[str]:
    """Return the remedies that make longer rows fit; nothing where the answer does not wait for a length."""
    found = report.extra.get("longest_seq_len_with", ())
    rows = []
    for one in found[:MOST_LISTED]:
        changes = " (changes training)" if one["safety"] == "changes_training" else ""
        rows.append([f"{one['seq_len']:,}", f"{one['id']}: {one['title']}{changes}"])
    if not rows:
        return []
    return ["rows that fit with one change, in tokens:", *page.table(rows, right=(0,))]
