"""Launches that stand in files, each checked: what a commit hook, a test and a code review ask for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from preflight.envelopes.all import ENDINGS
from preflight.errors import BadInput, Problem
from preflight.formats.missing import only_unread
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.pipeline import check_launch
from preflight.plugin_manager import PluginManager
from preflight.report import Report
from preflight.request import Request
from preflight.rewriting import read_launch
from preflight.slurm.scripted_launch import unset_variables
from preflight.studies.launch_files import (
    SHELL_ENDINGS,
    FoundCommand,
    found_in,
    started_in,
    text_of,
)
from preflight.values import dataclass
from preflight.verdict import Answer

SHELL_KNOWS = "only a shell knows"


@dataclass(frozen=True)
class ScannedLaunch:
    """One launch of a file, and what its check said."""

    path: str
    """As the caller gave it, or relative to the folder that was scanned."""
    line: int
    argv: tuple[str, ...]
    report: Report | None = None
    problems: tuple[Problem, ...] = ()
    """Why there is no report: what the launch's own reader refuses."""
    untold: str = ""
    """Why nobody but a shell could say what is launched."""

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"

    @property
    def outcome(self) -> str:
        """Return the verdict in a word or two; `wrong` where its files are, `not checked` where only a shell knows it."""
        if self.untold:
            return "not checked"
        return "wrong" if self.report is None else self.report.verdict.answer.words

    @property
    def lacks_device(self) -> bool:
        """Tell whether it was read and could not be judged because no device is known."""
        return self.report is not None and self.report.device is None

    @property
    def is_refused(self) -> bool:
        """Tell whether this launch would not start, or dies: what its reader refuses, does not fit, or a policy forbids."""
        if self.problems:
            return True
        report = self.report
        return report is not None and (
            report.verdict.answer is Answer.DOES_NOT_FIT
            or report.is_refused_by_findings
            or not report.may_launch
        )


def is_unjudged(launches: Iterable[ScannedLaunch]) -> bool:
    """Tell whether launches were read, and none could be judged because no device is known for any."""
    read = [launch for launch in launches if launch.report is not None]
    return bool(read) and all(launch.lacks_device for launch in read)


def scan_files(
    paths: Iterable[str],
    folder: str,
    plugins: PluginManager,
    request: Request,
    flags: Mapping[str, str] | None = None,
) -> Iterator[ScannedLaunch]:
    """Yield every launch of some files, checked; a file without launches yields nothing."""
    around = LaunchCommand((), dict(os.environ), folder, declared_flags=flags or {})
    for path in paths:
        for found in _placed(path, folder):
            scanned = check_found(path, found, around, plugins, request)
            if scanned is not None:
                yield scanned


def scan_repository(
    folder: str,
    files: Iterable[str],
    changed: Sequence[str],
    plugins: PluginManager,
    request: Request,
    flags: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda path: None,
) -> Iterator[ScannedLaunch]:
    """Yield the launches of a repository's `files`, checked; of those alone that changed files concern, where any are named.

    A file concerns a launch that stands in it, that names it, or that reads it: a config, a
    DeepSpeed JSON, a training script; a folder, those that stand in it. `tell` is told which file is looked into.
    """
    own = {
        os.path.normpath(os.path.relpath(os.path.join(folder, path), folder)) for path in changed
    }
    below = tuple(
        "" if path == "." else path + os.sep
        for path in own
        if os.path.isdir(os.path.join(folder, path))
    )
    listed = [os.path.normpath(path) for path in files]
    own |= {path for path in listed if path.startswith(below)} if below else set()
    around = LaunchCommand((), dict(os.environ), folder, declared_flags=flags or {})
    for path in dict.fromkeys([*listed, *sorted(own)]):
        if path not in listed and not path.endswith(SCANNED_ENDINGS):
            continue
        tell(path)
        for found in _placed(path, folder):
            if changed and path not in own and not _names_any(found.argv, found.cwd, folder, own):
                continue
            scanned = check_found(path, found, around, plugins, request)
            if scanned is not None:
                yield scanned


def _placed(path: str, folder: str) -> Iterator[FoundCommand]:
    """Yield the launches of a file, each with the folder in which it starts."""
    top = os.path.abspath(folder)
    for found in found_in(path, text_of(os.path.join(folder, path)), folder):
        yield found._replace(cwd=found.cwd or started_in(top, path, found.argv) or folder)


SCANNED_ENDINGS = (*SHELL_ENDINGS, "Makefile", *ENDINGS)
"""Files that are looked into where they are named, however deep they lie."""


def _names_any(argv: tuple[str, ...], place: str, folder: str, changed: set[str]) -> bool:
    """Tell whether words of a launch are, or their values are, one of the changed files."""
    for word in argv:
        for part in (word, word.partition("=")[2]):
            if part and not part.startswith("-"):
                path = os.path.relpath(os.path.join(place, part), folder)
                if os.path.normpath(path) in changed:
                    return True
    return False


def check_found(
    path: str,
    found: FoundCommand,
    around: LaunchCommand,
    plugins: PluginManager,
    request: Request,
    of_any_script: bool = False,
) -> ScannedLaunch | None:
    """Return a launch of a file, checked; None where it is a script of another kind, which names no trainer.

    `around` is where the file would be started: its variables hold where the file is started on this machine, and
    its argv is not looked at.
    """
    scanned = ScannedLaunch(path, found.line, found.argv, untold=found.untold)
    if found.untold:
        return scanned
    job = found.job
    command = replace(
        around,
        argv=found.argv,
        env={**(around.env if job is None else {}), **found.env},
        cwd=found.cwd or around.cwd,
        in_container=job is not None and not job.has_files,
        is_submitted=job is not None,
        starts_here=around.starts_here and job is None,
    )
    if request.device is None and found.device:
        request = replace(request, device=found.device, device_origin=f"{path}:{found.line}")
    elif request.device is None and job is not None and job.device is not None:
        request = replace(request, device=job.device, device_origin=job.where)
    is_example = os.path.basename(path).startswith("README")
    try:
        plan = read_launch(command, plugins) if is_example else _read(command, plugins, found)
        is_plain = plan is not None and plan.launcher == "python" and plan.trainer is None
        if plan is None or (is_plain and not of_any_script):
            return None
        report = check_launch(command, plugins, request)
    except BadInput as error:
        if found.unknown:
            return replace(scanned, untold=f"{SHELL_KNOWS} {', '.join(found.unknown)}")
        unset = unset_variables(found.argv, found.dropped, error.problems)
        if unset:
            return replace(scanned, untold=f"{SHELL_KNOWS} {', '.join(unset)}")
        if is_example:
            first = next((p for p in error.problems if p.severity == "error"), error.problems[0])
            return replace(scanned, untold=first.message)  # an example with blanks
        return replace(scanned, problems=error.problems)
    if job is not None and job.where:
        report = replace(report, notes=(*report.notes, job.words))
    return replace(scanned, report=report)


def _read(command: LaunchCommand, plugins: PluginManager, found: FoundCommand) -> LaunchPlan | None:
    """Return the plan of a launch, empty where it names a config file that nobody can name or that lies elsewhere: its check
    is `unknown` and says so. A word that only a shell knows may be that name, and is told first."""
    try:
        return read_launch(command, plugins)
    except BadInput as error:
        if found.unknown or unset_variables(found.argv, found.dropped, error.problems):
            raise
        return LaunchPlan(cwd=command.cwd, notices=only_unread(error))
