"""A report as text: the verdict first, what happens next last, and between them only what is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from preflight.finding import Finding
from preflight.launch import PLAN_FIELDS
from preflight.memory import Level
from preflight.render.assumed import assumed_lines, version_lines
from preflight.render.changes import (
    alternative_lines,
    applied_lines,
    by_hand_lines,
    change_lines,
    suggested_lines,
)
from preflight.render.estimate import estimate_lines, host_lines
from preflight.render.next_step import next_lines, unread_launch
from preflight.render.page import Page
from preflight.render.readings import (
    cannot_tell,
    longest_words,
    of_two_readings,
    reading_lines,
    tight_elsewhere,
)
from preflight.render.room import longer_lines, room_words
from preflight.render.words import PHASE_WORDS, amount, devices, of_capacity, plan_value
from preflight.report import Report
from preflight.units import GIB, format_gib
from preflight.verdict import Answer

MOST_OF_A_KIND = 12
"""Warnings of one kind that are told one by one: a script that drags a whole library in has a hundred."""
ANSWER_COLORS = {
    Answer.FITS: "green",
    Answer.TIGHT: "yellow",
    Answer.UNKNOWN: "yellow",
    Answer.DOES_NOT_FIT: "red",
}


def report_lines(report: Report, door: str, page: Page, is_verbose: bool = False) -> list[str]:
    """Return the report for a door (check, run, fix, estimate), one string per line."""
    answer = report.verdict.answer
    lines = head_lines(report, page)
    lines += reading_lines(report, page)
    # Why nobody can tell is a warning's to say, and comes before what was taken for granted.
    first = ("error", "warning") if answer is Answer.UNKNOWN else ("error",)
    lines += every_finding(
        [each for each in report.findings if each.severity in first], page, is_verbose
    )
    # What to do comes first: who reads ten lines has read it. Then why.
    lines += applied_lines(report, page)
    lines += change_lines(report, page)
    lines += by_hand_lines(report, page)
    lines += suggested_lines(report, page, is_verbose)
    lines += longer_lines(report, page)
    if is_verbose:
        lines += alternative_lines(report, page)
    room = room_words(report)
    if room:
        lines += page.wrap(f"headroom: {room}")
    lines += assumed_lines(report, page)
    lines += version_lines(report, page)
    if answer is not Answer.FITS or is_verbose:
        lines += estimate_lines(report, page, is_verbose)
    elif report.estimate is not None and is_host_remarkable(report):
        lines += host_lines(report.estimate, page, report.plan.host_memory_gib)
    told = {"warning", "info"} if is_verbose else {"warning"}
    lines += every_finding(
        [each for each in report.findings if each.severity in told - {*first}], page, is_verbose
    )
    if is_verbose:
        lines += plan_lines(report, page)
    if report.advice is not None:
        from preflight.render.advice import advice_lines

        lines += advice_lines(report, page, is_verbose)
    for note in report.notes:
        lines += page.wrap(f"note: {note}")
    lines += left_alone_lines(report.left_alone, page)
    return lines + next_lines(report, door)


def left_alone_lines(left_alone: Iterable[str], page: Page) -> list[str]:
    """Return which files with settings or hooks were not obeyed, and why."""
    return [line for words in dict.fromkeys(left_alone) for line in page.wrap(f"note: {words}")]


def said_at_once(report: Report) -> str:
    """Return the verdict with all that its head says, in one line."""
    head = " ".join(line.strip() for line in head_lines(report, Page(10**6)))
    return head.removeprefix("preflight: ")


def head_lines(report: Report, page: Page) -> list[str]:
    """Return the verdict, the peak that decides it and the device, and where a run would die."""
    verdict = report.verdict
    words = verdict.answer.words
    question = cannot_tell(report)
    if question:
        said = "cannot tell"
        return [question.replace(said, page.paint(said, ANSWER_COLORS[Answer.UNKNOWN]), 1)]
    is_rewritten = bool(report.applied and report.rewrite)
    text = f"preflight: {words}"
    if is_rewritten:
        after_words = report.final_verdict.answer.words
        text += f" as written, {'still ' if after_words == words else ''}{after_words} rewritten"
    if verdict.answer is Answer.UNKNOWN:
        unread = unread_launch(report)
        text += f": {unread.message if unread else verdict.reason}{longest_words(report)}"
    text += "."
    device, estimate = report.device, report.estimate
    if estimate is not None and estimate.peaks:
        peak = estimate.device_peak_bytes
        readings = report.readings
        is_end = readings is not None and readings.shown is not readings.likely
        is_cap = "seq_len" in verdict.missing and "seq_len" not in estimate.unknown
        bound = "At most" if is_end or is_cap else "At least" if estimate.unknown else "Peak"
        if verdict.unpriced:
            bound = "Counted"
        if device is None:
            text += f" {bound} {format_gib(peak)} per rank"
        else:
            of = of_capacity(peak, device.capacity_bytes)
            if is_rewritten:
                after = report.applied[-1].estimate.device_peak_bytes
                of = f"{amount(peak, device.capacity_bytes).split()[0]} -> " + of_capacity(
                    after, device.capacity_bytes
                )
            text += f" {bound} {of} per rank{_elsewhere(report, device.capacity_bytes) or _unfragmented(report)}"
            text += f" ({devices(report.plan, device)})"
    if verdict.failing_level is Level.HOST:
        text += _on_host(report, is_rewritten)
    if verdict.failing_phase is not None:
        does = "dies" if verdict.answer is Answer.DOES_NOT_FIT else "may die of fragmentation"
        if verdict.failing_level is Level.HOST:
            does = (
                "dies of host memory" if verdict.answer is Answer.DOES_NOT_FIT else "may run short"
            )
        subject = "as written it " if is_rewritten else ""
        text += f", {subject}{does} {PHASE_WORDS[verdict.failing_phase]}"
    # The first line is enough on its own, so it is not broken.
    return [text.replace(words, page.paint(words, ANSWER_COLORS[verdict.answer]), 1)]


def _on_host(report: Report, is_rewritten: bool) -> str:
    """Return what a node's ranks need of its host memory, of what there is."""
    estimate, gib = report.estimate, report.plan.host_memory_gib
    if estimate is None or gib is None:
        return ""
    capacity, needed = gib * GIB, estimate.host_peak_bytes_per_node
    of = of_capacity(needed, capacity)
    if is_rewritten:
        after = report.applied[-1].estimate.host_peak_bytes_per_node
        of = f"{amount(needed, capacity).split()[0]} -> {of_capacity(after, capacity)}"
    return f", {of} of host memory per node"


def _elsewhere(report: Report, capacity_bytes: int) -> str:
    """Return what a launch takes with the value that nobody said and that makes it tight."""
    readings = tight_elsewhere(report)
    if readings is None:
        return ""
    taken, most = of_two_readings(readings)
    peak, least = (
        amount(count, capacity_bytes)
        for count in (readings.most.peak_bytes, readings.most.least_bytes)
    )
    return f" {taken}, {peak} {most} ({least} unfragmented)"


def _unfragmented(report: Report) -> str:
    """Return what a tight launch holds if the allocator loses nothing: the peak itself may be above the capacity."""
    last = report.applied[-1] if report.applied and report.rewrite else None
    estimate = report.estimate if last is None else last.estimate
    verdict = report.final_verdict
    if (
        verdict.answer is not Answer.TIGHT
        or estimate is None
        or verdict.failing_level is Level.HOST
    ):
        return ""
    return f", {amount(estimate.needed_bytes, report.device.capacity_bytes if report.device else None)} unfragmented"


def is_host_remarkable(report: Report) -> bool:
    """Tell whether a node needs more host memory than its devices have: few nodes are built that way; or whether
    the launch moves something there, and nobody said how much there is."""
    if report.estimate is None or report.device is None:
        return False
    if report.plan.offloads and report.plan.host_memory_gib is None:
        return True
    on_devices = report.device.capacity_bytes * report.plan.ranks_per_node
    return report.device.has_runtime and report.estimate.host_peak_bytes_per_node > on_devices


def every_finding(findings: Iterable[Finding], page: Page, is_verbose: bool) -> list[str]:
    """Return what checks found; of a warning that many lines of a script gave, the first few, and how many more."""
    lines: list[str] = []
    num_said: Counter[str] = Counter()
    for finding in findings:
        num_said[finding.id] += finding.severity == "warning"
        if is_verbose or num_said[finding.id] <= MOST_OF_A_KIND:
            lines += finding_lines(finding, page)
    left = sum(max(0, number - MOST_OF_A_KIND) for number in num_said.values())
    if left and not is_verbose:
        lines += page.wrap(f"warning: and {left} more of these, with -v in full")
    return lines


def finding_lines(finding: Finding, page: Page) -> list[str]:
    """Return what a check found, with its place and its fix."""
    # PF100 stands for what has no page of its own.
    known_as = " ".join(part for part in (finding.id, finding.name) if part not in ("", "PF100"))
    known_as = f" ({known_as})" if known_as else ""
    lines = page.wrap(f"{finding.severity}: {finding.message}{known_as}")
    if finding.where:
        lines.append(f"  at   {finding.where}")
    if finding.fix:
        lines += page.wrap(finding.fix, "  fix  ", "       ")
    return lines


def plan_lines(report: Report, page: Page) -> list[str]:
    """Return every plan value with its origin."""
    return ["plan:", *page.table(list(plan_rows(report)))]


def plan_rows(report: Report) -> Iterator[tuple[str, str, str]]:
    """Yield every plan field with its value and where that comes from."""
    for name in PLAN_FIELDS:
        if name == "cwd":
            continue
        origin = report.plan.origins.get(name)
        where = "" if origin is None else origin.where + (" (assumed)" if origin.assumed else "")
        value = plan_value(report.plan, name)
        if name == "model_config" and report.plan.model_config is not None:
            value = f"{len(report.plan.model_config)} keys"
        yield name, value, where
