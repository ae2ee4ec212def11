"""A refused job made to fit: the launch rewritten for the nodes that it may get, and the script around it.

The script and its configs are copied into `.preflight/`; the user's own stay as they are.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace

from preflight.errors import BadInput
from preflight.launch import LaunchPlan
from preflight.pipeline import check_plan
from preflight.report import Report
from preflight.request import with_request
from preflight.rewrite import FOLDER, Rewrite, RewrittenFile, free_path
from preflight.rewriting import differing_fields, read_launch
from preflight.slurm.gpu_memory import device_words
from preflight.slurm.guard import Answer, Asked, command_of
from preflight.slurm.job_environment import JobPlace
from preflight.slurm.job_script import STANDARD_INPUT, Submission
from preflight.slurm.judged_launch import JudgedLaunch
from preflight.slurm.nodes import GpuGroup
from preflight.slurm.reading import read_job_script
from preflight.slurm.script_edits import edited_script
from preflight.slurm.scripted_launch import ScriptReading
from preflight.slurm.stamp import wrapped_script
from preflight.values import dataclass


@dataclass(frozen=True)
class JobFix:
    """What was found for one refused launch."""

    report: Report
    """Of the launch on `group`, with its remedies."""
    group: GpuGroup
    rewrite: Rewrite | None = None
    """The job as it would be submitted: its files, and the script's copy among them."""
    script: str = ""
    """The script's new text."""
    is_everywhere: bool = True
    """Whether the rewritten launch fits on every candidate; else only where there is as much as on `group`."""


def treated(one: JudgedLaunch, answer: Answer, asked: Asked) -> JobFix | None:
    """Look for remedies of a refused launch, for the smallest of its nodes at first; None without a known device."""
    if one.judgement is None:
        return None
    groups = [group for group in reversed(_groups(one)) if group.memory is not None]
    fix = None
    for number, group in enumerate(groups):
        report = report_on(one, group, answer, asked)
        if fix is None or report.may_launch:
            fix = JobFix(report, group, is_everywhere=number == 0)
        if report.may_launch:
            break
    return fix


def _groups(one: JudgedLaunch) -> tuple[GpuGroup, ...]:
    assert one.judgement is not None
    return tuple(group for group, _ in one.judgement.judged.fits)


def report_on(one: JudgedLaunch, group: GpuGroup, answer: Answer, asked: Asked) -> Report:
    """Return the whole report of a launch on the GPUs of a group, remedies and all."""
    assert group.memory is not None
    plugins = asked.plugins
    command = command_of(one.launch, one.files, asked)
    plan = read_launch(command, plugins)
    assert plan is not None
    request = replace(asked.request(), device=device_words(group.memory.low))
    return check_plan(plan, plugins, request, command)


def written(
    fix: JobFix, one: JudgedLaunch, answer: Answer, asked: Asked, env: Mapping[str, str]
) -> JobFix:
    """Return the fix with the whole job's rewrite; without one where the script cannot be made to say it, or one line of it
    is another launch in every task of an array."""
    report = fix.report
    differ = any(each.task is not None for each in answer.launches)
    if report.rewrite is None or not report.applied or answer.place is None or differ:
        return fix
    submission = answer.submission
    wanted, before = report.applied[-1].plan, report.plan
    texts = {file.new_path: file.after for file in report.rewrite.files}
    plugins = asked.plugins

    def is_wanted(text: str) -> bool:
        reading = read_again(text, submission, env, answer.place, asked)
        plans = []
        for launch in reading.launches:
            command = command_of(launch, {**reading.files, **texts}, asked)
            try:
                plan = read_launch(command, plugins)
            except BadInput:
                continue
            if plan is not None and _is_same(plan, wanted, before, asked):
                plans.append(plan)
        return len(plans) == 1 and len(reading.launches) == len(answer.reading.launches)

    line = int(one.launch.origin.rpartition(":")[2]) if one.launch.origin[-1:].isdecimal() else 1
    text = edited_script(
        submission.text, one.launch.argv, report.rewrite.argv, report.rewrite.env, line, is_wanted
    )
    if text is None:
        return fix
    name = os.path.basename(submission.name) if submission.kind == "file" else "job.sh"
    path = free_path(os.path.join(os.path.abspath(submission.cwd), FOLDER, name), text)
    script = RewrittenFile(submission.name, path, submission.text, text)
    files = (*report.rewrite.files, script) if submission.kind == "file" else report.rewrite.files
    return replace(fix, rewrite=replace(report.rewrite, files=files), script=text)


def read_again(
    text: str, submission: Submission, env: Mapping[str, str], place: JobPlace | None, asked: Asked
) -> ScriptReading:
    """Read a changed text as the submission's own was read."""
    assert place is not None
    return read_job_script(replace(submission, text=text), env, place)


def _is_same(plan: LaunchPlan, wanted: LaunchPlan, before: LaunchPlan, asked: Asked) -> bool:
    return not differing_fields(with_request(plan, asked.request()), wanted, before)


def submitted_words(
    submission: Submission, fix: JobFix | None, options: tuple[str, ...]
) -> tuple[tuple[str, ...], str | None]:
    """Return the arguments to submit with, and the text for standard input where it changed."""
    words = list(submission.words)
    text = None
    if fix is not None and fix.rewrite is not None:
        if submission.kind == "file":
            path = fix.rewrite.files[-1].new_path
            words[submission.first_rest] = os.path.relpath(path, submission.cwd)
        elif submission.kind == "wrap":
            words = _with_wrap(words, fix.script)
        elif submission.kind == STANDARD_INPUT:
            text = fix.script
        else:
            line = fix.script.rstrip("\n").rpartition("\n")[2]
            command = shlex.split(line)
            at = 1 if submission.program == "srun" else 0
            words = [*words[: 0 if at else submission.first_rest], *command[at:]]
    # In front, where they are options whatever follows; a later word of the user's beats them.
    at = submission.first_rest if submission.kind == "file" else len(words)
    return (*words[:at], *options, *words[at:]), text


def _with_wrap(words: list[str], script: str) -> list[str]:
    """Return the words with the text of `--wrap` replaced by that of a rewritten script."""
    head = wrapped_script("").rstrip("\n")
    body = script.removeprefix(head).strip("\n")
    for index, word in enumerate(words):
        if word == "--wrap":
            return [*words[: index + 1], body, *words[index + 2 :]]
        if word.startswith("--wrap="):
            return [*words[:index], f"--wrap={body}", *words[index + 1 :]]
    return words


def shown_command(program: str, words: tuple[str, ...]) -> str:
    """Return a command as a person would type it."""
    return shlex.join((program, *words))
