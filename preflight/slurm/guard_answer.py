"""The answer of the client's guard to one submission: refuse it, or pass it with a stamp and a word to the user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.finding import Finding
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.pipeline import read_launch
from preflight.plugins import PluginManager, load_plugins
from preflight.policy import Policy, policy_from_dict
from preflight.repository import find_repository
from preflight.slurm.inventory import NoInventory, Question
from preflight.slurm.judgement import LaunchJudgement, judge_launch
from preflight.slurm.nodes import Fit, candidates, site_map
from preflight.slurm.option_words import OptionWord
from preflight.slurm.options import SubmitOptions, submit_options
from preflight.slurm.stamp import stamp_of, wrapped_script
from preflight.units import format_gib
from preflight.values import dataclass

FLAG = "set"
"""What Slurm's JSON of the options has for one without a value; `--mem=0` is "0?" there."""
MOST_SCRIPT_BYTES = 4 << 20
"""Slurm's own limit (MaxScriptSize)."""


@dataclass(frozen=True)
class Answer:
    """What cli_filter.lua is told, and what the user reads."""

    is_refused: bool
    stamp: str
    """Empty for srun, which the controller's guard does not look at."""
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """A submission as cli_filter.lua tells it."""

    program: str
    options: SubmitOptions
    script: bytes | None
    """None for srun."""
    argv: tuple[str, ...]
    """The script and its arguments, or the command of srun."""


def answer(request: bytes, env: Mapping[str, str], cwd: str, warn_only: bool = False) -> Answer:
    """Judge one submission; raise where it cannot be judged, which lets it pass unstamped."""
    question = Question(env)  # Slurm answers while the launch is read
    submission = read_submission(request, cwd)
    folder = os.path.join(cwd, submission.options.chdir or "")
    repository = find_repository(folder)
    plugins = load_plugins(folder, project_files=repository.hooks)
    policy = policy_from_dict(repository.policy, "policy") if repository.policy else Policy()
    plan, problem = _plan(submission, env, folder, plugins)
    if plan is None:
        return _passed(submission, "unknown", (problem,) if problem else ())
    try:
        inventory = question.answer()
    except NoInventory as error:
        return _passed(submission, "unknown", (f"preflight: not judged: {error}",))
    found = candidates(submission.options, inventory, site_map(env), cwd)
    if not found.groups:
        return _passed(submission, "unknown", ())  # Slurm itself will say that no node does
    judgement = judge_launch(plan, submission.options, found, inventory, plugins, policy)
    return _answered(submission, judgement, warn_only)


def read_submission(request: bytes, cwd: str) -> Submission:
    """Return what cli_filter.lua wrote; raise ValueError or OSError where it is not that."""
    import json

    value: dict[str, Any] = json.loads(request.decode("utf-8", "surrogateescape"))
    said: dict[str, Any] = dict(value["options"])
    argv = tuple(str(word) for word in said.pop("argv", ()))
    words = [
        OptionWord(name, None if text == FLAG else text, f"--{name}={text}")
        for name, text in ((name, str(text).removesuffix("?")) for name, text in said.items())
    ]
    options = submit_options((), {}, (words,))
    program = str(value["program"])
    script: bytes | None = None
    if program == "sbatch":
        if "script" in value:
            script = str(value["script"]).encode("utf-8", "surrogateescape")
        elif options.wrap is not None:
            script = wrapped_script(options.wrap).encode("utf-8", "surrogateescape")
        else:
            with open(os.path.join(cwd, argv[0]), "rb") as file:
                script = file.read(MOST_SCRIPT_BYTES)
    return Submission(program, options, script, argv)


def _plan(
    submission: Submission, env: Mapping[str, str], folder: str, plugins: PluginManager
) -> tuple[LaunchPlan | None, str]:
    """Return the plan of the launch in a submission; None and what to say where there is none to judge."""
    argv = submission.argv
    if submission.script is not None:
        text = submission.script.decode("utf-8", "surrogateescape")
        argv = ("bash", "-c", text, *(argv or ("job",)))
    own = {name: text for name, text in env.items() if name != "PREFLIGHT"}
    try:
        return read_launch(LaunchCommand(argv, own, folder), plugins), ""
    except BadInput as error:
        return None, f"preflight: not judged: {error.problems[0].message}"


def _passed(submission: Submission, verdict: str, lines: tuple[str, ...]) -> Answer:
    stamp = ""
    if submission.script is not None:
        stamp = stamp_of(submission.script, submission.options, verdict)
    return Answer(False, stamp, lines)


def _answered(submission: Submission, judgement: LaunchJudgement, warn_only: bool) -> Answer:
    fit = judgement.fit
    lines = list(_verdict_lines(submission, judgement))
    lines += [line for finding in judgement.findings for line in finding_lines(finding)]
    if fit is Fit.DOES_NOT_FIT and not warn_only:
        name = submission.argv[0] if submission.argv else "job.sh"
        what = f"{submission.program} {os.path.basename(name)}"
        lines.append(
            f"next: not submitted; `preflight {what}` looks for a change that makes it fit,"
            f" and `PREFLIGHT=off {what}` submits it as it is, on record"
        )
        return Answer(True, "", tuple(lines))
    return _passed(submission, fit.value.replace(" ", "_"), tuple(lines))


def _verdict_lines(submission: Submission, judgement: LaunchJudgement) -> tuple[str, ...]:
    fit, judged = judgement.fit, judgement.judged
    if fit is Fit.FITS:
        return ()
    if fit is Fit.UNKNOWN:
        missing = sorted(
            {name for one in judgement.by_device.values() for name in one.verdict.missing}
        )
        why = (
            f"{', '.join(missing)} not known" if missing else "the memory of its GPUs is not known"
        )
        return (f"preflight: not judged: {why}",)
    peak = max(
        (one.estimate.device_peak_bytes for one in judgement.by_device.values() if one.estimate),
        default=0,
    )
    needs = f"{format_gib(peak)} per rank"
    failing = "; ".join(group.words for group in judged.groups(Fit.DOES_NOT_FIT))
    if fit is Fit.DOES_NOT_FIT:
        return (f"preflight: does not fit: {needs}, on {failing}",)
    lines = []
    open_ = "; ".join(group.words for group in judged.groups(Fit.MAYBE))
    if open_:
        lines.append(f"preflight: may not fit: {needs}, on {open_}")
    if failing:
        lines.append(f"preflight: does not fit every node that it may get: {needs}, on {failing}")
        from preflight.slurm.hints import narrowing_option

        option = narrowing_option(judged, submission.options)
        if option is not None:
            lines.append(f"  fix  {option}")
    return tuple(lines)


def finding_lines(finding: Finding) -> tuple[str, ...]:
    """Return a finding as a guard says it, in at most three lines."""
    lines = [f"preflight: {finding.severity}: {finding.message} ({finding.id})"]
    if finding.where:
        lines.append(f"  at   {finding.where}")
    if finding.fix:
        lines.append(f"  fix  {finding.fix}")
    return tuple(lines)
