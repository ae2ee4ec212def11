"""Optimizers of a script's loop that keep what nobody knows: of classes that are not known, around another one.

Told by calls in a syntax tree; a second optimizer of the same parameters is one of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

from preflight.formulas.optimizer_classes import (
    CONSTRUCTORS,
    DIVIDES_STATES,
    GATHERS_STATES,
    is_within_adamw,
    with_more_states,
)
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import (
    argument_of,
    branches_of,
    keyword_of,
    last_name,
    unparse,
    walk,
)
from preflight.unpriced_names import IN_SHARDS

KNOWN_STATES = CONSTRUCTORS | {"DummyOptim"}
"""DummyOptim stands for the one that DeepSpeed's config names (accelerate/utils/deepspeed.py)."""
HOLD_PARAMETERS = frozenset(
    {"Counter", "GatheredParameters", "Parameter", "ParameterList", "ParameterDict"}
)
"""Classes that are given parameters and are no optimizers."""
HAND_ON = frozenset({"AcceleratedOptimizer", "DistributedOptimizer"})
"""Classes around an optimizer that add nothing to its states: accelerate's, and Horovod's, whose buffers are its own."""
PARAMETERS = lazy_pattern(
    r"\.(?:named_)?parameters\(\)|\bparam(?:eter)?s?(?:_groups?)?\b(?!\.(?!values\b|copy\b))|grouped_parameters"
)
"""Of a class that is given parameters; `params.dim` is a number of somebody's config."""
PICKS = "get_optimizer_cls_and_kwargs"
"""The method that gives a Trainer the class of its optimizer, before its options (transformers/trainer.py, 4.28 to 5.24)."""
_AROUND = lazy_pattern(r"Optim|Lookahead|LARC|SWA|SAM")
"""Of a class that stands around an optimizer, and is no scheduler, trainer or state of a checkpoint."""


def own_optimizers(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield what the optimizers of a file keep that nobody knows, each with its line."""
    known = KNOWN_STATES | _other_names(nodes)
    yield from _second_optimizer(nodes, known)
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and node.name == PICKS:
            yield from _picked(node, known)
    held = _held_by(nodes, known)
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        name = _unknown_optimizer(node, known) or _around(node, held)
        if name == IN_SHARDS and any(getattr(n, "attr", "") == GATHERS_STATES for n in nodes):
            name = DIVIDES_STATES  # those of all ranks pass through a card
        if name:
            yield f"the states of {name}", node.lineno


def _picked(method: ast.FunctionDef, known: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Yield the classes that a method gives a Trainer and whose states are not known; what the method above it gives is."""
    nodes, set_to = walk(method), dict[str, list[ast.expr]]()
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                first = target.elts[0] if isinstance(target, ast.Tuple) else target
                set_to.setdefault(unparse(first), []).append(node.value)
    for node in nodes:
        if not isinstance(node, ast.Return) or node.value is None:
            continue
        first = node.value.elts[0] if isinstance(node.value, ast.Tuple) else node.value
        for value in set_to.get(unparse(first), [first]):
            for way in branches_of(value):
                name = last_name(way.func if isinstance(way, ast.Call) else way)
                if name == PICKS or name in known or is_within_adamw(name, {}):
                    continue
                yield f"the states of {name if name[:1].isupper() else 'an optimizer'}", way.lineno


def _held_by(nodes: Sequence[ast.AST], known: frozenset[str]) -> frozenset[str]:
    """Return the names that hold an optimizer."""
    return frozenset(
        node.targets[0].id
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if isinstance(node.value, ast.Call) and last_name(node.value.func) in known
    )


def _around(call: ast.Call, held: frozenset[str]) -> str:
    """Return the class of what is made around an optimizer that a name holds: `Lookahead(optimizer)`, `BlockOptimizer(base_optimizer=it)`."""
    name = last_name(call.func)
    given = [
        *call.args[:1],
        *(each.value for each in call.keywords if each.arg and "optimizer" in each.arg),
    ]
    is_around = any(
        (isinstance(each, ast.Name) and each.id in held)
        or (isinstance(each, ast.Call) and last_name(each.func) in KNOWN_STATES)
        for each in given
    )
    is_known = name in KNOWN_STATES | HAND_ON or not name[:1].isupper()
    return name if is_around and not is_known and _AROUND.search(name) else ""


def _other_names(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Return names that only known optimizers are given to: `Adam = FusedAdam if on_device else DeepSpeedCPUAdam`."""
    found: dict[str, bool] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value, name = node.value, node.targets[0].id
            is_known = all(last_name(way) in KNOWN_STATES for way in branches_of(value))
            found[name] = found.get(name, True) and is_known
    return frozenset(name for name, is_known in found.items() if is_known)


def _unknown_optimizer(call: ast.Call, known: frozenset[str]) -> str:
    """Return the class of a call that is given parameters to step, where its states are not known."""
    name = last_name(call.func)
    given = argument_of(call, 0, "params")
    is_text = isinstance(given, (ast.JoinedStr, ast.Constant, ast.BinOp, ast.Dict))
    is_other = name in HOLD_PARAMETERS | HAND_ON or name.endswith(("Error", "Exception", "Warning"))
    if not name[:1].isupper() or is_other or is_text:
        return ""
    if given is None or not PARAMETERS.search(unparse(given)):
        return ""
    # A value that only the run has may be any.
    options = {str(each.arg): getattr(each.value, "value", True) for each in call.keywords}
    if is_within_adamw(name, options):
        return ""
    if name == DIVIDES_STATES and _divides_states(call, options):
        name = IN_SHARDS
    return with_more_states(name, options) or ("" if name in known else name)


def _divides_states(call: ast.Call, options: Mapping[str, object]) -> bool:
    """Tell whether ranks divide the states of a known class among them, with no bucket beside and no state more."""
    inner = keyword_of(call, "optimizer_class")
    makes_more = options.keys() & {"parameters_as_bucket_view", "overlap_with_ddp", "None"}
    return inner is not None and last_name(inner) in CONSTRUCTORS and not makes_more


def _second_optimizer(nodes: Iterable[ast.AST], known: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Yield where a block gives the parameters of one model to a second optimizer, under another name."""
    for block in nodes:
        held: dict[str, str] = {}
        for node in block.body if isinstance(block, (ast.Module, ast.FunctionDef, ast.For)) else ():
            if not isinstance(node, ast.Assign) or not isinstance(made := node.value, ast.Call):
                continue
            if last_name(made.func) not in known or not made.args:
                continue
            given, name = unparse(made.args[0]), last_name(node.targets[0])
            if PARAMETERS.search(given) and held.setdefault(given, name) != name:
                yield "the states of a second optimizer", node.lineno
