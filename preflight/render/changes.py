"""What was changed and what could be: remedies with their measured effect, and the diff."""

from __future__ import annotations

from preflight.render.page import Page
from preflight.render.words import of_capacity
from preflight.report import Report, TriedRemedy
from preflight.units import format_gib
from preflight.verdict import Answer

COPIES = "`preflight fix` writes a copy of the script with it"


def applied_lines(report: Report, page: Page) -> list[str]:
    """Return what was changed, and the peak after each change."""
    if not report.applied:
        return []
    is_beside = report.is_dear and report.suggested
    lines = ["applied, and slow; what is faster is suggested below:" if is_beside else "applied:"]
    for tried in report.applied:
        lines += page.wrap(f"{tried.remedy.id}: {tried.remedy.title}", "  ", "    ")
        lines += page.wrap(_measured(tried, report), "    ", "    ")
        for note in tried.remedy.notes:
            lines += page.wrap(note, "    ", "    ")
    return lines


def alternative_lines(report: Report, page: Page) -> list[str]:
    """Return the next best answers, and where the time of a step goes before and after the best one."""
    lines = []
    for path in report.alternatives:
        titles = "; ".join(tried.remedy.title for tried in path)
        lines += page.wrap(f"also {path[-1].verdict.answer.words}: {titles}", "", "  ")
        lines += page.wrap(_measured(path[-1], report), "  ", "  ")
    if report.applied:
        lines += page.wrap(f"step time: {_parts(report.applied[-1])}", "", "  ")
    return lines


def by_hand_lines(report: Report, page: Page) -> list[str]:
    """Return the edits that make it fit and train the same, where they are of files that preflight does not write."""
    if not report.by_hand:
        return []
    last = report.by_hand[-1]
    titles = "; ".join(tried.remedy.title for tried in report.by_hand)
    would = "would fit" if last.verdict.answer is Answer.FITS else "would be tight"
    does = " and train the same" if is_same_by_hand(report) else ", changing training as allowed"
    lines = page.wrap(f"{would}{does}, edited by hand: {titles}", "", "  ")
    lines += page.wrap(_measured(last, report), "  ", "  ")
    for edit in last.remedy.extra.get("edits", ()):
        lines += page.wrap(edit, "  ", "    ")
    return lines + ([f"  {COPIES}"] if last.remedy.extra.get("can_copy") else [])


def is_same_by_hand(report: Report) -> bool:
    """Tell whether the edits that a person is told keep the training, none of them being one that was allowed."""
    return all(tried.remedy.keeps_training for tried in report.by_hand)


def _parts(tried: TriedRemedy) -> str:
    """Return the shares of a step, largest first: an estimate from counts and rates, not a measurement."""
    whole = sum(tried.step_time_parts.values())
    parts = sorted(tried.step_time_parts.items(), key=lambda part: -part[1])
    shares = [f"{name} {seconds / whole:.0%}" for name, seconds in parts if seconds >= whole / 100]
    return f"about x{tried.step_time_factor:.2f}; {', '.join(shares)}"


def change_lines(report: Report, page: Page) -> list[str]:
    """Return the diff of files, flags and environment."""
    rewrite = report.rewrite
    if rewrite is None:
        return []
    lines = []
    for file in rewrite.files:
        for line in file.diff.splitlines():
            lines.append(_painted_diff(line, page))
    pairs = [("flags", list(rewrite.argv_diff))]
    pairs.append(("environment", [("", f"{name}={value}") for name, value in rewrite.env.items()]))
    for title, changes in pairs:
        if changes:
            lines.append(f"{title}:")
        for removed, added in changes:
            lines += [_painted_diff(f"- {removed}", page)] if removed else []
            lines += [_painted_diff(f"+ {added}", page)] if added else []
    return lines


def _painted_diff(line: str, page: Page) -> str:
    color = {"+": "green", "-": "red"}.get(line[:1])
    return page.paint(line, color) if color else line


MOST_IN_FULL = 3
"""Suggestions that a report shows with their edits; `-v` shows all of them."""


def suggested_lines(report: Report, page: Page, is_verbose: bool = False) -> list[str]:
    """Return what would help and was not asked for, each estimated; what would not help in one line."""
    helps = [t for t in report.suggested if t.verdict.answer is not Answer.DOES_NOT_FIT]
    head = page.wrap("suggested, not applied (each estimated on this launch):")
    lines = head if helps else []
    in_full = len(helps) if is_verbose else MOST_IN_FULL
    for tried in helps[:in_full]:
        remedy = tried.remedy
        changes = "" if remedy.keeps_training else " (changes training)"
        lines += page.wrap(f"{remedy.id}: {remedy.title}{changes}", "  ", "    ")
        lines += page.wrap(_measured(tried, report), "    ", "    ")
        edits = remedy.extra.get("edits", ())
        for edit in edits or ([f"add  {remedy.how}"] if remedy.how else ()):
            lines += page.wrap(edit, "    ", "         ")
        helpers = "; ".join(remedy.extra.get("with", {}).values())
        if helpers and not edits:
            lines += page.wrap(f"and  {helpers}", "    ", "         ")
        for note in remedy.notes:
            lines += page.wrap(note, "    ", "    ")
    also = [f"{t.remedy.id} ({_measured(t, report)})" for t in helps[in_full:]]
    if also:
        lines += page.wrap(f"also, with -v in full: {', '.join(also)}", "  ", "    ")
    lines += allow_lines(helps, page)
    useless = [
        f"{t.remedy.id} (peak {_peak(t, report)})" for t in report.suggested if t not in helps
    ]
    if useless:
        lines += page.wrap(f"does not fit either: {', '.join(useless)}")
    return lines


def allow_lines(helps: list[TriedRemedy], page: Page) -> list[str]:
    """Return which suggestions `--allow` would write into the launch."""
    unsafe = [tried.remedy for tried in helps if not tried.remedy.is_safe]
    can = [f"--allow {remedy.id}" for remedy in unsafe if remedy.extra.get("can_write") is True]
    copies = [f"--allow {r.id}" for r in unsafe if r.extra.get("can_copy") is True]
    cannot = [
        f"{remedy.id} ({why})" if (why := remedy.extra.get("why_not")) else remedy.id
        for remedy in unsafe
        if remedy.extra.get("can_write") is False and not remedy.extra.get("can_copy")
    ]
    lines = []
    if can:
        lines += page.wrap(f"preflight writes it into the launch with {' or '.join(can)}", "  ")
    if copies:
        lines += page.wrap(f"{COPIES}, with {' or '.join(copies)}", "  ")
    if cannot:
        lines += page.wrap(f"by hand, not written by preflight: {', '.join(cannot)}", "  ")
    return lines


def _peak(tried: TriedRemedy, report: Report) -> str:
    peak = tried.estimate.device_peak_bytes if tried.estimate.peaks else 0
    capacity = report.device.capacity_bytes if report.device else None
    return of_capacity(peak, capacity) if capacity else format_gib(peak)


def _measured(tried: TriedRemedy, report: Report) -> str:
    factor = tried.step_time_factor
    time = "" if round(factor, 2) == 1.0 else f", step time about x{factor:.2f}"
    return f"peak {_peak(tried, report)}: {tried.verdict.answer.words}{time}"
