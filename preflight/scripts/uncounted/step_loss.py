"""The one step of a script's own that trains, run without numbers in every way that it may go.

A `compute_loss` of a class that stands on Trainer, or the loop around a `backward`, with the functions that they call.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from preflight.launch_facts import LogitsBytes, StepLoss
from preflight.scripts.losses.loss_calls import Step
from preflight.scripts.losses.loss_graph import Group
from preflight.scripts.losses.loss_values import Constant, Functions, GivenUp, Impossible, Returned
from preflight.scripts.python.nodes import last_name, methods_of, unparse, walk
from preflight.scripts.reach.reach_files import may_run
from preflight.scripts.uncounted.own_steps import goes_back
from preflight.scripts.uncounted.reference_copies import PARTITIONS, is_second_copy
from preflight.setting import Place
from preflight.values import NamedTuple

MOST_WAYS = 128
WIDTHS = (2, 4)


class File(NamedTuple):
    """A file that runs."""

    path: str
    tree: ast.Module
    lines: frozenset[int]
    """Numbers of its lines that may run."""


class _Entry(NamedTuple):
    path: str
    node: ast.FunctionDef | ast.For | ast.While
    lines: frozenset[int]


class _Way(NamedTuple):
    bytes: LogitsBytes
    forwards: int
    compares: str
    is_halved: bool
    makes_rows: bool
    """Whether tensors are joined or repeated on the way, of which the model may see more than a batch has."""
    is_sure: bool
    caches_keys: bool
    asks_layers: frozenset[ast.Call]


def step_loss(files: Sequence[File]) -> StepLoss | None:
    """Return what the step of a script makes of the model's logits; None where it is not the only one, or is not known."""
    entry = _entry(files)
    if entry is None:
        return None
    functions = _functions(files)
    try:
        found = {width: list(_ways(entry, functions, width)) for width in WIDTHS}
    except (GivenUp, RecursionError):
        return None
    ways = [way for each in found.values() for way in each]
    if not all(found.values()) or any(way.forwards > 2 for way in ways):
        return None
    has_pairs = {way.is_halved or way.forwards == 2 for way in ways}
    if len(has_pairs) > 1 or any(way.is_halved and way.forwards == 2 for way in ways):
        return None
    is_paired = has_pairs.pop()
    if not is_paired and any(way.makes_rows for way in ways):
        return None
    narrow, wide = (
        LogitsBytes(*(max(values) for values in zip(*(w.bytes for w in found[width]), strict=True)))
        for width in WIDTHS
    )
    compares = {way.compares for way in ways}
    forwards = max(way.forwards for way in ways)
    is_exact = all(
        len({way.bytes for way in each}) == 1 and all(way.is_sure for way in each)
        for each in found.values()
    )
    return StepLoss(
        Place("script", entry.path, "", entry.node.lineno),
        narrow,
        wide,
        forwards,
        is_paired,
        max(compares),
        "reference" in compares and is_second_copy(file.tree for file in files),
        "reference" in compares
        and any(PARTITIONS.search(unparse(file.tree)) is not None for file in files),
        is_exact and forwards == 1 and len(compares) == 1,
        any(way.caches_keys for way in ways),
        len(frozenset().union(*(way.asks_layers for way in ways))),
    )


def _entry(files: Iterable[File]) -> _Entry | None:
    """Return the step of a script; None where there is none of its own, or several."""
    losses, loops = [], []
    for file in files:
        for node in walk(file.tree):
            if isinstance(node, ast.FunctionDef) and node.name == "training_step":
                return None  # which may call the loss as often as it likes
            if not isinstance(node, (ast.FunctionDef, ast.For, ast.While)):
                continue
            entry = _Entry(file.path, node, file.lines)
            if isinstance(node, ast.FunctionDef):
                is_method = [each.arg for each in node.args.args][:1] == ["self"]
                if node.name == "compute_loss" and is_method and may_run(node.body, file.lines):
                    losses.append(entry)
            elif goes_back(node.body) and may_run(node.body, file.lines):
                loops.append(entry)
    found = losses or loops
    return found[0] if len(found) == 1 and not (losses and loops) else None


def _functions(files: Iterable[File]) -> Functions:
    by_name: dict[str, list[ast.FunctionDef]] = {}
    lines: dict[int, frozenset[int]] = {}
    called: dict[str, ast.FunctionDef] = {}
    made: list[tuple[str, str]] = []
    for file in files:
        for node in walk(file.tree):
            if isinstance(node, ast.FunctionDef) and may_run(node.body, file.lines):
                by_name.setdefault(node.name, []).append(node)
                lines[id(node)] = file.lines
            elif isinstance(node, ast.ClassDef):
                if "__call__" in (own := methods_of(node)):
                    called[node.name] = own["__call__"]
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                made.append((unparse(node.targets[0]), last_name(node.value.func)))
    for name, cls in dict.fromkeys(made):  # `metric(logits)` of `metric = Metric()`
        if cls in called and id(called[cls]) in lines:
            by_name.setdefault(name, []).append(called[cls])
    return Functions(by_name, lines)


def _ways(entry: _Entry, functions: Functions, width: int) -> Iterator[_Way]:
    """Yield what each way through a step takes."""
    for machine in _machines(functions, width, {}):
        try:
            way = _run(entry, machine)
        except Impossible:
            continue
        if way is not None:
            evaluation = _evaluated(entry, functions, width, machine.asked)
            yield way._replace(bytes=way.bytes._replace(evaluation=evaluation))


def _machines(functions: Functions, width: int, known: Mapping[str, bool]) -> Iterator[Step]:
    """Yield a machine for each way that a step may go, whose step is run before the next one is asked for."""
    answers: list[bool] = []
    for _ in range(MOST_WAYS):
        machine = Step(functions, width, answers, known)
        yield machine
        answers = machine.answers[: len(machine.asked)]
        while answers and answers[-1]:
            answers.pop()
        if not answers:
            return
        answers[-1] = True
    raise GivenUp("many ways through a step")


def _run(entry: _Entry, machine: Step) -> _Way | None:
    """Return what one way takes; None where it takes no gradient."""
    loss = _entered(entry, machine)
    if isinstance(entry.node, ast.FunctionDef):
        machine.go_back(loss)
    if machine.backward is None or not machine.forwards:
        return None
    forward, after = machine.most, Fraction(0)
    if machine.compares:
        forward, after = machine.before_reference, machine.most
    kept = machine.alive()
    share = Fraction(1, machine.forwards)  # of all rows, that one of the forwards sees
    waiting = machine.waiting if machine.forwards > 1 else Fraction(0)
    counts = (forward, machine.beside, after, machine.backward, kept, Fraction(0), waiting)
    taken = LogitsBytes(*(float(share * each) for each in counts))
    is_halved = machine.halves >= {"begin", "end"} or "unpacked" in machine.halves
    return _Way(
        taken, machine.forwards, machine.compares, is_halved, machine.makes_rows, not machine.doubts,
        machine.caches_keys and bool(machine.compares), frozenset(machine.asks_layers),
    )  # fmt: skip


def _evaluated(entry: _Entry, functions: Functions, width: int, known: Mapping[str, bool]) -> float:
    """Return the most that is alive where a step that goes one way runs without a graph.

    What only that asks is answered no, or in the first way that can be.
    """
    for machine in _machines(functions, width, known):
        machine.evaluates = True
        try:
            _entered(entry, machine)
        except Impossible:
            continue
        most = max(machine.most, machine.before_reference)
        return float(most / max(1, machine.forwards))
    return 0.0


def _entered(entry: _Entry, machine: Step) -> object:
    node = entry.node
    frame: dict[str, object] = {}
    if isinstance(node, ast.FunctionDef):
        names = [each.arg for each in node.args.args]
        frame = dict.fromkeys(names[1:])
        frame["return_outputs"] = Constant(machine.evaluates)
    machine.frames.append(frame)
    machine.lines.append(entry.lines)
    value: object = None
    try:
        machine.run(node.body)
    except Returned as returned:
        value = returned.value
    if isinstance(node, ast.FunctionDef):
        # what it sets on its object lives on, its names do not
        machine.frames[:] = [{key: held for key, held in frame.items() if "." in key}]
        if isinstance(value, Group) and value.items:
            value = next(iter(value.items.values()))
    machine.stack.clear()
    return value
