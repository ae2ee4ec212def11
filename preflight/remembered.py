"""Remembering what functions of plans said: an estimate asks the same dozen questions many times, a search of every plan.

What a function reads of a plan is noted while it works: fields, and on which side of a boundary its libraries are. An
answer holds for every plan of which all that was asked is the same, whatever else changed: what a function asks depends on
nothing but the answers before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

from preflight.launch import LaunchPlan
from preflight.values import NamedTuple
from preflight.versions.boundary import Boundary, Version

MOST = 1024
"""Answers kept of one function; past that it starts over. A launch with many open values has some hundred readings."""

Function = TypeVar("Function", bound=Callable[..., Any])
Value = TypeVar("Value")
Question = tuple[Any, ...]
"""Of versions: nothing, which they are; a library, which it is; a boundary and what an unknown one is taken for, whether it holds."""
Notes = dict[Any, Any]
"""Field or question -> answer, of what was asked."""


class Asked(LaunchPlan):
    """A plan that notes what is asked of it: its own dictionary has the answers, so that each costs once."""

    __slots__ = ("changed", "values", "versions", "whole")
    changed: Mapping[str, Any]
    """Fields that are others than those of the whole."""
    values: Mapping[str, Any]
    versions: AskedVersions
    whole: LaunchPlan
    __class__ = property(lambda plan: LaunchPlan)
    """What `dataclasses.replace` makes another one of, having read all fields."""

    def __init__(self, whole: LaunchPlan, changed: Mapping[str, Any]) -> None:
        held = whole.values if isinstance(whole, Asked) else whole.__dict__
        values = {**held, **changed} if changed else held
        versions = AskedVersions(self, changed.get("versions", whole.versions))
        for name, value in zip(self.__slots__, (changed, values, versions, whole), strict=True):
            object.__setattr__(self, name, value)

    def __replace__(self, **changed: Any) -> LaunchPlan:
        """Return the plan with other values; what is asked of the rest of it is asked of this one too."""
        return Asked(self, changed)

    def swap_notes(self, notes: Notes) -> Notes:
        """Take other notes; return those before."""
        before = self.__dict__
        object.__setattr__(self, "__dict__", notes)
        return before


class _Field:
    """A field of a plan that notes what is asked of it: found here once, and then in the plan's own dictionary."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, plan: Any, owner: type) -> Any:
        name, changed = self.name, plan.changed
        value = changed[name] if name in changed else getattr(plan.whole, name)
        plan.__dict__[name] = value
        return value


for _field in fields(LaunchPlan):
    if _field.name != "versions":
        setattr(Asked, _field.name, _Field(_field.name))


class AskedVersions(Mapping[str, str]):
    """The versions of a plan that notes what is asked of it."""

    __slots__ = ("held", "plan", "told")

    def __init__(self, plan: Asked, held: Mapping[str, str]) -> None:
        self.plan, self.held, self.told = plan, held, _told_of(held)

    def note(self, question: Question) -> Any:
        """Note a question of the plan, and of the one whose versions these are; return the answer."""
        notes: Notes = self.plan.__dict__
        if question not in notes:
            notes[question] = self.told[question]
            if type(self.held) is AskedVersions:
                self.held.note(question)
        return notes[question]

    def holds(self, boundary: Boundary, unknown: Version) -> bool:
        """Tell whether something is so in these releases."""
        answer: bool = self.note((boundary, unknown))
        return answer

    def get(self, library: str, default: Any = None) -> Any:
        """Return the version of a library."""
        text = self.note((library,))
        return default if text is None else text

    def __getitem__(self, library: str) -> str:
        text: str | None = self.note((library,))
        if text is None:
            raise KeyError(library)
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.note(())))

    def __len__(self) -> int:
        return len(self.note(()))


class _Told(dict[Question, Any]):
    """What was asked of some versions, with the answers."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self.versions = versions

    def __missing__(self, question: Question) -> Any:
        if not question:
            answer: Any = tuple(self.versions.items())
        elif len(question) == 1:
            answer = self.versions.get(question[0])
        else:
            answer = question[0].holds_in(self.versions, question[1])
        self[question] = answer
        return answer


_TOLD: dict[int, _Told] = {}


def _told_of(versions: Mapping[str, str]) -> _Told:
    if type(versions) is AskedVersions:
        return versions.told
    found = _TOLD.get(id(versions))
    if found is None:
        if len(_TOLD) >= MOST:
            _TOLD.clear()
        found = _TOLD[id(versions)] = _Told(versions)
    return found


class _Answer(NamedTuple):
    """What a function said once all that it asks had been asked."""

    result: Any
    questions: tuple[Any, ...]
    """In the order in which they were asked."""
    kept: tuple[Any, ...]
    """Values whose identity leads here, so that nothing else has it."""


def remembered(function: Function) -> Function:
    """Return a function that answers at once where all that it asks has the same answers as before.

    For pure functions by position, of a plan in the first place or of frozen values alone. Values other than words and
    numbers are told apart by identity, which costs nothing and cannot mistake one for another; they are kept with the
    answer, so an identity is not used again. Whoever takes an answer must not change it, and no answer holds the plan.
    """
    # What is asked first, then what is asked after each answer to that: (question, {answer: what is next}), or an _Answer.
    known: dict[Any, Any] = {}
    num_answers = 0

    @wraps(function)
    def answer(plan: Any, *rest: Any, **named: bool) -> Any:
        nonlocal num_answers
        is_asked = type(plan) is Asked
        is_plan = is_asked or isinstance(plan, LaunchPlan)
        held = rest if is_plan else (plan, *rest)
        # Words and numbers are told apart by what they are.
        key: Any = (
            *[v if v.__class__ is str or v.__class__ is int else id(v) for v in held],
            *named.items(),
        )
        step = known.get(key)
        if is_plan:
            values = plan.values if is_asked else plan.__dict__
            told = plan.versions.told if is_asked else _told_of(plan.versions)
            while step.__class__ is tuple:
                question, ways = step
                step = ways.get(
                    id(values[question]) if question.__class__ is str else told[question]
                )
        if step is not None:
            if step.questions:
                _ask(plan, step.questions)
            return step.result
        notes: Notes = {}
        if not is_plan:
            result = function(plan, *rest, **named)
        elif is_asked:
            before = plan.swap_notes(notes)
            try:
                result = function(plan, *rest, **named)
            finally:
                plan.swap_notes(before)
                before.update(notes)
        else:
            asked = Asked(plan, {})
            asked.swap_notes(notes)
            result = function(asked, *rest, **named)
        num_answers += 1
        if num_answers > MOST:
            known.clear()
            num_answers = 1
        place, at = known, key
        for question, value in notes.items():
            step = place.get(at)
            if step.__class__ is not tuple or step[0] != question:
                step = place[at] = question, {}
            place, at = step[1], id(value) if question.__class__ is str else value
        place[at] = _Answer(result, tuple(notes), (held, *notes.values()))
        return result

    return cast(Function, answer)


def _ask(plan: LaunchPlan, questions: tuple[Any, ...]) -> None:
    """Note what a function that answers at once had asked."""
    is_asked, versions = type(plan) is Asked, plan.versions
    for question in questions:
        if question.__class__ is str:
            if is_asked:
                getattr(plan, question)
        elif type(versions) is AskedVersions:
            versions.note(question)


def first_of_equals(value: Value) -> Value:
    """Return the first value that was equal to this one, so that those who remember by identity take both for the same."""
    return cast(Value, _first(value))


@lru_cache(maxsize=MOST)
def _first(value: object) -> object:
    return value
