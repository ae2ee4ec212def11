"""What a library refuses in every release that was read, where the launch has a newer one: nobody here knows."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.errors import Problem
from preflight.formats.missing import TO_FILL_IN
from preflight.launch import LaunchCommand
from preflight.libraries.resolve import Libraries, libraries_of
from preflight.values import replace
from preflight.versions.boundary import release
from preflight.versions.installed import KNOWN_VERSIONS


def as_far_as_read(problems: Iterable[Problem], command: LaunchCommand) -> tuple[Problem, ...]:
    """Return problems of a launch, those that only releases before its own surely have as what was not read."""
    libraries = libraries_of(command)
    return tuple(_of_its_release(each, libraries) if each.refused_by else each for each in problems)


def _of_its_release(problem: Problem, libraries: Libraries) -> Problem:
    library = problem.refused_by
    version, newest = libraries.version(library), KNOWN_VERSIONS[library]
    if not libraries.is_known(library) or release(version) <= release(newest):
        return problem
    known = f"{library} {version} is newer than {newest}, the last that was read, and may know it"
    unpriced = (
        "a launch that was not read"
        if problem.severity == "error"
        else f"what {problem.where} says"
    )
    return replace(
        problem,
        message=f"{problem.message}: {known}",
        id=TO_FILL_IN,
        unpriced=unpriced,
        takes="either",
    )
