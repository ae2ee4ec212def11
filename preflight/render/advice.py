"""The end of a report that nothing safe helps: what would fit, on how much, at what price."""

from __future__ import annotations

from preflight.advice import METHOD_NAMES, QUALITY, MethodAdvice
from preflight.render.page import Page
from preflight.render.words import amount
from preflight.report import Report
from preflight.units import format_count


def priced_words(report: Report) -> str:
    """Return what holds for every row: how the methods are counted, and whose prices stand beside them."""
    prices = {} if report.advice is None else report.advice.prices
    whose = "; ".join(dict.fromkeys(prices.values()))
    priced = f"; $ an hour at the lowest listed price: {whose}" if whose else ""
    return f"checkpointing, micro batch 1, weights and states sharded{priced}"


def advice_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return the head of the table of methods and a row for each; the column of prices only where there are some."""
    advice, device = report.advice, report.device
    if advice is None or device is None:
        return [], []
    head = ["method", "trained", f"peak on {report.plan.world_size}"]
    head += [f"fewest {device.name}", "$/hour"]
    rows = [
        [
            METHOD_NAMES[method.method],
            format_count(method.num_trainable_params),
            amount(method.device_peak_bytes, device.capacity_bytes),
            _least(method),
            "" if method.usd_per_hour is None else f"{method.usd_per_hour:.2f}",
        ]
        for method in advice.methods
    ]
    if all(method.usd_per_hour is None for method in advice.methods):
        return head[:-1], [row[:-1] for row in rows]
    return head, rows


def larger_words(report: Report) -> str:
    """Return on which larger device the launch's own method fits; empty where none is known."""
    advice = report.advice
    if advice is None or advice.device is None:
        return ""
    larger = advice.device
    name = METHOD_NAMES[advice.methods[0].method]
    peak = amount(larger.device_peak_bytes, larger.capacity_bytes)
    cost = "" if larger.usd_per_hour is None else f", {larger.usd_per_hour:.2f} $/hour"
    capacity = amount(larger.capacity_bytes, larger.capacity_bytes)
    where = f"{larger.num_ranks} x {larger.name} ({larger.key})"
    return f"{name} on {where}: {peak} of {capacity}{cost}"


def advice_lines(report: Report, page: Page, is_verbose: bool) -> list[str]:
    """Return a row for each method, a larger device, and what is known of the methods' quality."""
    advice = report.advice
    if advice is None or report.device is None:
        return []
    head, rows = advice_rows(report)
    lines = page.wrap(f"what would fit ({priced_words(report)}):")
    lines += page.table([head, *rows], right=(1, 2, 4))
    larger = larger_words(report)
    lines += page.wrap(larger, "  ", "    ") if larger else []
    known = []
    for method in advice.methods:
        text, source = QUALITY[method.method]
        if text and method.least_ranks is not None:
            known.append(f"{text} ({source if is_verbose else source.partition(',')[0]})")
        if is_verbose and method.how:
            lines += page.wrap(f"{METHOD_NAMES[method.method]}: {method.how}", "  ", "    ")
    return lines + (page.wrap("; ".join(known), "  ", "    ") if known else [])


def _least(method: MethodAdvice) -> str:
    if method.least_ranks is None:
        return "none (tight)" if method.verdict == "tight" else "none"
    nodes = method.least_nodes or 1
    return f"{method.least_ranks}" + (f" ({nodes} nodes)" if nodes > 1 else "")
