"""What a reader returns: the value that it read, and what it has to say about it.

Nobody appends to a list of somebody else's: a function that reads something returns a Reading, one
that only checks returns its problems or yields them, and who called it decides what becomes of them.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from preflight.errors import Problem
from preflight.values import dataclass, replace

Value = TypeVar("Value")
Read = TypeVar("Read", covariant=True)


@dataclass(frozen=True)
class Reading(Generic[Read]):
    """A value, and the problems that were met on the way to it."""

    value: Read
    problems: tuple[Problem, ...] = ()
    """In the order in which they came up."""

    @property
    def is_refused(self) -> bool:
        """Tell whether one of the problems is an error."""
        return any(problem.severity == "error" for problem in self.problems)

    def stopping_nothing(self) -> Reading[Read]:
        """Return the same with each error a warning: nobody knows that the library whose rule is broken reads the value."""
        softer = (
            replace(each, severity="warning") if each.severity == "error" else each
            for each in self.problems
        )
        return replace(self, problems=tuple(softer))


class Problems(list[Problem]):
    """The problems that one function meets, in order; it returns them and hands the list to nobody."""

    def take(self, reading: Reading[Value]) -> Value:
        """Keep the problems of a reading, and return its value."""
        self.extend(reading.problems)
        return reading.value

    @property
    def refused(self) -> frozenset[str]:
        """The places of the errors: a note on what was refused would only explain what refusing it left behind."""
        return frozenset(problem.where for problem in self if problem.severity == "error")
