"""The optimizer that a loop of somebody's own makes: its class as the imports name it, and how it walks over tensors."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.formulas.optimizer_classes import (
    DIVIDES_STATES,
    changing_options,
    constructors,
    optimizer_of,
)
from preflight.plan_choices import OPEN_VALUES
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.library_classes import dotted
from preflight.scripts.python.nodes import argument_of, keyword_of, last_name
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.values import NamedTuple

MOST_BY_PLACE = 2
"""Parameters and learning rate: what stands behind them by its place may be momentum."""
_MOST_NAMES = 4
"""Through which a class is passed on; also what ends a circle."""


class Made(NamedTuple):
    """One class that a call may make an optimizer of."""

    name: object
    """The Trainer's name of it, or UNKNOWN."""
    kernel: str | None = None
    """for_loop where the call says so; None for torch's own choice."""


def read_own_optimizer(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record the optimizer that a script without a Trainer makes, where every call that may run says the same.

    Of one that nobody finds nothing is recorded: every training has one, and it stays open.
    """
    sure = [(found, made) for found in reader.calls if (made := _made(reader, found))]
    unsure = [(found, made) for found in reader.unsure if (made := _made(reader, found))]
    told = {each for _, made in (*sure, *unsure) for each in made}
    if not told:
        return
    place = reader.place((sure or unsure)[0][0])
    if not sure or len(told) > 1:
        usual = OPEN_VALUES["optimizer"]
        more = {str(each.name) for each in told if each.name is not UNKNOWN}.difference(usual)
        settings.may_be["optimizer"] = (*usual, *sorted(more))
        told = {Made(UNKNOWN)}
    (only,) = told
    settings.put("loop_optimizer", Known(only.name, place))
    if only.kernel is not None:
        settings.put("loop_optimizer_kernel", Known(only.kernel, place))


def trainers_name(reader: ScriptReader, node: ast.expr, scope: Scope) -> str | None:
    """Return the Trainer's name of an optimizer's class; None where it is not known or may be several."""
    names = {optimizer_of(each) for each in _classes(reader, node, scope, 0)}
    return next(iter(names)) if len(names) == 1 else None


def _made(reader: ScriptReader, found: CallFound) -> list[Made]:
    """Return what a call makes, one for every class that it may call; nothing for what makes no optimizer that we know."""
    func, given = found.node.func, found.node
    if argument_of(given, 0, "params") is None:
        return []
    if last_name(func) == DIVIDES_STATES:  # its other keywords are those of the class that it gets
        func = keyword_of(given, "optimizer_class") or func
    is_name = isinstance(func, ast.Name) and func.id not in constructors()
    is_alias = is_name or isinstance(func, ast.IfExp)
    if not is_alias and last_name(func) not in constructors():
        return []
    classes = list(_classes(reader, func, found.scope, 0))
    if is_alias and not any(optimizer_of(each) for each in classes):
        return []
    return [_as_called(reader, found, each) for each in classes]


def _as_called(reader: ScriptReader, found: CallFound, cls: str) -> Made:
    """Return an optimizer with what the keywords of its call say of it."""
    values, is_open = reader.keywords(found)
    options = {name: getattr(each, "value", UNKNOWN) for name, each in values.items()}
    known = changing_options(cls)
    is_open = is_open or len(found.node.args) > MOST_BY_PLACE
    is_told = UNKNOWN not in (options.get(each) for each in known) and not (is_open and known)
    name = optimizer_of(cls, options) if is_told else None
    if name is None:
        return Made(UNKNOWN)
    if name != "adamw_torch":
        return Made(name)
    fused, foreach = (getattr(values.get(each), "value", None) for each in ("fused", "foreach"))
    if is_open or UNKNOWN in (fused, foreach):
        return Made(UNKNOWN)
    if fused:
        return Made("adamw_torch_fused")
    return Made(name, "for_loop" if foreach is False else None)


def _classes(reader: ScriptReader, node: ast.expr, scope: Scope, depth: int) -> Iterator[str]:
    """Yield what a class may be, with its library, `torch.optim.AdamW`; empty for one that is not known."""
    if depth > _MOST_NAMES:
        yield ""
    elif isinstance(node, ast.IfExp):
        for branch in reader.evaluator.branches(node, scope):
            yield from _classes(reader, branch, scope, depth + 1)
    elif isinstance(node, ast.Name) and scope.holder(node.id) is not None:
        for held in reader.evaluator.may_be(node, scope) or ((ast.Constant(None), scope),):
            yield from _classes(reader, *held, depth + 1)
    elif isinstance(node, ast.Name) and reader.class_of(node.id, scope.path) is not None:
        yield ""
    else:
        yield dotted(reader, node, scope.path)
