"""A report as text: the verdict first, what happens next last, and between them only what is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from preflight.finding import Finding
from preflight.formulas.buckets import peaks_of_launch
from preflight.formulas.left_out import ANOTHER_MODEL
from preflight.launch import PLAN_FIELDS, SCRIPT_DECIDES, Origin
from preflight.libraries.resolve import HERE
from preflight.memory import Level, MemoryEstimate, MemoryTerm, Phase
from preflight.plan_parts import NOTHING_SAYS
from preflight.render.changes import (
    alternative_lines,
    applied_lines,
    by_hand_lines,
    change_lines,
    suggested_lines,
)
from preflight.render.page import Page, bar
from preflight.render.readings import (
    best_question,
    cannot_tell,
    longest_words,
    option,
    reading_lines,
)
from preflight.render.words import (
    NOT_STATED,
    PHASE_WORDS,
    amount,
    devices,
    of_capacity,
    phase_name,
    plan_value,
    shell_command,
)
from preflight.report import Report
from preflight.units import GIB, format_count, format_gib
from preflight.verdict import Answer
from preflight.versions.boundary import release

NUM_TERMS_SHOWN = 6
MOST_OPTIONS = 3
BESIDE_BAR = 73
"""Columns of a phase's line without its bar."""
SHORTEST_BAR, LONGEST_BAR = 10, 30
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
    lines += assumed_lines(report, page)
    lines += version_lines(report, page)
    if answer is not Answer.FITS or is_verbose:
        lines += estimate_lines(report, page, is_verbose)
    elif report.estimate is not None and is_host_remarkable(report):
        lines += host_lines(report.estimate, page, report.plan.host_memory_gib)
    for finding in report.findings:
        if finding.severity != "info" or is_verbose:
            lines += finding_lines(finding, page)
    if is_verbose:
        lines += plan_lines(report, page)
    lines += applied_lines(report, page)
    if is_verbose:
        lines += alternative_lines(report, page)
    lines += change_lines(report, page)
    lines += by_hand_lines(report, page)
    lines += suggested_lines(report, page)
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
        text += f": {verdict.reason}{longest_words(report)}"
    text += "."
    device, estimate = report.device, report.estimate
    if estimate is not None and estimate.peaks:
        peak = estimate.device_peak_bytes
        bound = "At least" if estimate.unknown else "Peak"
        if report.readings is not None and report.readings.shown is not report.readings.likely:
            bound = "At most"
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
            text += f" {bound} {of} per rank{_unfragmented(report)}"
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


def assumed_lines(report: Report, page: Page) -> list[str]:
    """Return every value that nobody gave: guesses with their reason, then each library's defaults together."""
    guesses, unseen = [], []
    defaults: dict[str, list[str]] = {}
    for name, origin in sorted(report.plan.origins.items()):
        if not origin.assumed or report.is_idle(name):
            continue
        written = plan_value(report.plan, name)
        reason = (origin.reason or origin.where).partition("; ")[0]
        shown = f"{name} {written}" if written != NOT_STATED else f"{name} ({reason})"
        library = origin.where.removeprefix("default of ")
        if name == "versions":
            continue  # said with each library
        if name.startswith("versions."):
            unseen.append(_assumed_version(report, name.partition(".")[2], origin))
        elif origin.where.startswith("default of ") and " " in library:
            defaults.setdefault(f"defaults of {library}", []).append(shown)
        elif origin.where in (SCRIPT_DECIDES, NOTHING_SAYS):
            defaults.setdefault(origin.where, []).append(shown)
        else:
            guesses.append(shown if written == NOT_STATED else f"{shown} ({origin.reason})")
    like = None if report.model is None else report.model.like
    if like is not None and like.is_guess:
        guesses.append(f"model as {like.model} ({like.evidence})")
    if report.device is not None and report.device.is_assumed:
        guesses.append(f"device {report.device.name} ({report.device.source})")
    parts = ["; ".join(guesses)] if guesses else []
    parts += [f"{whose}: {', '.join(names)}" for whose, names in defaults.items()]
    if unseen:
        parts.append(f"versions, which nothing says: {', '.join(unseen)}")
    lines: list[str] = []
    for part in parts:
        lines += page.wrap(part, "  ", "    ") if lines else page.wrap(f"assumed: {part}")
    return lines


def _assumed_version(report: Report, library: str, origin: Origin) -> str:
    """Return a library with the oldest and the newest version that it may have."""
    plan = report.plan
    taken = plan.versions.get(library, "")
    others = [other.versions.get(library, "") for other in plan.version_readings]
    versions = sorted(
        (taken, *(v for v in others if v and release(v) != release(taken))), key=release
    )
    span = f"{library} {versions[0]} to {versions[-1]}" if versions[1:] else origin.where
    return f"{span} ({origin.reason})" if " asks for " in origin.reason else span


def version_lines(report: Report, page: Page) -> list[str]:
    """Return where the versions of the libraries come from, where that is not the Python that preflight runs in."""
    by_place: dict[str, list[str]] = {}
    for library, version in report.plan.versions.items():
        origin = report.plan.origins.get(f"versions.{library}")
        if origin is not None and not origin.assumed and origin.where != HERE:
            place = re.sub(r":\d+$", "", origin.where)
            by_place.setdefault(place, []).append(f"{library} {version}")
    if not by_place:
        return []
    named = (f"{', '.join(names)} ({place})" for place, names in by_place.items())
    return page.wrap(f"versions: {'; '.join(named)}")


def estimate_lines(report: Report, page: Page, is_verbose: bool) -> list[str]:
    """Return the model, the phases against the capacity, and the terms of the phase that decides."""
    estimate, model = report.estimate, report.model
    lines = []
    if model is not None:
        counts = f"{format_count(model.num_params)} parameters"
        if report.num_trainable_params not in (None, model.num_params):
            counts += f", {format_count(report.num_trainable_params or 0)} of them trained"
        if model.like is not None:
            counts += f" (shapes of {model.like.model}: {model.like.evidence})"
        elif is_verbose and model.source:
            counts += f" (from {model.source})"
        lines += page.wrap(f"model: {model.name}, {counts}")
    if report.device is not None and is_verbose:
        lines += page.wrap(f"device: {report.device.name} (from {report.device.source})")
    if estimate is None or not estimate.peaks:
        return lines
    lines += phase_lines(report, estimate, page)
    phase = report.verdict.failing_phase or estimate.peak.phase
    capacity = report.device.capacity_bytes if report.device else None
    is_of_host = report.verdict.failing_level is Level.HOST
    if is_of_host:
        lines += host_term_lines(estimate, phase, page)
    else:
        lines += term_lines(estimate, phase, page, capacity)
    if is_verbose:
        lines.append("all terms:")
        for term in estimate.terms:
            lines += _term_in_full(term, page)
    if is_of_host and not is_verbose:
        return lines
    return lines + host_lines(estimate, page, report.plan.host_memory_gib)


def host_lines(estimate: MemoryEstimate, page: Page, capacity_gib: int | None = None) -> list[str]:
    """Return what the fullest node needs of its own memory, when, and what most of that is."""
    phase, peak = estimate.host_peak_phase, estimate.host_peak_bytes_per_node
    if phase is None or not peak:
        return []
    alive = [t for t in estimate.terms if t.level is Level.HOST and phase in t.phases]
    most = max(alive, key=lambda term: term.num_bytes)
    name = most.name.removeprefix("host: ")
    words = f"host: {format_gib(peak)} per node {PHASE_WORDS[phase]}"
    if most.num_bytes * 2 > peak and name != "processes":
        words += f", most of it {name}" + (f" ({most.formula})" if most.formula else "")
    if capacity_gib is not None:
        words += f"; a node has {format_gib(capacity_gib * GIB)}"
    return page.wrap(words)


def is_host_remarkable(report: Report) -> bool:
    """Tell whether a node needs more host memory than its devices have: few nodes are built that way; or whether
    the launch moves something there, and nobody said how much there is."""
    if report.estimate is None or report.device is None:
        return False
    if report.plan.offloads and report.plan.host_memory_gib is None:
        return True
    on_devices = report.device.capacity_bytes * report.plan.ranks_per_node
    return report.device.has_runtime and report.estimate.host_peak_bytes_per_node > on_devices


def phase_lines(report: Report, estimate: MemoryEstimate, page: Page) -> list[str]:
    """Return a line per phase: live tensors, and what the driver would show."""
    capacity = report.device.capacity_bytes if report.device else None
    of = f"capacity {amount(capacity, capacity)}" if capacity else ""
    width = min(LONGEST_BAR, page.width - BESIDE_BAR)
    is_drawn = page.has_bars and capacity is not None and width >= SHORTEST_BAR
    drawn = [""] if is_drawn else []
    rows = [["phase", "tensors", "device", *drawn, of]]
    largest = max(capacity or 0, *(peak.device_bytes for peak in estimate.peaks))
    for peak in peaks_of_launch(estimate, report.plan):
        mark = ""
        if capacity is not None:
            if peak.needed_bytes > capacity:
                mark = "does not fit"
            elif peak.device_bytes > capacity:
                mark = "tight"
        is_first = peak.phase is report.verdict.failing_phase
        if is_first and report.verdict.failing_level is not Level.HOST:
            mark = (mark or "tight") + ", the first to fail"
        rows.append(
            [
                phase_name(peak.phase),
                amount(peak.allocated_bytes, capacity),
                amount(peak.device_bytes, capacity),
                *(bar(peak.device_bytes, capacity or 1, largest, width) for _ in drawn),
                mark,
            ]
        )
    return page.table(rows, right=(1, 2))


def host_term_lines(estimate: MemoryEstimate, phase: Phase, page: Page) -> list[str]:
    """Return what a node's host memory holds in a phase, largest first, with formulas."""
    alive = [t for t in estimate.terms if t.level is Level.HOST and phase in t.phases]
    alive.sort(key=lambda term: -term.num_bytes)
    rows = [
        [format_gib(t.num_bytes), t.name.removeprefix("host: "), t.formula]
        for t in alive
        if t.num_bytes
    ]
    return [*page.wrap(f"host memory {PHASE_WORDS[phase]}:"), *page.table(rows, right=(0,))]


def term_lines(
    estimate: MemoryEstimate, phase: Phase, page: Page, capacity: int | None
) -> list[str]:
    """Return the largest terms of a phase with their formulas."""
    peak = next((p for p in estimate.peaks if p.phase is phase), estimate.peak)
    alive = [
        term for term in estimate.terms_of(peak) if term.level is not Level.HOST and term.num_bytes
    ]
    lines = page.wrap(f"largest terms {PHASE_WORDS[phase]}:")
    shown, rest = alive[:NUM_TERMS_SHOWN], alive[NUM_TERMS_SHOWN:]
    lines += page.table(
        [[amount(t.num_bytes, capacity), t.name, t.formula] for t in shown], right=(0,)
    )
    if rest:
        total = amount(sum(term.num_bytes for term in rest), capacity)
        lines.append(f"  and {len(rest)} smaller, together {total}")
    return lines


def _term_in_full(term: MemoryTerm, page: Page) -> list[str]:
    alive = ", ".join(phase_name(phase) for phase in term.phases)
    lines = page.wrap(
        f"{format_gib(term.num_bytes)}  {term.name}  [{term.level.value}; {alive}]", "  ", "    "
    )
    for text in (f"= {term.formula}" if term.formula else "", term.source):
        if text:
            lines += page.wrap(text, "    ", "    ")
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
    rows = []
    for name in PLAN_FIELDS:
        if name == "cwd":
            continue
        origin = report.plan.origins.get(name)
        where = origin.where if origin else ""
        if origin and origin.assumed:
            where += " (assumed)"
        value = plan_value(report.plan, name)
        if name == "model_config" and report.plan.model_config is not None:
            value = f"{len(report.plan.model_config)} keys"
        rows.append([name, value, where])
    return ["plan:", *page.table(rows)]


def next_lines(report: Report, door: str) -> list[str]:
    """Return the last line: what happens now."""
    # The last line is enough on its own, and a command is there to be copied: it is not broken.
    return [f"next: {_next(report, door)}"]


def _next(report: Report, door: str) -> str:
    rewrite = report.rewrite if report.applied else None
    command = shell_command(rewrite.argv, rewrite.env) if rewrite else ""
    if door == "estimate":
        return "nothing; a plan file is estimated, not started"
    errors = sum(finding.severity == "error" for finding in report.findings)
    if not report.may_launch and "refused_by" in report.extra:
        named = ", ".join(report.extra["refused_by"])
        told = f"the policy refuses a launch with {named}"
        if door == "check":
            return f"`preflight run` would start nothing; {told}"
        return f"nothing was {'written' if door == 'fix' else 'started'}; {told}"
    if not report.may_launch:
        options = "take a suggestion above, or give it more or larger devices"
        if all(t.verdict.answer is Answer.DOES_NOT_FIT for t in report.suggested):
            options = "give it more or larger devices, or a smaller job"
        if report.by_hand:
            options = "make the edits above, which train the same"
        if door == "check":
            return f"`preflight run` would start nothing; {options}"
        return f"nothing was {'written' if door == 'fix' else 'started'}; {options}"
    unsure = ""
    if report.verdict.answer is Answer.UNKNOWN:
        unsure = f", unchecked; {_what_to_say(report)}"
    if door == "fix":
        return f"start it with: {command}" if rewrite else f"nothing needs to be written{unsure}"
    verb = "starts" if door == "run" else "`preflight run` would start"
    doubt = ", in spite of the error above" if errors else ""
    if rewrite:
        return f"{verb} the rewritten launch{doubt}: {command}"
    return f"{verb} the launch as written{doubt}{unsure}"


def _what_to_say(report: Report) -> str:
    """Return the options that would turn `unknown` into an answer."""
    options = {
        "model": "--set model=NAME"
        if report.plan.model is None
        else "--set model_config=CONFIG.json",
        "device": "--device NAME",
        "seq_len": "--set seq_len=N",
        "micro_batch_size": "--set micro_batch_size=N",
    }
    known = [options[name] for name in report.verdict.missing if name in options]
    like = None if report.model is None else report.model.like
    if like is not None and report.verdict.unpriced == (ANOTHER_MODEL,):
        known.append(f"--set model={like.model}")
    elif report.verdict.unpriced:
        return f"{'; '.join(report.verdict.unpriced)} cannot be priced yet"
    if report.readings is not None and report.readings.deciding:
        known.append(option(*best_question(report.readings), report.readings))
    if not known and report.readings is not None:
        names = [name for name in report.readings.may_be if name != "versions"]
        known += [f"--set {name}=VALUE" for name in names[:MOST_OPTIONS]]
    if not known:
        return f"{', '.join(report.verdict.missing)} is missing"
    return f"to know, add {' '.join(dict.fromkeys(known))} before the `--`"
