"""What a plain training loop says: its DataLoader and the calls on its model."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import cast

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.flow import takes_gradient
from preflight.scripts.python.nodes import (
    given_to,
    keyword_of,
    last_name,
    parameters_of,
    unparse,
    walk,
)
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.python.without_graph import makes_no_graph
from preflight.scripts.settings.lightning_calls import lightning_trainer
from preflight.scripts.settings.own_engine import WRAPPERS
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.scripts.uncounted.graphs_in_evaluation import (
    evaluates_with_graph,
    is_turned_off,
)
from preflight.scripts.uncounted.held_outputs import held_outputs
from preflight.scripts.uncounted.parts_of_rows import IN_PARTS, in_parts
from preflight.scripts.uncounted.uncut_maps import uncut_loaders
from preflight.setting import Place
from preflight.unpriced_names import UNCUT_EVALUATION, UNWRAPPED

ROWS = ("per_device_train_batch_size", "loop_eval_rows")
"""Arguments that say how many rows a loader of a plain loop gives at once."""

STAYING = "zero_grad_set_to_none"
"""Argument of a plain loop that says whether it drops gradients between steps, and does not keep them as zeros."""

EVALUATES = ("eval", "no_grad", "inference_mode")
"""Functions of torch under which a model makes no graph, or is told to evaluate."""

_OF_EVALUATION = lazy_pattern(r"(?i)(?:^|_)(?:eval|val|valid|validation|test|dev)(?:_|$)")
"""Names of loaders that no step trains on."""

AVERAGES = frozenset(
    {
        *WRAPPERS,
        "prepare",
        "prepare_model",
        "initialize",
        "setup",
        "setup_module",
        "replicate",
        "DistributedOptimizer",
    }
)
"""Calls that make an engine of a model, whose ranks average their gradients: torch's, accelerate's, DeepSpeed's, Fabric's,
Ray Train's (`prepare_model`) and Horovod's."""
_OF_ANOTHER_KIND = lazy_pattern(
    r"(?i)\A(?!.*model).*(?:optim|adam|sgd|adafactor|loader|sched|lr\Z|sampler|dataset)"
)
"""Names of what is made ready beside a model, and of the calls that make it."""
WITH_GRAPH = "what an evaluation with a graph keeps"


def read_plain_loop(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record the batch and the switches of a script without a Trainer."""
    every = reader.named("DataLoader")
    trained = _trained_on(reader)
    goes_over = [each for each in every if trained.intersection(_names_of(reader, each))]
    loaders = [each for each in every if each in goes_over or _is_training_loader(reader, each)]
    if not loaders and not reader.maybe("DataLoader"):
        loaders = [each for each in every if not _is_evaluating_loader(reader, each)]
    is_sure = len(loaders) == 1 or (len(goes_over) > 1 and len(goes_over) == len(loaders))
    rows = _rows_of(reader, loaders) if is_sure else None
    if rows is not None:
        settings.put(ROWS[0], rows)
        if rows.value is UNKNOWN:
            from preflight.scripts.settings.alternatives import (
                note_numbers,  # few choose when they run
            )

            note_numbers(reader, settings, ROWS[0], [(_rows_given(e), e.scope) for e in loaders])
        if len(loaders) > 1 or (isinstance(rows.value, int) and not rows.flag):
            settings.set_later.add(ROWS[0])  # a flag of that name says no more than the loader does
    made = uncut_loaders(reader, loaders)
    if made is not None:
        settings.seen["uncut_rows"] = made
    evaluated = uncut_loaders(reader, [each for each in every if each not in loaders])
    if evaluated is not None and loaders:
        settings.uncounted[UNCUT_EVALUATION] = Uncounted(evaluated, "more")
    _read_evaluation(reader, settings, loaders if is_sure else [])
    _read_divided_batches(reader, settings)
    part = in_parts(reader.trees.values())
    if part is not None:
        settings.uncounted[IN_PARTS] = Uncounted(Place("script", reader.path, "", part), "less")
    wraps = any(
        each.name in AVERAGES and _may_take_model(reader, each) for each in reader.everywhere
    )
    if not wraps and not lightning_trainer(reader):
        settings.uncounted[UNWRAPPED] = Uncounted(Place("script", reader.path, ""), "less")
    held = held_outputs(reader.trees.values())
    if held is not None:
        settings.put(
            "keeps_outputs", Known(held.keeps, Place("script", reader.path, "", held.line))
        )
    for found in reader.named("zero_grad"):
        said = [each.value for each in found.node.keywords if each.arg == "set_to_none"]
        told = [reader.evaluator.value(each, found.scope) for each in said or found.node.args[:1]]
        if told == [False]:
            settings.put(STAYING, Known(False, reader.place(found)))
    for found in reader.named("clip_grad_norm_"):
        if len(found.node.args) > 1:
            known = reader.evaluator.evaluate(found.node.args[1], found.scope)
            settings.put("max_grad_norm", known)


def _rows_of(reader: ScriptReader, loaders: list[CallFound]) -> Known | None:
    """Return the most rows that some loaders give at once, UNKNOWN where those of one are not known; None where none says
    any, or its rows are batches."""
    told: list[Known] = []
    for loader in loaders:
        values, _ = reader.keywords(loader)
        given = _rows_given(loader)
        if given is not None:
            values["batch_size"] = reader.evaluator.evaluate(given, loader.scope)
        if "batch_size" in values and values["batch_size"].value is not None:
            told.append(values["batch_size"])
    numbers = [each for each in told if type(each.value) is int]
    if len(loaders) == 1 or not told:
        return next(iter(told), None)
    if len(numbers) < len(loaders):
        return Known(UNKNOWN, told[0].place)
    return max(numbers, key=lambda each: cast(int, each.value))


def _rows_given(loader: CallFound) -> ast.expr | None:
    """Return what a loader is given for its rows, second or by name."""
    given = dict(enumerate(loader.node.args)).get(1, keyword_of(loader.node, "batch_size"))
    return None if isinstance(given, ast.Starred) else given


def _trained_on(reader: ScriptReader) -> set[str]:
    """Return the names that loops which take gradients go over, and of what functions are given for one of them."""
    nodes = [node for tree in reader.trees.values() for node in walk(tree)]
    goes_over = {
        id(node): set(_names_in(node.iter))
        for node in nodes
        if isinstance(node, ast.For) and takes_gradient(walk(node))
    }
    names = set().union(*goes_over.values())
    for function in nodes if goes_over else ():
        if not isinstance(function, ast.FunctionDef):
            continue
        within = [goes_over[id(each)] for each in walk(function) if id(each) in goes_over]
        for name in {*parameters_of(function)}.intersection(set().union(*within)):
            calls = [call for _, call in reader.uses.calls.get(function.name, ())]
            given = [given_to(function, call).get(name) for call in calls]
            names.update(each for node in given if node is not None for each in _names_in(node))
    return names


def _names_in(node: ast.expr) -> Iterator[str]:
    return (unparse(each) for each in walk(node) if isinstance(each, (ast.Name, ast.Attribute)))


def _may_take_model(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether a call may be given a model: not where all that it is given is an optimizer, a loader or a scheduler."""
    given = [*found.node.args, *(each.value for each in found.node.keywords)]
    return not given or not all(_is_of_another_kind(reader, each, found.scope) for each in given)


def _is_of_another_kind(reader: ScriptReader, node: ast.expr, scope: Scope) -> bool:
    held = reader.evaluator.may_be(node, scope) if isinstance(node, ast.Name) else ()
    made = [each.func for each, _ in held if isinstance(each, ast.Call)]
    return any(_OF_ANOTHER_KIND.search(last_name(each)) for each in (node, *made))


def _read_evaluation(
    reader: ScriptReader, settings: ScriptSettings, training: list[CallFound]
) -> None:
    """Record the rows that a loop evaluates at once: the most that a loader gives it which is not the one of training.

    It evaluates where its model is told to. Where it only keeps no graph, or nothing tells which loader is that of training,
    it may.
    """
    sure, unsure = (
        [each for each in found("DataLoader") if each not in training]
        for found in (reader.named, reader.maybe)
    )
    validates = "validation_step" in reader.functions and lightning_trainer(reader) is not None
    evaluates = bool(training) and (validates or any(map(_is_switch, reader.named("eval"))))
    may_evaluate = evaluates or validates or any(map(_is_switch, reader.possible(*EVALUATES)))
    switches = [each for each in reader.possible("eval") if _is_switch(each)]
    if switches and not validates and _may_keep_graph(reader, switches):
        # the graph of the batch before is there still, and a model that evaluates recomputes nothing
        settings.uncounted[WITH_GRAPH] = Uncounted(reader.place(switches[0]), "more")
    if not (sure or unsure):
        return
    place = reader.place((sure or unsure)[0])
    told = [
        reader.keywords(each)[0].get("batch_size", Known(1, place)) for each in (*sure, *unsure)
    ]
    rows = [each for each in told if type(each.value) is int]
    if not may_evaluate:
        trained = settings.arguments.get(ROWS[0])
        most = max((cast(int, each.value) for each in rows), default=0)
        is_smaller = len(rows) == len(told) and trained is not None and most <= trained.value
        if training and not is_smaller:
            settings.uncounted[WITH_GRAPH] = Uncounted(place, "more")
        return
    largest = max(rows, key=lambda each: cast(int, each.value), default=None)
    if largest is None or len(rows) < len(told):
        settings.put("loop_eval_rows", Known(UNKNOWN, place))
    elif unsure or not evaluates:
        settings.put("loop_eval_rows", Known(UNKNOWN, place))
        settings.may_be["eval_micro_batch_size"] = (largest.value, None)
    else:
        settings.put("loop_eval_rows", largest)


def _may_keep_graph(reader: ScriptReader, switches: list[CallFound]) -> bool:
    """Tell whether what some calls tell to evaluate may have a graph then."""
    if not makes_no_graph(reader.nodes) and not is_turned_off(reader.nodes):
        return True
    return evaluates_with_graph(reader.trees.values(), {id(each.node) for each in switches})


def _read_divided_batches(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Note that accelerate divides a loader's batch over the ranks, `Accelerator(split_batches=True)`: each has a part
    of it (accelerate/data_loader.py BatchSamplerShard, 1.15)."""
    for found in reader.possible("Accelerator", "DataLoaderConfiguration"):
        divides = reader.keywords(found)[0].get("split_batches")
        if divides is None or divides.value is False:
            continue
        for name in ROWS:
            if name in settings.arguments:
                settings.put(name, Known(UNKNOWN, divides.place))


def _is_switch(found: CallFound) -> bool:
    """Tell whether a call is `model.eval()`, and not Python's own `eval(text)`."""
    return isinstance(found.node.func, ast.Attribute) and not found.node.args


def _is_training_loader(reader: ScriptReader, found: CallFound) -> bool:
    if _is_evaluating_loader(reader, found):
        return False
    if any("train" in each for each in _names_of(reader, found)):
        return True
    values, _ = reader.keywords(found)
    shuffle = getattr(values.get("shuffle"), "value", None)
    first = found.node.args[0] if found.node.args else None
    return shuffle is True or (first is not None and "train" in _text(first))


def _is_evaluating_loader(reader: ScriptReader, found: CallFound) -> bool:
    return any(map(_OF_EVALUATION.search, _names_of(reader, found)))


def _names_of(reader: ScriptReader, found: CallFound) -> list[str]:
    """Return what a script calls that which a call makes."""
    return [
        unparse(node.targets[0])
        for node, _ in reader.possible_statements
        if node.value is found.node
    ]


def _text(node: object) -> str:
    return unparse(node) if isinstance(node, ast.AST) else ""
