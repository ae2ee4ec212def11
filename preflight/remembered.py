"""Remembering what a function of frozen values said: an estimate asks the same dozen questions many times."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

MOST = 256
"""Answers kept of one function; past that it starts over. A search of remedies asks about some hundred plans."""

Function = TypeVar("Function", bound=Callable[..., Any])


def remembered(function: Function) -> Function:
    """Return a function that answers at once where it was asked about the very same values.

    For pure functions of frozen values, by position: values are told apart by identity, which costs nothing and
    cannot mistake one plan for another; what was asked is kept with the answer, so an identity is not used again.
    Whoever takes an answer must not change it.
    """
    known: dict[tuple[int, ...], tuple[tuple[Any, ...], Any]] = {}

    @wraps(function)
    def answer(*asked: Any) -> Any:
        key = tuple(map(id, asked))
        found = known.get(key)
        if found is None:
            if len(known) >= MOST:
                known.clear()
            found = known[key] = asked, function(*asked)
        return found[1]

    return cast(Function, answer)


def remembered_by(*reads: str) -> Callable[[Function], Function]:
    """Return what remembers a function of a plan, a model and words or switches by the fields of the plan that it reads.

    A search makes a plan for each batch, length and reading, and most questions are not about what those change.
    `test_remembered.py` watches what every such function reads.
    """

    def decorated(function: Function) -> Function:
        known: dict[tuple[Any, ...], tuple[Any, Any, Any]] = {}

        @wraps(function)
        def answer(plan: Any, model: Any, *words: str | bool, **named: bool) -> Any:
            key = (id(model), words, *named.items(), *[id(getattr(plan, name)) for name in reads])
            found = known.get(key)
            if found is None:
                if len(known) >= MOST:
                    known.clear()
                found = known[key] = plan, model, function(plan, model, *words, **named)
            return found[2]

        answer.reads = reads  # type: ignore[attr-defined]
        return cast(Function, answer)

    return decorated
