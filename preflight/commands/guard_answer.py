"""The answer of the client's guard to one submission: refuse it, or pass it with a stamp and a word to the user."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from preflight.files import read_bytes
from preflight.slurm.guard import Answer, Asked, asked_by_site, judge_submission
from preflight.slurm.inventory import NoInventory, Question
from preflight.slurm.job_script import MOST_OF_SLURM, STANDARD_INPUT, Submission
from preflight.slurm.nodes import Fit
from preflight.slurm.option_words import OptionWord
from preflight.slurm.options import submit_options
from preflight.slurm.scripted_launch import relative_name
from preflight.slurm.stamp import stamp_of, wrapped_script
from preflight.values import dataclass

FLAG = "set"
"""What Slurm's JSON of the options has for one without a value; `--mem=0` is "0?" there."""


@dataclass(frozen=True)
class GuardAnswer:
    """What cli_filter.lua is told, and what the user reads."""

    is_refused: bool
    stamp: str
    lines: tuple[str, ...]


def answer(
    request: bytes, env: Mapping[str, str], cwd: str, warn_only: bool = False
) -> GuardAnswer:
    """Judge one submission; raise where it cannot be judged, which lets it pass unstamped."""
    question = Question(env)  # Slurm answers while the rest is made ready
    submission = read_request(request, cwd)
    stamp = submission.text.encode("utf-8", "surrogateescape")
    own = {name: text for name, text in env.items() if name != "PREFLIGHT"}
    asked = asked_by_site(submission.cwd)
    try:
        asked = replace(asked, inventory=question.answer())
    except NoInventory as error:
        unknown = stamp_of(stamp, submission.options, "unknown")
        return GuardAnswer(False, unknown, (f"preflight: cannot tell: {error}",))
    found = judge_submission(submission, own, asked)
    notes = _notes(asked)
    if found.refused and not warn_only:
        *lines, next_line = _refusal(found)
        return GuardAnswer(True, "", (*lines, *notes, next_line))
    verdict = stamp_of(stamp, submission.options, found.verdict)
    return GuardAnswer(False, verdict, (*_remarks(found), *notes))


def _notes(asked: Asked) -> list[str]:
    if not asked.left_alone:
        return []
    from preflight.render.page import page_for
    from preflight.render.report import left_alone_lines

    return left_alone_lines(asked.left_alone, page_for(sys.stderr))


def read_request(request: bytes, cwd: str) -> Submission:
    """Return what cli_filter.lua wrote; raise ValueError or OSError where it is not that."""
    value: dict[str, Any] = json.loads(request.decode("utf-8", "surrogateescape"))
    said: dict[str, Any] = dict(value["options"])
    argv = tuple(str(word) for word in said.pop("argv", ()))
    words = [
        OptionWord(name, None if text == FLAG else text, f"--{name}={text}")
        for name, text in ((name, str(text).removesuffix("?")) for name, text in said.items())
    ]
    options = submit_options((), {}, (words,))
    program = str(value["program"])
    arguments: tuple[str, ...] = ()
    if program != "sbatch":
        kind, name = "command", program
        text = f"#!/bin/bash\n{shlex.join((program, *argv))}\n"
    elif "script" in value:
        kind, name, text = STANDARD_INPUT, STANDARD_INPUT, str(value["script"])
    elif options.wrap is not None:
        kind, name, text = "wrap", "--wrap", wrapped_script(options.wrap)
    else:
        kind, name, arguments = "file", relative_name(argv[0], cwd), argv[1:]
        data = read_bytes(os.path.join(cwd, argv[0]), MOST_OF_SLURM)
        text = data.decode("utf-8", "surrogateescape")
    folder = os.path.normpath(os.path.join(cwd, options.chdir or ""))
    return Submission(program, (), options, kind, text, name, arguments, 0, folder)


def _refusal(found: Answer) -> tuple[str, ...]:
    from preflight.render.page import page_for
    from preflight.render.submission import launch_lines

    submission, page = found.submission, page_for(sys.stderr, "auto")
    lines = [line for one in found.refused for line in launch_lines(one, page)]
    name = submission.name if submission.kind == "file" else "..."
    lines.append(
        f"next: not submitted. `preflight {submission.program} {name}` looks for a change that makes it"
        f" fit; `PREFLIGHT=off {submission.program} {name}` submits it as it is, on record"
    )
    return tuple(lines)


def _remarks(found: Answer) -> tuple[str, ...]:
    """Return what is worth a word about a job that passes: nothing where all is well, or where nothing is launched."""
    lines = [f"preflight: cannot tell: {found.problem}"] if found.problem else []
    for one in found.launches:
        findings = one.judgement.findings if one.judgement is not None else ()
        if one.fit is Fit.FITS and not any(finding.severity != "info" for finding in findings):
            continue
        from preflight.render.page import page_for
        from preflight.render.submission import hint_lines, launch_lines

        lines += launch_lines(one, page_for(sys.stderr, "auto"))
        if one in found.mixed:
            lines += hint_lines(one, found)
    return tuple(lines)
