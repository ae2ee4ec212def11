"""The end of a report that nothing safe helps: what would fit, on how much, at what price."""

from __future__ import annotations

from preflight.advice import METHOD_NAMES, QUALITY, MethodAdvice
from preflight.render.page import Page
from preflight.render.words import amount
from preflight.report import Report
from preflight.units import format_count


def advice_lines(report: Report, page: Page, is_verbose: bool) -> list[str]:
    """Return a row for each method, a larger device, and what is known of the methods' quality."""
    advice, device = report.advice, report.device
    if advice is None or device is None:
        return []
    whose = "; ".join(dict.fromkeys(advice.prices.values()))
    priced = f"; $ an hour at the lowest listed price: {whose}" if whose else ""
    lines = page.wrap(
        f"what would fit (checkpointing, micro batch 1, weights and states sharded{priced}):"
    )
    ranks = report.plan.world_size
    rows = [["method", "trained", f"peak on {ranks}", f"fewest {device.name}", "$/hour"]]
    for method in advice.methods:
        rows.append(
            [
                METHOD_NAMES[method.method],
                format_count(method.num_trainable_params),
                amount(method.device_peak_bytes, device.capacity_bytes),
                _least(method),
                "" if method.usd_per_hour is None else f"{method.usd_per_hour:.2f}",
            ]
        )
    if all(method.usd_per_hour is None for method in advice.methods):
        rows = [row[:-1] for row in rows]
    lines += page.table(rows, right=(1, 2, 4))
    larger = advice.device
    if larger is not None:
        name = METHOD_NAMES[advice.methods[0].method]
        peak = amount(larger.device_peak_bytes, larger.capacity_bytes)
        cost = "" if larger.usd_per_hour is None else f", {larger.usd_per_hour:.2f} $/hour"
        capacity = amount(larger.capacity_bytes, larger.capacity_bytes)
        lines += page.wrap(
            f"{name} on {larger.num_ranks} x {larger.name} ({larger.key}): {peak} of {capacity}{cost}",
            "  ",
            "    ",
        )
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
