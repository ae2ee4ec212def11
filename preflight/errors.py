"""Everything preflight can refuse with, and the one shape in which it says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from preflight.printable import printable
from preflight.values import dataclass, replace


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one place: what, where, what to do."""

    message: str
    """Lower case, no final full stop, the user's own spelling of the key."""
    where: str = ""
    """`configs/fsdp2.yaml:6`, a flag, an environment variable."""
    fix: str = ""
    id: str = ""
    """A finding's stable id (`PF101`) where the problem is one that `preflight explain` knows."""
    severity: str = "error"
    """`error`, `warning` or `info`; anything but an error lets the launch be read further."""
    unpriced: str = ""
    """What the estimate leaves out because of it, in two or three words: `a reference model`."""
    takes: str = ""
    """Where something is unpriced, what the launch takes beside the estimate: `more`, `less` or `either`."""
    is_of_plan: bool = False
    """True where the plan's fields alone say it: a plan that is edited is asked anew."""
    refused_by: str = ""
    """The library that knows no such word in any release that was read; a newer one may. Empty where none can."""

    @classmethod
    def left_out(
        cls,
        message: str,
        where: str,
        unpriced: str,
        takes: str,
        fix: str = "",
        id: str = "PF143",
    ) -> Problem:
        """Return the warning that no formula counts something: by default, what an argument turns on."""
        return cls(message, where, fix, id, "warning", unpriced, takes)

    @classmethod
    def not_understood(cls, value: object, spelling: str, where: str) -> Problem:
        """Return the warning that a value of a script's own flag is none that is known for it, and may be right there."""
        message = f"{spelling} {value!r} is not understood, and is read as not given"
        return cls(message, where, "say it with --set", severity="warning")

    def __str__(self) -> str:
        lines = [self.message]
        if self.where:
            lines.append(f"  at   {self.where}")
        if self.fix:
            lines.append(f"  fix  {self.fix}")
        return "\n".join(lines)


E = TypeVar("E", bound="BadInput")


class PreflightError(Exception):
    """The base of everything preflight raises on purpose. Its text can be printed as it is, whatever a file holds."""

    def __str__(self) -> str:
        return printable(super().__str__())


class BadInput(PreflightError):
    """Something a user can fix: flags, a file, a model that cannot be read. Exit code 2."""

    def __init__(self, *problems: Problem) -> None:
        self.problems: tuple[Problem, ...] = problems
        super().__init__("\n".join(str(problem) for problem in problems))

    @classmethod
    def one(cls: type[E], message: str, where: str = "", fix: str = "", id: str = "") -> E:
        """Build the error for a single problem."""
        return cls(Problem(message, where, fix, id))

    @classmethod
    def of(cls: type[E], place: str, message: str, fix: str = "", id: str = "") -> E:
        """Build the error for a place, a file or a flag, that is the subject of its message: `is not UTF-8 text`."""
        return cls(Problem(f"{place} {message}", place, fix, id))

    def with_id(self, id: str) -> BadInput:
        """Return the error with an id on every problem that has none."""
        return BadInput(*(replace(problem, id=problem.id or id) for problem in self.problems))


class ModelNotKnown(BadInput):
    """A model whose config is not to be had here. A launch of it may be right, so its verdict is `unknown`."""


class HookFailed(PreflightError):
    """A plugin raised, or returned what its hook does not allow. Exit code 3."""

    def __init__(self, plugin: str, hook: str, reason: str) -> None:
        self.plugin = plugin
        self.hook = hook
        self.reason = reason
        super().__init__(f"plugin {plugin} failed in {hook}: {reason}")


class LaunchRefused(PreflightError):
    """The launch was not started; `report` says why. Exit code 78."""

    exit_code = 78
    """What a launch script should end with, as `preflight run` does."""

    def __init__(self, message: str, report: Any = None) -> None:
        self.report = report
        super().__init__(message)


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Raise one BadInput with every problem, warnings among them, if any is an error; else do nothing."""
    found = tuple(problems)
    if any(problem.severity == "error" for problem in found):
        raise BadInput(*found)
