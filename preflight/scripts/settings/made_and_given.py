"""Whether what a script makes, a config of packing, an adapter's, a plugin, reaches the call that takes it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.scripts.python.bindings import handed
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import all_arguments, keyword_of, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.followed_models import followed, function_of, loads, set_to
from preflight.scripts.settings.given_keywords import given_by
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place

_SWITCHES = ("load_in_4bit", "load_in_8bit")
QUANTIZED_BY = "quantization_config"
QUANTIZES_BY_FLAGS = ("get_quantization_config", "BitsAndBytesConfig")
"""Calls that make a quantization_config and are read elsewhere, TRL's own among them (trl/trainer/utils.py)."""


_MOST_DEEP = 6
"""Names and functions behind which an argument is looked for."""


def is_given(reader: ScriptReader, node: ast.expr, scope: Scope, depth: int = 0) -> bool | None:
    """Tell whether an argument is something, and not None; None where only running tells."""
    if isinstance(node, ast.Constant):
        return node.value is not None
    if isinstance(node, ast.IfExp):
        is_here = unparse(node.test) == "torch.cuda.is_available()"
        # what is judged is a launch on GPUs
        ways = [node.body] if is_here else reader.evaluator.branches(node, scope)
        return _one_of({is_given(reader, way, scope, depth) for way in ways})
    if depth > _MOST_DEEP:
        return True
    if isinstance(node, ast.Call):
        with reader.made_by(node, scope) as made:
            others = [each for each in made if each[0] is not node]
            return _of_ways(reader, others, depth)
    if reader.evaluator.evaluate(node, scope).value is None:
        return False
    if isinstance(node, ast.Attribute):
        return _of_ways(reader, _set_to(reader, node), depth)
    if not isinstance(node, ast.Name):
        return True
    held = [
        each
        for each in reader.evaluator.may_be(node, scope)
        if each[1] is not scope or each[0].lineno < node.lineno
    ]
    if not reader.evaluator.is_set_before(node, scope):
        held += _handed(reader, node.id, scope)
    return _of_ways(reader, held, depth)


def _of_ways(reader: ScriptReader, ways: list[tuple[ast.expr, Scope]], depth: int) -> bool | None:
    found = {is_given(reader, each, where, depth + 1) for each, where in ways}
    return _one_of(found) if found else True


def _set_to(reader: ScriptReader, node: ast.Attribute) -> list[tuple[ast.expr, Scope]]:
    """Return what statements set an attribute to: the last one alone, where it surely runs."""
    ways = set_to(reader, node)
    return ways[-1:] if ways and reader.evaluator.surely_runs(*ways[-1]) else ways


def is_handed(reader: ScriptReader, call: CallFound, name: str) -> bool | None:
    """Tell whether a call is given something by a keyword, its own or an entry of what `**` hands on; None where only running
    tells."""
    own = keyword_of(call.node, name)
    if own is not None:
        return is_given(reader, own, call.scope)
    values, is_open = reader.keywords(call)
    if name not in values:
        return None if is_open else False
    if values[name].value is None:
        return False
    ways = given_by(reader, call, name)
    is_one = _of_ways(reader, ways, 0)
    return is_one if not ways or any(_surely_set(reader, *each) for each in ways) else None


def _surely_set(reader: ScriptReader, value: ast.expr, scope: Scope) -> bool:
    """Tell whether a statement that makes a value an entry of a dict surely runs."""
    adding = (
        call
        for calls in scope.grown.values()
        for call in calls
        if any(each is value for each in walk(call))
    )
    return reader.evaluator.surely_runs(next(adding, value), scope)


def _handed(reader: ScriptReader, name: str, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
    """Yield what the calls of a function may hand it as one of its parameters, and its default."""
    holder = scope.holder(name)
    function = None if holder is None else function_of(reader, holder)
    if holder is not None and function is not None and name in holder.arguments:
        for call in reader.possible_calls:
            if any(each is function for each, _ in reader.meant_by(call.node, call.scope)):
                given = handed(function, holder, (call.node, call.scope), name)
                if given is not None:
                    yield given


def _one_of(ways: set[bool | None]) -> bool | None:
    return next(iter(ways)) if len(ways) == 1 else None


def is_loaded(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether anything reads what a call makes: what goes into a variable that nobody asks for again is never used."""
    for node, scope in reader.possible_statements:
        target = node.targets[0]
        if node.value is found.node and isinstance(target, ast.Name) and scope is found.scope:
            function = function_of(reader, scope)
            places = reader.trees.values() if function is None else [function]
            unused = _never_run(reader)
            return any(_asks_for(place, target.id, unused) for place in places)
    return True


def _never_run(reader: ScriptReader) -> set[int]:
    """Return the ids of what is written in calls of a branch that is not taken, in blocks that run."""
    possible = {id(each.node) for each in reader.possible_calls}
    running = {id(each.scope) for each in reader.possible_calls}
    dead = (each for each in reader.everywhere if id(each.scope) in running)
    return {id(node) for call in dead if id(call.node) not in possible for node in walk(call.node)}


_Block = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def _asks_for(block: ast.AST, name: str, unused: set[int]) -> bool:
    """Tell whether a name of a block is read in it, or in a function inside that has no parameter of that name."""
    hidden = unused | {
        id(each)
        for inner in walk(block)
        if isinstance(inner, _Block) and inner is not block
        if any(each.arg == name for each in all_arguments(inner))
        for part in ([inner.body] if isinstance(inner, ast.Lambda) else inner.body)
        for each in walk(part)
    }
    return any(_reads(each, name) for each in walk(block) if id(each) not in hidden)


def _reads(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Name):
        return node.id == name and isinstance(node.ctx, ast.Load)
    if isinstance(node, (ast.ImportFrom, ast.Import)):
        return any(each.name in (name, "*") for each in node.names)
    return isinstance(node, ast.Attribute) and node.attr == name


def note_whole(
    reader: ScriptReader, settings: ScriptSettings, is_packed: bool | None, place: Place
) -> None:
    """Record that what a script says of packing does not reach the model that it loads, or may not."""
    if is_packed is True or "quantization" not in settings.seen:
        return
    for name in _SWITCHES:
        if name in settings.arguments:
            settings.put(name, Known(UNKNOWN if is_packed is None else False, place))


def note_packed(reader: ScriptReader, settings: ScriptSettings, found: CallFound) -> None:
    """Note a quantization_config that is made by what is not read, and one that the model may not be given."""
    given = given_by(reader, found, QUANTIZED_BY)
    if given:
        is_packed = is_handed(reader, found, QUANTIZED_BY)
        note_whole(reader, settings, is_packed, reader.place(found))
    for node, scope in given:
        made = followed(reader, node, scope)
        if any(call is None or not _is_read_elsewhere(call) for call in made):
            settings.doubt("load_in_4bit", reader.place(found))


def _is_read_elsewhere(made: CallFound) -> bool:
    """Tell whether what a quantization_config says is read where it is made, or stores nothing packed."""
    whole = keyword_of(made.node, "dequantize")
    return made.name in QUANTIZES_BY_FLAGS or (whole is not None and unparse(whole) == "True")


def leave_whole(reader: ScriptReader, settings: ScriptSettings, found: CallFound) -> None:
    """Leave open that the model is packed, where another one is that the script loads: a reference, or a judge."""
    every = reader.possible("from_pretrained")
    others = [each for each in every if each is not found and loads(each)]
    packed = [each for each in others if keyword_of(each.node, QUANTIZED_BY) is not None]
    for name in _SWITCHES if packed else ():
        if settings.arguments.pop(name, None) is not None:
            settings.unread.setdefault(name, reader.place(packed[0]))


def note_packed_alike(
    reader: ScriptReader, settings: ScriptSettings, calls: list[CallFound]
) -> None:
    """Record that one of several models that a script loads, of which one trains, may not be packed, or that none is."""
    packed = {is_handed(reader, call, QUANTIZED_BY) for call in calls}
    if packed - {True}:
        is_packed = None if len(packed) > 1 else next(iter(packed))
        note_whole(reader, settings, is_packed, reader.place(calls[0]))


def never_made(reader: ScriptReader, settings: ScriptSettings, name: str, argument: str) -> None:
    """Note that a script which can make an adapter or a quantized model does not for this command line."""
    made = [found for found in reader.everywhere if found.name == name]
    is_said = argument in settings.arguments or reader.flag_of([argument]) is not None
    if made and argument not in settings.unread and not is_said:
        settings.put(argument, Known(False, reader.place(made[0])))
