"""Which assignments of a block a name may hold where it is used: those before it, in branches that may be taken."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import last_name, unparse, walk
from preflight.values import dataclass

T = TypeVar("T")

Position = tuple[int, int]
"""Line and column."""


@dataclass(frozen=True)
class Guard:
    """A condition under which a statement runs; without a test it is one that nobody can evaluate."""

    test: ast.expr | None
    wanted: bool


@dataclass(frozen=True)
class Way:
    """How Python comes to a statement of a block."""

    guards: tuple[Guard, ...]
    """The conditions around it, from the outside in."""
    is_repeated: bool
    """Whether it stands in a loop: it may then run before what stands above it."""
    end: Position
    """Where it ends: what stands behind that runs later."""

    def starting(self, node: ast.expr) -> Way:
        """Return the way to what a statement does first, before the statements in it."""
        return Way(
            self.guards,
            self.is_repeated,
            (node.end_lineno or node.lineno, node.end_col_offset or 0),
        )


UNTESTED: tuple[Guard, ...] = (Guard(None, True),)

ANYWHERE = Way(UNTESTED, True, (0, 0))
"""Of a statement whose place is not known."""


def is_main_guard(node: ast.AST) -> bool:
    """Tell whether a statement is `if __name__ == "__main__":`."""
    return isinstance(node, ast.If) and "__name__" in unparse(node.test)


def leaves(body: Sequence[ast.stmt]) -> bool:
    """Tell whether a list of statements ends its block, by a return or the end of a loop's step; an error ends all."""
    return bool(body) and isinstance(body[-1], (ast.Return, ast.Continue, ast.Break))


def returns(body: Sequence[ast.stmt]) -> bool:
    """Tell whether a function of these statements ends in a return or an error whatever way it goes."""
    last = body[-1] if body else None
    if isinstance(last, ast.If):
        return returns(last.body) and returns(last.orelse)
    if isinstance(last, (ast.With, ast.AsyncWith)):
        return returns(last.body)
    if isinstance(last, ast.Try):
        caught = (each for each in last.handlers if not _is_of_reading(each))
        whole = returns(last.orelse or last.body) and all(returns(each.body) for each in caught)
        return whole or returns(last.finalbody)
    return isinstance(last, (ast.Return, ast.Raise))


def _is_of_reading(caught: ast.ExceptHandler) -> bool:
    """Tell whether only a file that is not there, or cannot be read, leads here: a file of settings is looked at itself."""
    return caught.type is not None and _OF_READING.fullmatch(unparse(caught.type)) is not None


_OF_READING = lazy_pattern(
    r"(?:\w+\.)*(?:YAMLError|JSONDecodeError|FileNotFoundError|OSError|IOError)"
)


def trains(body: Sequence[ast.stmt]) -> bool:
    """Tell whether statements train: a launch that stops in front of them would be none."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, (ast.Attribute, ast.Name))
        and _TRAINS.search(getattr(node.func, "attr", getattr(node.func, "id", ""))) is not None
        for each in body
        for node in walk(each)
    )


def takes_gradient(nodes: Iterable[ast.AST]) -> bool:
    """Tell whether one of some nodes is a call that takes gradients: `loss.backward()`, `accelerator.backward(loss)`."""
    return any(isinstance(node, ast.Call) and last_name(node.func) == "backward" for node in nodes)


_TRAINS = lazy_pattern(r"^(?:train|backward|fit|training_loop)$|Trainer$")


def ways_of(body: Sequence[ast.stmt]) -> dict[int, Way]:
    """Return the id of every statement of a block -> how Python comes to it; functions and classes are blocks of their own."""
    return {
        id(node): Way(
            guards, is_repeated, (node.end_lineno or node.lineno, node.end_col_offset or 0)
        )
        for node, guards, is_repeated in _statements(body, (), False)
    }


def _statements(
    body: Sequence[ast.stmt], guards: tuple[Guard, ...], is_repeated: bool
) -> Iterator[tuple[ast.stmt, tuple[Guard, ...], bool]]:
    for index, node in enumerate(body):
        yield node, guards, is_repeated
        if isinstance(node, ast.If):
            around = guards
            # Behind `if done: return` a statement runs where that is not taken.
            if leaves(node.body) and not trains(body[index + 1 :]):
                guards = (*guards, Guard(node.test, False))
            elif leaves(node.orelse) and not trains(body[index + 1 :]):
                guards = (*guards, Guard(node.test, True))
            tests = (
                ((), ())
                if is_main_guard(node)
                else ((Guard(node.test, True),), (Guard(node.test, False),))
            )
            yield from _statements(node.body, around + tests[0], is_repeated)
            yield from _statements(node.orelse, around + (tests[1] or UNTESTED), is_repeated)
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            yield from _statements(node.body, guards + UNTESTED, True)
            yield from _statements(node.orelse, guards + UNTESTED, is_repeated)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            yield from _statements(node.body, guards, is_repeated)
        elif isinstance(node, ast.Try):
            yield from _statements(node.body, guards, is_repeated)
            for handler in node.handlers:
                yield from _statements(handler.body, guards + UNTESTED, is_repeated)
            yield from _statements(node.orelse, guards + UNTESTED, is_repeated)
            yield from _statements(node.finalbody, guards, is_repeated)
        elif isinstance(node, ast.Match):
            for case in node.cases:
                yield from _statements(case.body, guards + UNTESTED, is_repeated)


def live(
    written: Iterable[tuple[T, Way]], at: Position | None, holds: Callable[[Guard], bool | None]
) -> tuple[list[T], bool]:
    """Return what a name may have been given before a place, and whether one of it surely was.

    Without a place, as of a name that an inner function uses, everything that may run counts: nobody knows when.
    """
    kept: list[T] = []
    is_sure = False
    for value, way in written:
        if at is not None and not way.is_repeated and way.end > at:
            continue
        runs = _runs(way, holds)
        if runs is False:
            continue
        if runs and not way.is_repeated:
            is_sure = True
            if at is not None:
                kept.clear()
        kept.append(value)
    return kept, is_sure


def _runs(way: Way, holds: Callable[[Guard], bool | None]) -> bool | None:
    """Tell whether a statement runs; None where that is not known. A condition inside one that fails is not asked."""
    runs: bool | None = True
    for guard in way.guards:
        held = holds(guard)
        if held is False:
            return False
        if held is None:
            runs = None
    return runs
