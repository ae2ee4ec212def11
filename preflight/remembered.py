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


def remembered_for_all(*sizes: str) -> Callable[[Function], Function]:
    """Return what remembers a function of a plan and a model that reads none of the named fields of the plan.

    A search of batch sizes and lengths makes a plan for each, of which all else is the very same: every other field is
    told apart by identity, and so is each origin. `test_remembered.py` changes the sizes under every such function.
    """

    def decorated(function: Function) -> Function:
        known: dict[tuple[int, ...], tuple[Any, Any, Any]] = {}
        others: list[str] = []

        @wraps(function)
        def answer(plan: Any, model: Any) -> Any:
            if not others:
                apart = {*sizes, "origins"}
                others.extend(n for n in plan.__dataclass_fields__ if n not in apart)
            origins = map(id, plan.origins.values())
            key = (id(model), *[id(getattr(plan, name)) for name in others], *origins)
            found = known.get(key)
            if found is None:
                if len(known) >= MOST:
                    known.clear()
                found = known[key] = plan, model, function(plan, model)
            return found[2]

        return cast(Function, answer)

    return decorated


SIZES = ("seq_len", "micro_batch_size", "gradient_accumulation_steps")
of_any_size = remembered_for_all(*SIZES)
"""For what a plan trains and how it is kept, which is the same for every batch and length."""
