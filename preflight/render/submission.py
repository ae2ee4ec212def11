"""What is said about a submission: a line where all is well, where it would run and where not otherwise."""

from __future__ import annotations

import shlex

from preflight.render.page import Page
from preflight.render.readings import question_of
from preflight.render.report import ANSWER_COLORS, finding_lines
from preflight.render.words import of_capacity
from preflight.slurm.guard import Answer
from preflight.slurm.judged_launch import JudgedLaunch
from preflight.slurm.node_hint import node_hint
from preflight.slurm.nodes import Fit, GpuGroup
from preflight.verdict import Answer as Verdict

_COLORS = {
    Fit.FITS: ANSWER_COLORS[Verdict.FITS],
    Fit.MAYBE: ANSWER_COLORS[Verdict.TIGHT],
    Fit.UNKNOWN: ANSWER_COLORS[Verdict.UNKNOWN],
    Fit.DOES_NOT_FIT: ANSWER_COLORS[Verdict.DOES_NOT_FIT],
}
LONGEST_LAUNCH = 72


def submission_lines(answer: Answer, page: Page, is_verbose: bool) -> list[str]:
    """Return what is known of a submission's launches; nothing where it launches nothing."""
    if answer.problem:
        return [f"preflight: cannot tell: {answer.problem}"]
    if not answer.launches:
        return _nothing_lines(answer, is_verbose)
    lines: list[str] = []
    for one in shown_launches(answer, is_verbose):
        lines += launch_lines(one, page, is_verbose)
    if answer.reading.how == "static" and answer.reading.reasons:
        lines += page.wrap(f"note: {'; '.join(answer.reading.reasons)}")
    return lines


def _nothing_lines(answer: Answer, is_verbose: bool) -> list[str]:
    if answer.submission.options.wants_gpus or is_verbose:
        reasons = "; ".join(answer.reading.reasons) or "no launch found"
        return [f"preflight: cannot tell: {answer.submission.name or 'the job'}: {reasons}"]
    return []


def shown_launches(answer: Answer, is_verbose: bool) -> list[JudgedLaunch]:
    """Return the launches worth a word: those that are known, or all where none is."""
    known = [one for one in answer.launches if one.fit is not Fit.UNKNOWN]
    return list(answer.launches) if is_verbose or not known else known


def launch_lines(one: JudgedLaunch, page: Page, is_verbose: bool = False) -> list[str]:
    """Return the verdict of one launch, and node by node where nodes differ."""
    lines = [head_line(one, page)]
    if one.judgement is None:
        return lines
    if one.fit not in (Fit.FITS, Fit.UNKNOWN) or is_verbose:
        lines.append(f"  {shown_launch(one)}")
        rows = [
            (_fit(one, group, fit), group.words, _peak(one, group))
            for group, fit in one.judgement.judged.fits
        ]
        lines += page.table(rows) if rows else []
    for finding in one.judgement.findings:
        if finding.severity != "info" or is_verbose:
            lines += finding_lines(finding, page)
    if one.candidates is not None:
        for text in one.candidates.not_understood:
            lines += page.wrap(f"note: {text} is not understood, and was left out")
        if is_verbose:
            for text in one.candidates.assumed:
                lines += page.wrap(f"assumed: {text}")
    return lines


def head_line(one: JudgedLaunch, page: Page) -> str:
    """Return the first line: the verdict, and the launch's place."""
    place = f"({one.where})"
    if one.fit is Fit.UNKNOWN:
        why = one.problem or "what decides its memory is not known"
        return f"preflight: {_question(one) or f'cannot tell: {why}'} {place}"
    assert one.judgement is not None
    words = {
        Fit.FITS: "tight" if one.is_tight else "fits",
        Fit.MAYBE: "may not fit",
        Fit.DOES_NOT_FIT: "does not fit",
    }[one.fit]
    color = _COLORS[Fit.MAYBE if one.is_tight else one.fit]
    text = f"preflight: {page.paint(words, color)}"
    if one.fit is Fit.FITS:
        group = one.judgement.smallest(Fit.FITS)
        assert group is not None
        refused = (
            f", which the policy refuses ({', '.join(one.refused_by)})" if one.refused_by else ""
        )
        return f"{text}{refused}. P{_peak(one, group)[1:]} per rank on {group.words} {place}"
    if one.fit is Fit.DOES_NOT_FIT:
        return f"{text} on any node that the job may get {place}"
    if one.judgement.judged.is_mixed:
        return f"{text}: it depends on the node {place}"
    return f"{text}: it depends on which card the nodes have {place}"


def _question(one: JudgedLaunch) -> str:
    """Return what the job's smallest card and the values that nobody said come to, where those decide; else nothing."""
    group = one.judgement.smallest(Fit.UNKNOWN) if one.judgement is not None else None
    if one.judgement is None or group is None or group.memory is None:
        return ""
    judged = one.judgement.on(group.memory.low)
    return "" if judged is None else question_of(judged.readings, group.memory.low)


def _fit(one: JudgedLaunch, group: GpuGroup, fit: Fit) -> str:
    """Return the word for a group of nodes: what is tight there is not said to fit."""
    if fit is Fit.FITS and one.judgement is not None and group.memory is not None:
        judged = one.judgement.on(group.memory.low)
        if judged is not None and judged.verdict.answer is Verdict.TIGHT:
            return Verdict.TIGHT.words
    return fit.value


def _peak(one: JudgedLaunch, group: GpuGroup) -> str:
    """Return the peak against the capacity on a group's smallest card."""
    if one.judgement is None or group.memory is None:
        return ""
    judged = one.judgement.on(group.memory.low)
    if judged is None or judged.estimate is None or not judged.estimate.peaks:
        return ""
    peak, capacity = judged.estimate.device_peak_bytes, group.memory.low.capacity_bytes
    return f"peak {of_capacity(peak, capacity)}"


def shown_launch(one: JudgedLaunch) -> str:
    """Return a launch line, cut where it is long."""
    text = shlex.join(one.launch.argv)
    return text if len(text) <= LONGEST_LAUNCH else text[: LONGEST_LAUNCH - 3] + "..."


def hint_lines(one: JudgedLaunch, answer: Answer) -> list[str]:
    """Return the option that keeps the job on nodes where it fits, where there is one."""
    if one.judgement is None:
        return []
    hint = node_hint(one.judgement.judged, answer.submission.options.components[one.component])
    if hint is None:
        return []
    return [f"  fix  {hint.option} keeps it off {hint.leaves_out}"]
