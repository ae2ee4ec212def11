"""What follows from the answer about a job: it is submitted as it is, rewritten, only to the nodes that fit, or not."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from preflight.commands.options import NOT_STARTED
from preflight.commands.submit_program import become, judged_here, say
from preflight.rewrite import save_rewrite

if TYPE_CHECKING:
    from preflight.slurm.guard import Answer, Asked
    from preflight.slurm.job_fix import JobFix
    from preflight.slurm.job_script import Submission
    from preflight.slurm.judged_launch import JudgedLaunch


def pass_on(
    answer: Answer, asked: Asked, env: Mapping[str, str], options: Any, text: str | None
) -> int:
    """Say what is known, add the option for the nodes that fit where that is asked for, and submit."""
    from preflight.render.page import page_for
    from preflight.render.report import left_alone_lines
    from preflight.render.submission import hint_lines, submission_lines
    from preflight.slurm.node_hint import node_hint
    from preflight.slurm.stamping import stamped

    submission = answer.submission
    page = page_for(sys.stderr, options.color)
    lines = submission_lines(answer, page, options.explain) + left_alone_lines(
        asked.left_alone, page
    )
    words = submission.words
    for one in answer.mixed[:1]:
        assert one.judgement is not None
        hint = node_hint(one.judgement.judged, submission.options.components[one.component])
        if hint is not None and _may_fix(options, asked) and not submission.options.het:
            words = _with_option(submission, hint.option)
            lines.append(f"next: submitted with {hint.option}, which leaves out {hint.leaves_out}")
        elif hint is not None:
            lines += hint_lines(one, answer)
            lines.append("next: submitted as it is; --fix adds the option")
    if lines and not answer.mixed and answer.verdict == "unknown":
        lines.append("next: submitted unchecked")
    say(lines)
    words = stamped(submission.program, words, text, answer.verdict, env)
    become(submission.program, list(words), {**env, **judged_here()}, text)


def _may_fix(options: Any, asked: Asked) -> bool:
    return options.fix or asked.policy.rewrite_jobs


def _with_option(submission: Submission, option: str) -> tuple[str, ...]:
    from preflight.slurm.job_fix import submitted_words

    return submitted_words(submission, None, (option,))[0]


def refuse(
    answer: Answer, asked: Asked, env: Mapping[str, str], options: Any, text: str | None
) -> int:
    """Say what does not fit and what would; submit it rewritten where that is asked for, else nothing."""
    from preflight.render.page import page_for
    from preflight.render.report import left_alone_lines, report_lines
    from preflight.render.submission import launch_lines
    from preflight.slurm.job_fix import treated, written
    from preflight.slurm.nodes import Fit
    from preflight.slurm.stamping import stamped

    page = page_for(sys.stderr, options.color)
    one = answer.refused[0]
    lines = launch_lines(one, page, options.explain)
    for other in answer.refused[1:]:
        lines += launch_lines(other, page, options.explain)
    # What only the policy refuses has no remedy that memory could tell.
    fix = treated(one, answer, asked) if one.fit is Fit.DOES_NOT_FIT else None
    if fix is not None:
        fix = written(fix, one, answer, asked, env)
        lines += report_lines(fix.report, "run", page)[1:-1]
    else:
        lines += left_alone_lines(asked.left_alone, page)
    is_fixed = fix is not None and fix.rewrite is not None and len(answer.refused) == 1
    is_dear = fix is not None and fix.report.is_dear and not fix.report.may_launch
    if is_fixed and not is_dear and _may_fix(options, asked):
        assert fix is not None
        return _submit_fixed(answer, one, fix, env, lines)
    if options.warn:
        say([*lines, "next: submitted all the same, because of --warn"])
        program, given = answer.submission.program, answer.submission.words
        become(
            program,
            list(stamped(program, given, text, answer.verdict, env)),
            {**env, **judged_here()},
            text,
        )
    say([*lines, _next(answer, fix, is_fixed)])
    return NOT_STARTED


def _next(answer: Answer, fix: JobFix | None, is_fixed: bool) -> str:
    from preflight.slurm.job_fix import shown_command

    submission = answer.submission
    if is_fixed:
        assert fix is not None
        command = shown_command(submission.program, ("--fix", *submission.words))
        if fix.report.is_dear and not fix.report.may_launch:
            factor = fix.report.applied[-1].step_time_factor
            return (
                "next: nothing was submitted; take a suggestion above, or add"
                f" --allow {fix.report.dearest} to submit it rewritten at x{factor:.2f} step time"
            )
        words = fix.report.final_verdict.answer.words
        is_now = "it fits" if words == "fits" else f"it is {words}"
        return f"next: nothing was submitted; rewritten as above {is_now}: preflight {command}"
    if fix is not None and fix.report.rewrite is not None and fix.report.applied:
        return (
            "next: nothing was submitted; it fits rewritten as above, but preflight cannot write that into"
            f" {submission.name}: change it there"
        )
    return (
        f"next: nothing was submitted; PREFLIGHT=off {submission.program} ... submits it unchecked"
    )


def _submit_fixed(
    answer: Answer, one: JudgedLaunch, fix: JobFix, env: Mapping[str, str], lines: list[str]
) -> int:
    from preflight.slurm.job_fix import submitted_words
    from preflight.slurm.stamping import stamped

    assert fix.rewrite is not None
    options: tuple[str, ...] = ()
    if not fix.is_everywhere:
        options = _only_on(fix, one, answer)
    words, text = submitted_words(answer.submission, fix, options)
    save_rewrite(fix.rewrite)
    shown = ", ".join(file.new_path_shown for file in fix.rewrite.files) or "its launch line"
    lines.append(f"next: submitted rewritten, as {shown}{' with ' + options[0] if options else ''}")
    say(lines)
    # A command has no script that could export what the rewrite sets.
    own = fix.rewrite.env if answer.submission.kind == "command" else {}
    words = stamped(answer.submission.program, words, text, "fits", env)
    become(answer.submission.program, list(words), {**env, **own, **judged_here()}, text)


def _only_on(fix: JobFix, one: JudgedLaunch, answer: Answer) -> tuple[str, ...]:
    """Return the option that keeps a job off the nodes on which its rewritten launch does not fit."""
    from preflight.slurm.node_hint import node_hint
    from preflight.slurm.nodes import Fit, Judged

    assert one.judgement is not None and fix.group.memory is not None
    least = fix.group.memory.low.capacity_bytes
    fits = tuple(
        (
            group,
            Fit.FITS
            if group.memory is not None and group.memory.low.capacity_bytes >= least
            else Fit.DOES_NOT_FIT,
        )
        for group, _ in one.judgement.judged.fits
    )
    hint = node_hint(Judged(fits), answer.submission.options.components[one.component])
    return () if hint is None or answer.submission.options.het else (hint.option,)
