"""The model that a script trains: which of its from_pretrained calls makes it, what it is loaded with, or that a helper builds it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import last_name, methods_of, parameters_of, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.built_models import read_built
from preflight.scripts.settings.device_map import device_map_of
from preflight.scripts.settings.followed_models import OF_PARAMETERS, followed, loads
from preflight.scripts.settings.given_keywords import given_by
from preflight.scripts.settings.made_and_given import (
    QUANTIZED_BY,
    leave_whole,
    note_packed,
    note_packed_alike,
    note_whole,
)
from preflight.scripts.settings.model_shape import (
    name_of_config,
    note_own,
    note_shape,
    note_strange,
)
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.scripts.settings.zero_init import is_partitioned, makes_partitioned, zero3_is_on
from preflight.setting import Place

LOADED_WITH = {
    "torch_dtype": "dtype",
    "dtype": "dtype",
    "attn_implementation": "attn_implementation",
    "_attn_implementation": "attn_implementation",
    "use_flash_attention_2": "use_flash_attn",
    "load_in_4bit": "load_in_4bit",
    "load_in_8bit": "load_in_8bit",
}
"""Keyword of from_pretrained -> argument."""

OF_KEYWORDS = ("dtype", "attn_implementation", "load_in_4bit")
"""What a `**` of from_pretrained that only running tells may say."""
OF_ATTENTION = {
    "attn_implementation",
    "_attn_implementation",
    "use_flash_attention_2",
    "config",
}
"""Keywords of from_pretrained that choose an attention, or may."""

BESIDE = lazy_pattern(r"ref|teacher|reward|critic|value|judge|draft|old|base_model_for", re.I)
"""Names of models that are held beside the one that trains."""


def read_model(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record name, dtype, attention and packing of the model that trains, and whether a helper makes it."""
    if "model_by_name" in settings.seen:
        settings.zero_init = True  # the trainer loads it, and what the script loads is another
        return
    made = list(made_for_trainer(reader))
    if _is_built(reader, settings, made):
        return
    for call in made:
        if not loads(call) and not reader.makes_trainer(call):
            note_own(reader, settings, call)
    elsewhere = [call for call in made if not loads(call) and not _is_own(reader, call)]
    if elsewhere:
        settings.seen["built_elsewhere"] = reader.place(elsewhere[0])
    elif not any(map(reader.makes_trainer, reader.everywhere)):
        settings.seen["no_trainer"] = Place("script", reader.path, "")
        for call in _made_for_loop(reader):
            if not loads(call):
                note_own(reader, settings, call)
                note_strange(reader, settings, call)
    calls = [f for f in reader.named("from_pretrained", "from_config") if loads(f)]
    unsure = [f for f in reader.maybe("from_pretrained", "from_config") if loads(f)]
    if calls or unsure:
        settings.zero_init = is_partitioned(reader, (*calls, *unsure))
    elif not made and "no_trainer" not in settings.seen:
        settings.zero_init = True  # the trainer loads it, by its name
    if not calls and not unsure:  # where a name that only running tells picks what loads
        calls = list({id(call.node): call for call in made if loads(call)}.values())
    is_sure = bool(calls)
    calls += [each for each in unsure if _may_replace(reader, each, calls)]
    calls = calls or unsure  # of which one makes it, in whichever branch
    if len(calls) > 1:
        calls = _that_train(calls, made) or calls
    if len(calls) != 1 or not is_sure:
        _several(reader, calls, settings)
        return  # none, or several: which one trains is not known
    found = calls[0]
    others = [each for each in elsewhere if not _may_hold(reader, each, found)]
    if others:  # what a trainer is given is made of another
        settings.put("model_name_or_path", Known(UNKNOWN, reader.place(others[0])))
        return
    settings.seen["model"] = reader.place(found)
    values, is_open = reader.keywords(found)
    named = _name_of(reader, found)
    if named is not None:
        settings.put("model_name_or_path", named)
    elif found.name == "from_config":
        read_built(reader, settings, found)
    for keyword, name in LOADED_WITH.items():
        if keyword in values and values[keyword].value is not None:
            settings.put(name, values[keyword])
    _note_ways(reader, settings, calls)
    note_packed(reader, settings, found)
    if not is_open and QUANTIZED_BY not in values:
        leave_whole(reader, settings, found)
        if not {"config", "load_in_4bit", "load_in_8bit"} & set(values):
            note_whole(reader, settings, False, reader.place(found))
    note_shape(reader, settings, found)
    for name in OF_KEYWORDS if is_open else ():
        settings.doubt(name, reader.place(found))
    dtypes = [values[name].value for name in ("torch_dtype", "dtype") if name in values]
    if not is_open and all(value is None for value in dtypes):
        settings.seen["no_dtype"] = reader.place(found)
    says_attention = OF_ATTENTION & {*values} or "attn_implementation" in settings.arguments
    if not says_attention and not is_open:
        settings.seen["no_attention"] = reader.place(found)
    settings.device_map = device_map_of(reader, found, values)
    if settings.device_map is not None:
        settings.zero3_is_on = zero3_is_on(reader, found)


def _is_built(reader: ScriptReader, settings: ScriptSettings, made: list[CallFound]) -> bool:
    """Tell whether the script loads no model, and builds the one that it trains of sizes that it says: record these."""
    if any(map(loads, reader.everywhere)):
        return False
    has_trainer = any(map(reader.makes_trainer, reader.everywhere))
    trained = {
        id(call.node): call for call in (made if has_trainer else _made_for_loop(reader))
    }.values()
    if len(trained) != 1:
        return False
    (found,) = trained
    if not read_built(reader, settings, found):
        return False
    settings.seen["model"] = reader.place(found)
    settings.zero_init = False if not makes_partitioned(reader) else None
    if not has_trainer:
        settings.seen["no_trainer"] = Place("script", reader.path, "")
    return True


def _name_of(reader: ScriptReader, found: CallFound) -> Known | None:
    """Return the name that a call loads a model by; None where it has none."""
    if found.name == "from_config":
        return name_of_config(reader, found)
    if found.node.args:
        known = reader.evaluator.evaluate(found.node.args[0], found.scope)
        return known if isinstance(known.value, str) else None
    named = reader.keywords(found)[0].get("pretrained_model_name_or_path")
    return named if named is not None and isinstance(named.value, str) else None


def _note_ways(reader: ScriptReader, settings: ScriptSettings, calls: list[CallFound]) -> None:
    if {"attn_implementation", "dtype", "bnb_4bit_compute_dtype"} & {*settings.unread}:
        from preflight.scripts.settings.alternatives import (
            note_ways,  # few scripts choose when they run
        )

        note_ways(reader, settings, calls)


def _is_own(reader: ScriptReader, call: CallFound) -> bool:
    """Tell whether a call makes an object of a class of the script's own, whose text is read."""
    func = call.node.func
    name = last_name(func.value) if isinstance(func, ast.Attribute) else call.name
    return name in reader.classes or call.name in reader.functions


def made_for_trainer(reader: ScriptReader) -> Iterator[CallFound]:
    """Yield the calls that make what a Trainer is given as its model, and the Trainer's own where they are not found."""
    for call in reader.possible_trainers:
        for node, scope in given_models(reader, call):
            for each in followed(reader, node, scope):
                yield each or call


def given_models(reader: ScriptReader, call: CallFound) -> list[tuple[ast.expr, Scope]]:
    """Return what the call of a Trainer may be given as its model, each with the names around it."""
    given = given_by(reader, call, "model") or given_by(reader, call, "model_init")
    is_own = reader.class_of(call.name, call.scope.path) is not None
    if not given and call.node.args and not (is_own and _takes_no_model(reader, call)):
        return [(call.node.args[0], call.scope)]
    return given


def _made_for_loop(reader: ScriptReader) -> Iterator[CallFound]:
    """Yield the calls that make what a plain loop trains: whose parameters it hands to an optimizer, or asks for."""
    for call in reader.possible_calls:
        func = call.node.func
        if call.name in OF_PARAMETERS and isinstance(func, ast.Attribute):
            yield from filter(None, followed(reader, func.value, call.scope))


def _takes_no_model(reader: ScriptReader, call: CallFound) -> bool:
    """Tell whether a Trainer of the script's own is given something else than a model first, its arguments for instance."""
    held = reader.class_of(call.name, call.scope.path)
    method = None if held is None else methods_of(held[0]).get("__init__")
    first = "" if method is None else next(iter(parameters_of(method)), "")
    return bool(first) and not re.search(r"model|policy|actor|net", first)


def _that_train(calls: list[CallFound], made: list[CallFound]) -> list[CallFound]:
    """Return the loading calls whose model a Trainer is given; else those that no name says are held beside it."""
    given = {id(call.node) for call in made}
    trained = [call for call in calls if id(call.node) in given]
    if trained:
        return trained
    return [call for call in calls if not any(map(BESIDE.search, _names_of(call)))]


def _names_of(call: CallFound) -> list[str]:
    return [
        name for name, nodes in call.scope.assigned.items() if any(n is call.node for n in nodes)
    ]


def _may_hold(reader: ScriptReader, made: CallFound, loaded: CallFound) -> bool:
    """Tell whether what a call makes may hold the model that another loads: by a name in it, or by what that name is made of."""
    names = {*_names_of(loaded)}
    if not names or loaded.scope is not made.scope:
        return True
    waiting, seen = [each for each in walk(made.node) if isinstance(each, ast.Name)], set[str]()
    for node in waiting:
        if node.id in names:
            return True
        if node.id not in seen:
            seen.add(node.id)
            given = made.scope.assigned.get(node.id, ())
            waiting += [
                each for value in given for each in walk(value) if isinstance(each, ast.Name)
            ]
            if node.id in reader.functions or made.scope.changes(node.id):
                return True
    return False


def _may_replace(reader: ScriptReader, call: CallFound, calls: list[CallFound]) -> bool:
    """Tell whether a call that may run gives another model, by its name, to what holds that of one that does."""
    named = _name_of(reader, call)
    for sure in calls:
        is_behind = sure.scope is call.scope and sure.node.lineno < call.node.lineno
        before = _name_of(reader, sure) if is_behind and {*_names_of(sure)} & {*_names_of(call)} else None  # fmt: skip
        if before is not None and named is not None and named.value != before.value:
            return True
    return False


def _several(reader: ScriptReader, calls: list[CallFound], settings: ScriptSettings) -> None:
    """Read what several models are loaded with, and their name, where they are loaded alike; else it is not known of the one
    that trains."""
    keywords = [reader.keywords(call) for call in calls]
    names = [_name_of(reader, call) for call in calls]
    is_beside = any(map(BESIDE.search, (name for call in calls for name in _names_of(call))))
    first = None if is_beside or "built_elsewhere" in settings.seen else next(iter(names), None)
    if first is not None and all(each is not None and each.value == first.value for each in names):
        settings.put("model_name_or_path", first)
    read = [values for values, _ in keywords]
    for keyword, name in LOADED_WITH.items():
        said = [values[keyword] for values in read if keyword in values]
        if not said:
            continue
        agree = len(said) == len(read) and all(known.value == said[0].value for known in said)
        if not agree:  # a flag that one of them is given says nothing of the others
            settings.put_later(name, Known(UNKNOWN, said[0].place))
        elif said[0].value is not None:
            settings.put(name, said[0])
    if not any({"config", "load_in_4bit", "load_in_8bit"} & {*values} for values in read):
        note_packed_alike(reader, settings, calls)
    for call, (_, is_open) in zip(calls, keywords, strict=True):
        for name in OF_KEYWORDS if is_open else ():
            settings.doubt(name, reader.place(call))
    _note_ways(reader, settings, calls)
