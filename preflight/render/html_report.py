"""A report as one HTML file: phases against the capacity, a step's timeline, remedies, the diff, every origin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

from preflight.formulas.engines.buckets import BUCKET_WORDS, at_peak, peaks_of_launch
from preflight.memory import Level, MemoryEstimate
from preflight.render.html_advice import advice_section
from preflight.render.html_bars import bar, legend, scale_of, span, unit_of
from preflight.render.html_page import details, page, table
from preflight.render.html_script import script, sliders
from preflight.render.html_step import step_section
from preflight.render.next_step import next_lines
from preflight.render.report import plan_rows, said_at_once
from preflight.render.room import room_words
from preflight.render.words import amount, devices, phase_name, shell_command
from preflight.report import Report, TriedRemedy
from preflight.studies.what_if import WhatIf
from preflight.trace.kept import Kept
from preflight.units import format_count
from preflight.version import __version__


def report_html(
    report: Report,
    door: str,
    what_ifs: Mapping[str, WhatIf] | None = None,
    kept: Kept | None = None,
    trace_command: str = "",
    day: str = "",
) -> str:
    """Return the whole page of a report; the sliders of `what_ifs`, by method, need JavaScript, nothing else does.

    `kept` is what is known of the trace of what would be started, `trace_command` what would make one, and
    `day` when it is asked, `2026-11-29`; a page without it is the same on every day.
    """
    text = said_at_once(report)
    body = [
        f'<h1 class="{report.final_verdict.answer.value}">{escape(text[:1].upper() + text[1:])}</h1>'
    ]
    body += [_next(line) for line in next_lines(report, door)]
    body += _about(report, day) + _readings(report)
    if report.estimate is not None and report.estimate.peaks:
        body += _phases(report, report.estimate, "as written" if report.applied else "")
        if report.applied and report.applied[-1].estimate.peaks:
            body += _phases(report, report.applied[-1].estimate, "as rewritten")
        body += step_section(report, door, kept, trace_command)
    if what_ifs:
        body += sliders(what_ifs)
    body += _remedies(report) + advice_section(report) + _diff(report) + _findings(report)
    if report.estimate is not None:
        body += details("Every memory term, with its formula and source", _terms(report.estimate))
    body += details("Every value of the plan, and where it comes from", _origins(report))
    body.append(f'<p class="muted">preflight {escape(__version__)}</p>')
    return page(f"preflight: {report.verdict.answer.words}", body, script() if what_ifs else "")


def _next(line: str) -> str:
    """Return what happens next, a command of it as one."""
    words, colon, command = line.removeprefix("next: ").partition(": ")
    # On a page what would help stands below its head, and a command is set as one.
    words = words.replace("a suggestion above", "a suggestion below").replace(
        "edits above", "edits below"
    )
    said = re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(words[:1].upper() + words[1:]))
    if not colon:
        return f"<p>{said}.</p>"
    return f'<p>{said}:</p><pre class="command">{escape(command)}</pre>'


def _capacity(report: Report) -> int | None:
    return report.device.capacity_bytes if report.device else None


def _about(report: Report, day: str) -> list[str]:
    facts = []
    if report.model is not None:
        trained = report.num_trainable_params
        of = (
            ""
            if trained in (None, report.model.num_params)
            else f", {format_count(trained or 0)} trained"
        )
        like = report.model.like
        shapes = "" if like is None else f", shapes of {like.model} ({like.evidence})"
        count = format_count(report.model.num_params)
        facts.append(f"{report.model.name}, {count} parameters{of}{shapes}")
    plan = report.plan
    facts.append(plan.engine)
    if report.device is not None:
        facts.append(devices(plan, report.device))
    guessed = ", ".join(report.assumed)
    command = report.command
    lines = [f'<p class="muted">{escape("; ".join(facts))}</p>']
    if command is not None and command.argv:
        typed, on = escape(shell_command(command.argv, {})), f" on {day}" if day else ""
        lines.insert(0, f'<p class="muted">Checked{on}: <code>{typed}</code></p>')
    room = room_words(report)
    if room:
        lines.insert(0, f"<p>Headroom: {escape(room)}.</p>")
    if guessed:
        lines.append(f'<p class="muted">Assumed, because nobody said: {escape(guessed)}.</p>')
    return lines


def _readings(report: Report) -> list[str]:
    """Return how far apart the readings lie, and of each field that decides what its values leave and the option that settles it."""
    from preflight.render.readings import ReadingRow, by_peak, option, reading_rows

    readings, capacity = report.readings, _capacity(report)
    if readings is None or capacity is None or not readings.most.peak_bytes:
        return []
    rows, most = reading_rows(report), readings.most
    ends = (readings.likely, readings.least, most, *(row.least for row in rows))
    least = min(ends, key=lambda end: end.peak_bytes)
    if least.peak_bytes == most.peak_bytes and not rows:
        return []
    words = "cannot tell" if readings.answer is None else readings.answer.words
    rows.insert(0, ReadingRow("every reading", "", least, most, words))
    scale, (size, unit) = (
        scale_of([row.most.peak_bytes for row in rows], capacity),
        unit_of(capacity),
    )
    cells = []
    for row in rows:
        low, high = row.least.peak_bytes, row.most.peak_bytes
        amounts = " to ".join(dict.fromkeys(f"{end / size:.1f}" for end in (low, high)))
        what = escape(f"{row.subject} {row.value}".strip())
        says = f"{what}: {amounts} {unit}"
        cells.append([what, span(low, high, scale, capacity, says), amounts, escape(row.answer)])
    title = "What nobody said, and what each value of it gives"
    lines = [f"<h2>{title}</h2>"]
    head = ["open value", "least to most, beside the capacity", unit, "answer"]
    lines += table(head, cells, right=(2,), caption=title, kind="readings", wide=1)
    settles = [option(name, by_peak(ways), readings) for name, ways in readings.deciding.items()]
    return [*lines, *(f"<p>Settled by <code>{escape(words)}</code></p>" for words in settles)]


def _phases(report: Report, estimate: MemoryEstimate, which: str) -> list[str]:
    capacity = _capacity(report)
    peaks = [p.device_bytes for p in estimate.peaks]
    if report.estimate is not None:
        peaks += [p.device_bytes for p in report.estimate.peaks]  # both figures have one scale
    scale, unit = scale_of(peaks, capacity), unit_of(capacity)
    rows, used = [], set()
    for peak in peaks_of_launch(estimate, report.plan):
        sums = at_peak(estimate, peak)
        used |= {name for name, num_bytes in sums.items() if num_bytes}
        told = ", ".join(
            f"{BUCKET_WORDS[name]} {num / unit[0]:.1f}" for name, num in sums.items() if num
        )
        says = f"{phase_name(peak.phase)}: {peak.device_bytes / unit[0]:.1f} {unit[1]}: {told}"
        rows.append(
            [
                escape(phase_name(peak.phase)),
                bar(sums, scale, capacity, says),
                f"{peak.allocated_bytes / unit[0]:.1f}",
                f"{peak.device_bytes / unit[0]:.1f}",
            ]
        )
    title = "Memory of the fullest rank, by phase" + (f", {which}" if which else "")
    head = ["phase", f"{unit[1]} by what holds it", "tensors", "device"]
    lines = [f"<h2>{escape(title)}</h2>"]
    if capacity is not None:
        lines.append(
            f"<p>The dashed line is the capacity, {escape(amount(capacity, capacity))}.</p>"
        )
    lines.append(legend([name for name in BUCKET_WORDS if name in used]))
    return lines + table(head, rows, right=(2, 3), caption=title, kind="phases", wide=1)


def _remedies(report: Report) -> list[str]:
    lines: list[str] = []
    for title, tried in (
        ("What was changed, one after the other", report.applied),
        ("What fits and trains the same, edited by hand", report.by_hand),
        ("What else would help, each alone", report.suggested),
    ):
        if tried:
            lines.append(f"<h2>{escape(title)}</h2>")
            rows = [_remedy_row(one, report) for one in tried]
            head = ["remedy", "what it does", "safety", "peak", "step time", "verdict"]
            lines += table(head, rows, right=(3, 4), caption=title, kind="remedies")
    return lines


def _remedy_row(tried: TriedRemedy, report: Report) -> list[str]:
    peak = tried.estimate.device_peak_bytes if tried.estimate.peaks else None
    answer = tried.verdict.answer
    how = f"<br><code>{escape(tried.remedy.how)}</code>" if tried.remedy.how else ""
    return [
        f"<code>{escape(tried.remedy.id)}</code>",
        escape(tried.remedy.title) + how,
        escape(tried.remedy.safety.replace("_", " ")),
        "" if peak is None else escape(amount(peak, _capacity(report))),
        f"x{tried.step_time_factor:.2f}",
        f'<span class="{answer.value}">{escape(answer.words)}</span>',
    ]


def _diff(report: Report) -> list[str]:
    rewrite = report.rewrite
    if rewrite is None:
        return []
    lines = [
        "<h2>The rewrite</h2>",
        "<p>The files as written stay as they are; copies are changed.</p>",
    ]
    for file in rewrite.files:
        lines.append(f"<pre>{''.join(_diff_line(line) for line in file.diff.splitlines())}</pre>")
    pairs = [*rewrite.argv_diff, *(("", f"{name}={value}") for name, value in rewrite.env.items())]
    if pairs:
        said = [
            _diff_line(f"{sign} {text}")
            for removed, added in pairs
            for sign, text in (("-", removed), ("+", added))
            if text
        ]
        lines.append(f"<pre>{''.join(said)}</pre>")
    return lines


def _diff_line(line: str) -> str:
    tag = {"+": "ins", "-": "del"}.get(line[:1])
    text = escape(line)
    return f"<{tag}>{text}</{tag}>" if tag else text + "\n"


def _findings(report: Report) -> list[str]:
    if not report.findings:
        return []
    rows = [
        [
            escape(finding.severity),
            f"<code>{escape(finding.id)}</code>",
            escape(finding.message) + (f"<br>{escape(finding.fix)}" if finding.fix else ""),
            f"<code>{escape(finding.where)}</code>" if finding.where else "",
        ]
        for finding in report.findings
    ]
    title = "What the checks found"
    return [
        f"<h2>{title}</h2>",
        *table(["severity", "id", "what, and what to do", "where"], rows, caption=title),
    ]


def _terms(estimate: MemoryEstimate) -> list[str]:
    rows = [
        [
            escape(term.name),
            escape(amount(term.num_bytes, None)),
            escape(term.level.value),
            escape(", ".join(map(phase_name, term.phases))),
            escape(term.formula),
            escape(term.source),
        ]
        for term in sorted(estimate.terms, key=lambda t: (t.level is Level.HOST, -t.num_bytes))
    ]
    head = ["term", "bytes", "level", "phases", "formula", "source"]
    return table(head, rows, right=(1,), caption="Memory terms")


def _origins(report: Report) -> list[str]:
    rows = [
        [f"<code>{escape(name)}</code>", escape(value), escape(where)]
        for name, value, where in plan_rows(report)
    ]
    return table(["field", "value", "from"], rows, caption="Plan values")
