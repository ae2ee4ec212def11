"""The last line of a report: what happens now, and what would turn unknown into an answer."""

from __future__ import annotations

from preflight.finding import Finding
from preflight.formulas.limits.left_out import ANOTHER_MODEL
from preflight.render.changes import is_same_by_hand
from preflight.render.readings import best_question, option
from preflight.render.words import shell_command
from preflight.report import Report
from preflight.verdict import Answer, named_first

MOST_OPTIONS = 3


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
    if not report.may_launch and report.is_refused_by_findings:
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
            same = ", which train the same" if is_same_by_hand(report) else ""
            can_copy = report.by_hand[-1].remedy.extra.get("can_copy")
            way = "let `preflight fix` write a copy with" if can_copy else "make"
            options = f"{way} the edits above{same}"
        if rewrite is not None and report.is_dear:
            slow = f"x{report.applied[-1].step_time_factor:.2f} step time"
            options = f"take a suggestion above, or add --allow {report.dearest} to start it rewritten at {slow}"
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


def unread_launch(report: Report) -> Finding | None:
    """Return what says that there is no launch, or no script, to be read: it is why nobody can tell, whatever else is open."""
    return next((one for one in report.findings if one.id in ("PF125", "PF128")), None)


def _what_to_say(report: Report) -> str:
    """Return what would turn `unknown` into an answer: options, or the way on to a launch that can be read."""
    unread = unread_launch(report)
    if unread is not None and unread.fix:
        return unread.fix
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
        return f"{named_first(report.verdict.unpriced)} cannot be priced yet"
    if report.readings is not None and report.readings.deciding:
        known.append(option(*best_question(report.readings), report.readings))
    if not known and report.readings is not None:
        names = [name for name in report.readings.may_be if name != "versions"]
        known += [f"--set {name}=VALUE" for name in names[:MOST_OPTIONS]]
    if not known:
        return f"{', '.join(report.verdict.missing)} is missing"
    return f"to know, add {' '.join(dict.fromkeys(known))} before the `--`"
