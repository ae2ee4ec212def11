"""What a script sets on objects that are already made: its trainer's arguments, its tokenizer, a model's config."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import keyword_of, last_name, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.running_calls import attributes_set
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.followed_models import followed, loads
from preflight.scripts.settings.own_batches import is_within_trainer
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place
from preflight.unpriced_names import REPLICAS

SETS_ATTENTION = "set_attn_implementation"
"""Method of a model of transformers (modeling_utils.py:2748, 4.57.6)."""


MADE_WITH = ("bf16", "fp16")
"""Arguments that are read as the arguments' object is made, and by nothing after that: what is set on it later changes no
precision (training_args.py __post_init__, 4.44 to 5.24)."""


REPLICATES = "_n_gpu"
"""The number of devices over which Trainer puts torch's DataParallel where it is more than one, and by which it multiplies the rows
of a step (training_args.py n_gpu and train_batch_size, 4.29 to 5.24)."""


def read_attributes(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read `training_args.gradient_checkpointing = True`, `trainer.args.optim = "sgd"` and `tokenizer.model_max_length = 2048`."""
    for target, value, scope in attributes_set(reader.statements):
        if not _may_be_arguments(target.value, scope, reader):
            continue
        if _configs_of_models(target.value, scope):
            continue
        owner = unparse(target.value)
        known = reader.evaluated_before(target.attr, value, scope)
        place = Place("script", scope.path, target.attr, target.lineno)
        if known.place.kind != "argv":
            known = Known(known.value, place)
        if target.attr == "model_max_length" and _OF_TOKENIZER.search(owner):
            if not any(call.name.endswith("Config") for call in reader.trainer_calls()):
                settings.put("seq_len", known)  # TRL cuts where its own argument says
        elif target.attr == REPLICATES and known.value != 1:
            settings.uncounted[REPLICAS] = Uncounted(place, "either")
        elif target.attr in MADE_WITH and _is_trainer_arguments(reader, target.value, scope):
            continue
        elif _is_trainer_arguments(reader, target.value, scope):
            name = settings.read_as(target.attr)
            if name in TAKEN and _is_made(reader, target, scope):
                known = Known(UNKNOWN, place)
            settings.put_later(name, known)
        elif owner != "self" and settings.seen.get("trainer_arguments"):
            # A name that we do not follow may be the Trainer's arguments all the same.
            settings.put(target.attr, Known(UNKNOWN, place))
    _in_branches(reader, settings)
    _by_methods(reader, settings)


TAKEN = ("per_device_train_batch_size", "seq_len")
"""What a Trainer takes from its arguments as it is made: its rows, and TRL's the length at which it cuts. `train()` takes its rows
again to 4.57, and no more since 5 (transformers/trainer.py _train_batch_size, 4.29 to 5.24)."""


def _is_made(reader: ScriptReader, target: ast.Attribute, scope: Scope) -> bool:
    """Tell whether a Trainer may be made by the time that something is set on its arguments."""
    return isinstance(target.value, ast.Attribute) or any(
        call.scope is scope and call.node.lineno < target.lineno
        for call in reader.possible_trainers
    )


OF_METHODS: Mapping[str, Mapping[str, tuple[str, object]]] = {
    "set_training": {
        "batch_size": ("per_device_train_batch_size", 8),
        "gradient_accumulation_steps": ("gradient_accumulation_steps", 1),
        "gradient_checkpointing": ("gradient_checkpointing", False),
    },
    "set_optimizer": {"name": ("optim", "adamw_torch")},
    "set_evaluate": {
        "strategy": ("eval_strategy", "no"),
        "batch_size": ("per_device_eval_batch_size", 8),
    },
    "set_testing": {"batch_size": ("per_device_eval_batch_size", 8)},
    "set_dataloader": {
        "train_batch_size": ("per_device_train_batch_size", 8),
        "eval_batch_size": ("per_device_eval_batch_size", 8),
    },
}
"""Method of TrainingArguments -> its parameters, each with the argument that it sets and to what where it is not given
(transformers/training_args.py, 4.57 and 5.24; 4.29 has them first)."""
EARLIER = {"activation_checkpointing": "gradient_checkpointing"}
"""Parameter of those methods -> the one of the same meaning that every release has."""


def _by_methods(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read `args = args.set_training(batch_size=4)`: what such a call does not say it sets to a value of its own."""
    for found in reader.possible(*OF_METHODS):
        given, is_open = reader.keywords(found)
        given = {EARLIER.get(name, name): known for name, known in given.items()}
        is_sure = found in reader.calls and not is_open and not found.node.args
        for name, (argument, default) in OF_METHODS[found.name].items():
            known = given.get(name, Known(default, reader.place(found)))
            settings.put_later(argument, known if is_sure else Known(UNKNOWN, known.place))


OF_CHECKPOINTING = "gradient_checkpointing_kwargs"
"""An argument that says nothing where checkpointing is off: what a branch gives it holds wherever it is asked for."""


def _in_branches(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Leave open what a branch that may run changes of the Trainer's arguments."""
    for target, node, scope in attributes_set(reader.unsure_statements):
        if not _may_be_arguments(target.value, scope, reader):
            continue
        if _configs_of_models(target.value, scope):
            continue
        if target.attr in MADE_WITH or not _is_trainer_arguments(reader, target.value, scope):
            continue
        if target.attr == TAKEN[0] and _is_for_the_finder(reader, settings, target, scope):
            continue
        place = Place("script", scope.path, target.attr, target.lineno)
        value = reader.evaluated_before(target.attr, node, scope).value
        name = settings.read_as(target.attr)
        held = settings.arguments.get(name) or reader.flag_of([target.attr])
        if held is None or held.value != value:
            is_said = name == OF_CHECKPOINTING and held is None
            settings.put_later(name, Known(value if is_said else UNKNOWN, place))


FINDER = "auto_find_batch_size"
"""The argument in whose branch alone a Trainer's loop gives its arguments other rows, and puts them back
(transformers/trainer.py _inner_training_loop, 4.37 to 4.57), as copies of it in classes of a script's own do."""


def _is_for_the_finder(
    reader: ScriptReader, settings: ScriptSettings, target: ast.Attribute, scope: Scope
) -> bool:
    """Tell whether something is set where FINDER holds alone, and nobody asks for that."""
    asked = settings.arguments.get(FINDER) or reader.flag_of([FINDER])
    if asked is not None and asked.value is not False:
        return False
    return any(
        isinstance(node, ast.If)
        and unparse(node.test).endswith(f"args.{FINDER}")
        and not unparse(node.test).startswith("not ")
        and any(each is target for statement in node.body for each in walk(statement))
        for node in walk(reader.trees[scope.path])
    )


SWITCH = "gradient_checkpointing"
"""Entry of a model's config. A model that is made with it checkpoints, and the entry is taken away
(modeling_utils.py __init__ of 4.11.0, _backward_compatibility_gradient_checkpointing of 4.23 to 5.24)."""


def switched_by_config(reader: ScriptReader) -> Iterator[Known]:
    """Yield what `config.gradient_checkpointing = True` says of the models that a script makes with that config."""
    made = list(_given_configs(reader))
    for statements, is_sure in ((reader.statements, True), (reader.unsure_statements, False)):
        for target, said, scope in attributes_set(statements):
            if target.attr != SWITCH:
                continue
            written = _configs_of_models(target.value, scope)
            given = [each for each in made if each is None or each in written]
            if not given:
                continue
            value = reader.evaluated_before(SWITCH, said, scope).value
            is_known = is_sure and None not in given and isinstance(value, bool)
            place = Place("script", scope.path, SWITCH, target.lineno)
            yield Known(value if is_known or value is False else UNKNOWN, place)


def _given_configs(reader: ScriptReader) -> Iterator[ast.Call | None]:
    """Yield the calls that make what models are loaded with as their config; None where one is not followed."""
    for found in (
        each for each in reader.possible("from_pretrained", "from_config") if loads(each)
    ):
        first = found.node.args[0] if found.node.args and found.name == "from_config" else None
        given = keyword_of(found.node, "config") or first
        for made in () if given is None else followed(reader, given, found.scope):
            yield None if made is None else made.node


def _configs_of_models(owner: ast.expr, scope: Scope) -> list[ast.Call]:
    """Return the calls that make a model's config of a name: `AutoConfig.from_pretrained(...)`."""
    holder = scope.holder(owner.id) if isinstance(owner, ast.Name) else None
    written = [] if holder is None else holder.assigned.get(unparse(owner), [])
    return [
        node
        for node in written
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
        and last_name(node.func.value).endswith("Config")
    ]


def read_attention(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read `config.text_config._attn_implementation = "eager"` and `model.set_attn_implementation("eager")`; the attention
    is open where two of these differ, or what the model is loaded with."""
    said = [
        (value, scope, target.attr)
        for target, value, scope in attributes_set(reader.possible_statements)
        if target.attr in ("_attn_implementation", "attn_implementation")
        and not (isinstance(target.value, ast.Name) and target.value.id == "self")
    ]
    said += [
        (found.node.args[0], found.scope, SETS_ATTENTION)
        for found in reader.possible(SETS_ATTENTION)
        if found.node.args
    ]
    if not said:
        return
    values = [reader.evaluator.value(node, scope) for node, scope, _ in said]
    node, scope, name = said[0]
    loaded = settings.arguments.get("attn_implementation")
    all_said = values if loaded is None else [*values, loaded.value]
    is_one = isinstance(values[0], str) and all(each == values[0] for each in all_said)
    value = values[0] if is_one else UNKNOWN
    settings.put(
        "attn_implementation", Known(value, Place("script", scope.path, name, node.lineno))
    )


def read_targets(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Leave open where an adapter goes whose config is told so later: `peft_config.target_modules = linear_names(model)`."""
    for target, _, scope in attributes_set(reader.possible_statements):
        if target.attr == "target_modules":
            place = Place("script", scope.path, target.attr, target.lineno)
            settings.put("lora_target_modules", Known(UNKNOWN, place))


_OF_TRAINER = lazy_pattern(r"(?i)trainer\.args$")
_OF_TOKENIZER = lazy_pattern(r"(?i)tok|process")
"""What scripts call what cuts texts: arguments with a `model_max_length` cut none."""


def _may_be_arguments(owner: ast.expr, scope: Scope, reader: ScriptReader) -> bool:
    return isinstance(owner, ast.Name) or _is_of_trainer(owner, scope, reader)


def _is_of_trainer(owner: ast.expr, scope: Scope, reader: ScriptReader) -> bool:
    """Tell whether an expression is the arguments of a Trainer: `trainer.args`, or those of a name that holds one."""
    if _OF_TRAINER.search(unparse(owner)):
        return True
    if not isinstance(owner, ast.Attribute) or owner.attr != "args":
        return False
    if is_within_trainer(reader, owner.value, scope):
        return True
    made = reader.only_call(owner.value, scope)
    return made is not None and reader.makes_trainer(made)


def _is_trainer_arguments(reader: ScriptReader, owner: ast.expr, scope: Scope) -> bool:
    if _is_of_trainer(owner, scope, reader):
        return True
    name = unparse(owner)
    made = {id(call.node) for call in reader.trainer_calls()}
    written = scope.assigned.get(name, ())
    if any(id(node) in made for node in written):
        return True
    if any(reader.parsed_class(node) in reader.trainer_names() for node in written):
        return True
    return re.search(r"(?:train|sft|dpo)\w*(?:arg|conf)", name) is not None
