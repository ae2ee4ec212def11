"""What a repository pins: the files of the script's folder, of the folders above it, and of the launch's own."""

from __future__ import annotations

import os
from collections.abc import Sequence

from preflight.command import LaunchCommand
from preflight.files import entries_of
from preflight.libraries.pin_files import PARTS, Pin, kind_of, own_version, pins_of
from preflight.libraries.requirement import Clause, Specifier
from preflight.libraries.ruled_out import ruled_out
from preflight.values import NamedTuple
from preflight.versions.boundary import release

BESIDE = ("requirements", "docker", ".devcontainer")
"""Folders of a repository that hold such files, besides its own folder."""
MOST_FILES = 40
"""Of one folder that are read."""


class Pinned(NamedTuple):
    """What the nearest files allow of one library."""

    specifiers: tuple[Specifier, ...]
    """Any of them may hold: files, and lines for different systems, may disagree."""
    where: str
    """`requirements.txt:3`, the line of the first."""

    def allows(self, version: str) -> bool:
        """Tell whether a release is one that may be installed."""
        return any(one.allows(version) for one in self.specifiers)

    @property
    def is_exact(self) -> bool:
        """Whether each of them allows one release alone."""
        return all(one.exact is not None for one in self.specifiers)

    @property
    def exact(self) -> str | None:
        """The one release that is allowed; None where there may be more."""
        versions = [one.exact for one in self.specifiers if one.exact is not None]
        is_one = self.is_exact and len({release(version) for version in versions}) == 1
        return versions[0] if is_one else None

    def __str__(self) -> str:
        return " or ".join(dict.fromkeys(map(str, self.specifiers)))


def pinned_libraries(command: LaunchCommand) -> dict[str, Pinned]:
    """Return library -> what the repository of a launch allows, and its arguments; the files nearest to its script count."""
    found: dict[str, Pinned] = {}
    for folder in folders_of(command):
        for name, pinned in _of_folder(command, folder).items():
            found.setdefault(name, pinned)
    for name, clause, said_by in ruled_out(command):
        found[name] = _bounded(found.get(name), clause, said_by)
    return found


def _bounded(pinned: Pinned | None, clause: Clause, said_by: str) -> Pinned:
    """Return what a repository allows and the launch's own arguments too; what it pins, where both cannot be."""
    if pinned is None:
        return Pinned((Specifier((clause,)),), said_by)
    both = tuple(Specifier((*one.clauses, clause)) for one in pinned.specifiers)
    possible = tuple(one for one in both if _is_possible(one))
    if pinned.is_exact or not possible or not _narrows(pinned, clause):
        return pinned
    return Pinned(possible, f"{pinned.where} with {said_by}")


def _narrows(pinned: Pinned, clause: Clause) -> bool:
    """Tell whether a bound asks for more than every pin that has one from the same side."""
    is_lower = clause.operator == ">="
    sides = (">=", ">", "=*") if is_lower else ("<", "<=")
    ends = [
        [release(c.version) for c in one.clauses if c.operator in sides]
        for one in pinned.specifiers
    ]
    mine = release(clause.version)
    return not all(any(e >= mine if is_lower else e <= mine for e in each) for each in ends)


def _is_possible(one: Specifier) -> bool:
    """Tell whether a release is allowed that a lower bound of a pin names; true where it has none."""
    named = [clause for clause in one.clauses if clause.operator in (">=", ">", "=*")]
    return not named or any(one.allows(_least(clause)) for clause in named)


def _least(clause: Clause) -> str:
    """Return the first release that a bound allows: of `>1.2`, 1.2.1."""
    if clause.operator != ">":
        return clause.version
    major, minor, patch = (*release(clause.version), 0, 0, 0)[:3]
    return f"{major}.{minor}.{patch + 1}"


def folders_of(command: LaunchCommand) -> tuple[str, ...]:
    """Return the folders whose files may pin, nearest first: from the script upwards, then from the launch's folder.

    Upwards as far as the top of the repository; without one, no further than the launch's own folder.
    """
    cwd = os.path.abspath(command.cwd)
    script = command.named_script()
    starts = [cwd] if script is None else [os.path.dirname(command.resolve(script)), cwd]
    return tuple(dict.fromkeys(folder for start in starts for folder in _upwards(start, cwd)))


def _upwards(folder: str, cwd: str) -> list[str]:
    passed = [folder]
    while not os.path.exists(os.path.join(passed[-1], ".git")):
        above = os.path.dirname(passed[-1])
        if above == passed[-1]:
            # No repository: what lies above the launch is nobody's business.
            return passed[: passed.index(cwd) + 1] if cwd in passed else [folder]
        passed.append(above)
    return passed


def _of_folder(command: LaunchCommand, folder: str) -> dict[str, Pinned]:
    """Return what the files of one folder pin: the first that is exact about a library, else the first that bounds it."""
    found: dict[str, Pinned] = {}
    own = own_version(folder)
    if own is not None:
        found[own.library] = _pinned(command, [own])
    for kind, path in _files(folder):
        by_library: dict[str, list[Pin]] = {}
        for pin in pins_of(path, kind):
            if pin.specifier.clauses:
                by_library.setdefault(pin.library, []).append(pin)
        for library, pins in by_library.items():
            pinned, before = _pinned(command, pins), found.get(library)
            if before is None or (
                kind < PARTS
                and pinned.is_exact
                and not before.is_exact
                and all(before.allows(str(one.exact)) for one in pinned.specifiers)
            ):
                found[library] = pinned
    return found


def _files(folder: str) -> list[tuple[int, str]]:
    """Return the files of a folder that pin, with their kind: those that count most first, and the plainest name."""
    found = []
    for inner in ("", *BESIDE):
        for name in entries_of(os.path.join(folder, inner)):
            kind = kind_of(name, inner)
            if kind is not None:
                found.append((kind, len(inner), len(name), os.path.join(folder, inner, name)))
    return [(kind, path) for kind, *_, path in sorted(found)[:MOST_FILES]]


def _pinned(command: LaunchCommand, pins: Sequence[Pin]) -> Pinned:
    shown = os.path.relpath(pins[0].path, command.cwd)
    name = pins[0].path if shown.startswith(os.path.join("..", "..", "..")) else shown
    specifiers = tuple(dict.fromkeys(pin.specifier for pin in pins))
    if len(specifiers) > 1 and all(one.exact is None for one in specifiers):
        # Lines of one file hold together, unless they are for one Python or extra each.
        both = Specifier(tuple(clause for one in specifiers for clause in one.clauses))
        if any(both.allows(_least(clause)) for clause in both.clauses):
            specifiers = (both,)
    return Pinned(specifiers, f"{name}:{pins[0].line}")
