"""The Python interface: `check`, `before_launch`, `estimate` and `compare`, as docs/api.md describes them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from preflight.errors import BadInput, LaunchRefused, raise_if_any
from preflight.files import watched
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.all import is_launchers_own
from preflight.memory import MemoryEstimate
from preflight.pipeline import check_launch, check_plan
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.policy import Policy, policy_from_dict
from preflight.printable import printable, text_of
from preflight.report import VIEWS, Report
from preflight.repository.settings import Repository, find_repository
from preflight.request import Request
from preflight.rewrite import refuse_changed, save_rewrite, until_settled
from preflight.shell.starters.typed_words import as_program
from preflight.streams import say
from preflight.switch import is_off

if TYPE_CHECKING:
    from preflight.render.comparison import Comparison


def check(
    launch: LaunchPlan | Sequence[str],
    *,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    policy: Policy | Mapping[str, Any] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    here: bool = False,
) -> Report:
    """Estimate and judge a launch, given as argv or as a plan. Starts and writes nothing.

    The settings of the repository that `cwd` is in hold, as on the command line; `policy` as a
    mapping replaces single keys of theirs, as a Policy the whole. `here` says that the ranks start
    on this node, so that what it has and lacks counts. A command that hands a file to a shell or a
    scheduler (`bash train.sh`) is checked as the launch of that file, where it has one alone.

    Raises BadInput for what the caller can fix, HookFailed for a plugin that broke.
    """
    folder = os.path.abspath(os.fspath(cwd) if cwd is not None else os.getcwd())
    repository = find_repository(folder)
    request = Request(
        device,
        dict(settings or {}),
        policy_of(policy, repository),
        repository=repository,
        on_this_node=here,
        finds_room=True,
    )
    plugins = load_plugins(folder, project_files=repository.hooks)
    if isinstance(launch, LaunchPlan):
        raise_if_any(launch.problems())
        return check_plan(launch, plugins, request)
    variables = dict(os.environ if env is None else env)
    command = LaunchCommand(
        _words(launch), variables, folder, declared_flags=repository.flags, starts_here=here
    )
    return _of_the_file(command, plugins, request) or check_launch(command, plugins, request)


def _of_the_file(command: LaunchCommand, plugins: PluginManager, request: Request) -> Report | None:
    """Return the report of the only launch of a file that a command hands to a shell or a scheduler, else None."""
    if is_launchers_own(command):
        return None
    from preflight.studies.checked_behind import checked_launches, single_report

    return single_report(checked_launches(command, plugins, request))


def before_launch(
    argv: Sequence[str],
    *,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    policy: Policy | Mapping[str, Any] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    report_to: IO[str] | None = None,
) -> list[str]:
    """Return the argv to start: as given where it fits, that of the rewritten copy where safe changes do it.

    Variables that a rewrite needs stand in front, as `env NAME=VALUE ...`. The report goes to
    `report_to`, else to stderr; `PREFLIGHT=off` returns argv unchecked.

    Raises LaunchRefused with the report where nothing should start, BadInput and HookFailed as
    `check` does: a launch that could not be checked is not started.
    """
    words = _words(argv)
    variables = dict(os.environ if env is None else env)
    if is_off(variables):
        say("preflight: skipped, because PREFLIGHT=off; the launch starts unchecked\n", report_to)
        return list(words)

    def judged() -> Report:
        with watched() as seen:
            report = check(
                words,
                device=device,
                settings=settings,
                policy=policy,
                cwd=cwd,
                env=variables,
                here=device is None or device.lower() == "auto",
            )
        if report.may_launch:
            refuse_changed(seen)
            if report.applied and report.rewrite is not None:
                save_rewrite(report.rewrite)
        return report

    report = until_settled(judged)
    if not report.may_launch:
        raise LaunchRefused(report_text(report), report)
    rewrite = report.rewrite if report.applied else None
    say(report_text(report) + "\n", report_to)
    if rewrite is None:
        return list(words)
    variables_of = [f"{name}={value}" for name, value in rewrite.env.items()]
    return [*(["env", *variables_of] if variables_of else []), *rewrite.argv]


def estimate(
    plan: LaunchPlan | Mapping[str, Any],
    *,
    device: str | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> MemoryEstimate:
    """Return the memory of the fullest rank of a plan, phase by phase, without a verdict.

    A mapping has the keys of a plan file. Raises BadInput where the model is not known, and for
    values that no launch can have; `unknown` of the result names what else the sums would need.
    """
    from preflight.judge import judge_plan

    if not isinstance(plan, LaunchPlan):
        from preflight.plan_dict import plan_from_dict

        plan = plan_from_dict(plan, "the plan")
    raise_if_any(plan.problems())
    folder = os.path.abspath(os.fspath(cwd) if cwd is not None else os.getcwd())
    repository = find_repository(folder)
    if device is not None:
        plan = replace(plan, device=device)
    judged = judge_plan(plan, load_plugins(folder, project_files=repository.hooks), Policy())
    if judged.model_problem is not None:
        raise BadInput(judged.model_problem)
    if judged.estimate is None:
        raise BadInput.one(
            f"the model {plan.model!r} is not known" if plan.model else "the plan names no model",
            fix="give its config.json as `model_config`",
        )
    return judged.estimate


def compare(
    before: Report | LaunchPlan | Sequence[str],
    after: Report | LaunchPlan | Sequence[str],
    *,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> Comparison:
    """Return two launches side by side, each a report, a plan or argv; what is no report is checked as `check` does.

    `text`, `to_markdown()`, `to_html()` and `to_dict()` of the result show it, as `preflight diff` does; a notebook
    shows it by itself. Raises what `check` raises.
    """
    from preflight.render.comparison import Comparison

    first, second = (
        one if isinstance(one, Report) else check(one, device=device, settings=settings, cwd=cwd)
        for one in (before, after)
    )
    return Comparison(first, second, ("before", "after"))


def report_text(report: Report, door: str = "run") -> str:
    """Return a report as the command line prints it to a file: 80 columns, no color."""
    from preflight.render.page import Page
    from preflight.render.report import report_lines

    return printable(text_of(report_lines(report, door, Page())))


def _page_of(report: Report) -> str:
    from preflight.render.html_report import report_html

    return report_html(report, "check")


def _notebook_of(report: Report) -> str:
    from preflight.render.notebook import notebook_html

    return notebook_html(report, report_text(report, "check"))


VIEWS.update(text=lambda report: report_text(report, "check"), html=_page_of, notebook=_notebook_of)


def policy_of(given: Policy | Mapping[str, Any] | None, repository: Repository) -> Policy:
    """Return the policy that holds: the given one, or its keys in place of the repository's."""
    if isinstance(given, Policy):
        return given
    keys = {**repository.policy, **(given or {})}
    return policy_from_dict(keys, "policy") if keys else Policy()


def _words(argv: Sequence[str]) -> tuple[str, ...]:
    if isinstance(argv, str):
        raise TypeError("argv is a list of words; shlex.split(line) makes one of a line")
    words = tuple(os.fspath(word) for word in argv)
    if not words:
        raise BadInput.one("no command to check", fix="['accelerate', 'launch', 'train.py', ...]")
    return as_program(words)
