"""What a script decides by a call or a method, beside what it tells its trainer: checkpointing, an optimizer, its batches."""

from __future__ import annotations

import ast
import re
from dataclasses import replace

from preflight.formulas.optimizer_classes import states_of
from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import (
    argument_of,
    keyword_of,
    last_name,
    methods_of,
    unparse,
    walk,
)
from preflight.scripts.python.python_calls import DTYPE_NAMES
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.followed_models import followed
from preflight.scripts.settings.own_batches import overridden
from preflight.scripts.settings.own_optimizer import trainers_name
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.scripts.settings.set_attributes import switched_by_config
from preflight.scripts.settings.wrapped_checkpoints import (
    IS_REENTRANT,
    WRAPS,
    read_wrapped_checkpoints,
)
from preflight.setting import Place
from preflight.versions.peft import PREPARING

MAKES_OPTIMIZER = {
    "get_optimizer_cls_and_kwargs": None,
    "create_optimizer": "get_optimizer_cls_and_kwargs(",
    "create_optimizer_and_scheduler": "create_optimizer(",
}
"""Method of a Trainer that its optimizer comes from -> the one that it asks where it is the Trainer's own, and that a method
in its place may ask too (transformers/trainer.py, 4.28 to 5.24)."""
CHECKPOINTS = (
    "gradient_checkpointing_enable",
    "activation_checkpointing_enable",
    "enable_gradient_checkpointing",
    "_set_gradient_checkpointing",
    WRAPS,
    "apply_fsdp_checkpointing",
)
"""Calls that turn checkpointing on: transformers' own, diffusers', torch's, and the name that copies of its recipe use."""


OF_TRAINERS = {
    "SFTTrainer": {"max_seq_length": "seq_len", "packing": "packing"},
    "DPOTrainer": {"max_length": "seq_len"},
    "RewardTrainer": {"max_length": "seq_len"},
}
"""Trainer of TRL -> keywords that were its own before its arguments had them (gone since 0.13 and 0.14), as arguments."""


def read_trainers_own(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read what TRL's trainers are told beside their arguments, which a parser may make: length and packing."""
    for trainer, names in OF_TRAINERS.items():
        for call in reader.named(trainer):
            values, _ = reader.keywords(call)
            for name, argument in names.items():
                if name not in values:
                    continue
                settings.put(argument, values[name])
                if argument == "seq_len" and values[name].value is not None:
                    # It beats what its arguments say (dpo_trainer.py, 0.8 to 0.13); one of SFT's had no such field.
                    settings.arguments.pop("max_length", None)


def read_checkpointing(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read checkpointing that is turned on by a call, beside what the trainer is told; what is turned off again is open."""
    is_told = "gradient_checkpointing" in settings.arguments
    calls = [(found, True) for found in reader.named(*CHECKPOINTS)]
    calls += [(found, False) for found in reader.maybe(*CHECKPOINTS)]
    for found, is_sure in calls:
        if _is_of_another(reader, settings, found):
            continue
        values, _ = reader.keywords(found)
        said = values.get("enable", values.get("value"))
        switch = True if said is None else said.value
        every = values.get("every_n_layers")
        if len(found.node.args) > 1 or (every is not None and every.value != 1):
            switch = UNKNOWN  # layers in between keep all of theirs (modeling_utils.py, 5.24)
        _turned_on(settings, Known(switch if is_sure else UNKNOWN, reader.place(found)))
        is_own = is_sure and found.name == CHECKPOINTS[0]
        options = argument_of(found.node, 0, "gradient_checkpointing_kwargs") if is_own else None
        given = None if options is None else reader.evaluator.value(options, found.scope)
        if isinstance(given, dict):
            is_reentrant = given.get("use_reentrant", True)  # torch's own default
            settings.put(IS_REENTRANT, Known(is_reentrant, reader.place(found)))
    for known in switched_by_config(reader):
        _turned_on(settings, known)
    if WRAPS in {found.name for found, _ in calls}:
        read_wrapped_checkpoints(reader, settings)
    for found in reader.possible(*PREPARING):
        values, is_open = reader.keywords(found)
        stated = values.get("use_gradient_checkpointing", Known(True, reader.place(found)))
        is_open = is_open or len(found.node.args) > 1
        packed = is_quantized(settings)
        is_known = packed and not is_open and found in reader.calls
        is_made = packed and found in reader.calls
        settings.put("kbit_preparation", Known(True if is_made else UNKNOWN, reader.place(found)))
        if packed is False and found in reader.calls:
            # PEFT asks nothing of the model: of one in 16 bits it makes all fp32
            settings.put("dtype", Known("float32", reader.place(found)))
        if packed is False and "gradient_checkpointing" not in {
            *settings.arguments,
            *settings.unread,
        }:
            # and layers are checkpointed of a packed model alone (peft/utils/other.py, 0.12 to 0.21.2)
            settings.put("gradient_checkpointing", Known(False, reader.place(found)))
        if packed is not False:
            _turned_on(settings, replace(stated, value=stated.value if is_known else UNKNOWN))
    for found in reader.possible(*TURNS_OFF):
        known = Known(UNKNOWN, reader.place(found))
        if _within_training(reader, found):
            settings.put_later("gradient_checkpointing", known)
        elif "gradient_checkpointing" in settings.arguments and not is_told:
            settings.put("gradient_checkpointing", known)


TURNS_OFF = ("gradient_checkpointing_disable", "activation_checkpointing_disable")


def _within_training(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether a method of a Trainer or callback turns checkpointing off, behind what the Trainer does of its arguments
    (transformers/trainer.py, `_inner_training_loop`); one that turns it on too does so for a time."""
    held = reader.class_of(reader.class_around(found.scope), found.scope.path)
    if held is None or found.node in walk(methods_of(held[0]).get("__init__", ast.Pass())):
        return False
    calls_back = any(last_name(base).endswith("Callback") for base in held[0].bases)
    nodes = [node for each in reader.body_of(found.scope) for node in walk(each)]
    is_for_a_time = any(isinstance(n, ast.Call) and last_name(n.func) in CHECKPOINTS for n in nodes)
    return (calls_back or reader.classes.trains(held[0])) and not is_for_a_time


def _turned_on(settings: ScriptSettings, known: Known) -> None:
    """Record checkpointing that a call turns on; what may turn it on leaves it open, and nothing here turns it off."""
    said = settings.arguments.get("gradient_checkpointing")
    if known.value is not False and (said is None or said.value is not True):
        settings.put(
            "gradient_checkpointing", known if known.value is True else Known(UNKNOWN, known.place)
        )


def is_quantized(settings: ScriptSettings) -> bool | None:
    """Tell whether the model that trains is loaded in 4 or 8 bits; None where the script does not say."""
    names = ("load_in_4bit", "load_in_8bit")
    said = [settings.arguments[name].value for name in names if name in settings.arguments]
    if any(value is True for value in said):
        return True
    is_open = any(name in settings.unread for name in names) or "built_elsewhere" in settings.seen
    return None if is_open or "model" not in settings.seen else False


CASTS = {"half": "float16", "bfloat16": "bfloat16", "float": "float32"}
"""Method of a module -> the dtype that it casts all of it to."""


_TO = ("to", "type")
"""Methods of a module that are given the dtype (torch/nn/modules/module.py, 2.13)."""


def read_casts(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read the dtype that a script casts its model to, `model.half()` or `model.to(torch.float32)`, after loading it."""
    calls = [(found, True) for found in reader.named(*CASTS, *_TO)]
    calls += [(found, False) for found in reader.maybe(*CASTS, *_TO)]
    for found, is_sure in calls:
        func, given = found.node.func, found.node
        if not isinstance(func, ast.Attribute) or not _is_model(
            reader, settings, func.value, found.scope
        ):
            continue
        value: object = CASTS.get(found.name, UNKNOWN)
        if found.name in _TO:
            named = [each.value for each in given.keywords if each.arg == "dtype"]
            told = [reader.evaluator.value(node, found.scope) for node in (*given.args, *named)]
            dtypes = [each for each in told if each in DTYPE_NAMES]
            if not dtypes and not named:
                continue  # a device
            value = dtypes[0] if dtypes else UNKNOWN
        elif given.args:
            continue
        settings.put("dtype", Known(value if is_sure else UNKNOWN, reader.place(found)))


def read_compile(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read that a script compiles its model itself."""
    for found in reader.named("compile"):
        is_torchs = unparse(found.node.func) == "torch.compile"
        if is_torchs and not _is_of_another(reader, settings, found):
            settings.put("torch_compile", Known(True, reader.place(found)))


def _made_at(reader: ScriptReader, node: ast.expr, scope: Scope) -> list[Place | None]:
    """Return where a value is made that holds a model; None among them where one of its ways is not read."""
    made = followed(reader, node, scope)
    return [None if each is None else reader.place(each) for each in made]


def _is_model(reader: ScriptReader, settings: ScriptSettings, node: ast.expr, scope: Scope) -> bool:
    """Tell whether a value comes from the call that loads the model that trains, and not another beside it."""
    loaded = settings.seen.get("model")
    return loaded is not None and loaded in _made_at(reader, node, scope)


def _is_of_another(reader: ScriptReader, settings: ScriptSettings, found: CallFound) -> bool:
    """Tell whether what a call is made on, or is given first, is a model that surely is not the one that trains."""
    loaded, func = settings.seen.get("model"), found.node.func
    of_model = isinstance(func, ast.Attribute) and not unparse(func.value).startswith("torch")
    node = func.value if of_model else next(iter(found.node.args), None)  # type: ignore[attr-defined]
    if loaded is None or node is None:
        return False
    made = _made_at(reader, node, found.scope)
    return bool(made) and None not in made and loaded not in made


def read_optimizer(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read the optimizer that a Trainer is handed, or that a subclass of it makes."""
    for found in reader.possible_trainers:
        for keyword in found.node.keywords:
            if keyword.arg in ("optimizers", "optimizer_cls_and_kwargs"):
                first = keyword.value.elts[0] if isinstance(keyword.value, ast.Tuple) else keyword.value  # fmt: skip
                if isinstance(first, ast.Constant) and first.value is None:
                    continue
                made = _made_by(first, found.scope)
                name = trainers_name(reader, made, found.scope)
                if name is None and keyword.arg == "optimizer_cls_and_kwargs":  # no call shows it
                    unknown = Uncounted(reader.place(found), "either")
                    settings.uncounted[states_of(last_name(made) or "an optimizer")] = unknown
                known = Known(UNKNOWN if name is None else name, reader.place(found))
                settings.put_later("optim", known)
    for name, below in MAKES_OPTIMIZER.items():
        for method, place in overridden(reader, name):
            if below is None or below not in unparse(method):
                settings.put_later("optim", Known(UNKNOWN, place))


def read_evaluation(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read that a script evaluates by a call, `trainer.evaluate()`, whatever the Trainer's arguments say, and note what its
    trainer is given to evaluate with."""
    for found in reader.possible_trainers:
        rows = keyword_of(found.node, "eval_dataset")
        if rows is not None and unparse(rows) != "None":
            settings.seen.setdefault("eval_dataset", reader.place(found))
    for calls, value in ((reader.named, True), (reader.maybe, UNKNOWN)):
        for found in calls("evaluate", "predict"):
            func = found.node.func
            is_trainer = isinstance(func, ast.Attribute) and re.search(
                "trainer", unparse(func.value), re.IGNORECASE
            )
            if not is_trainer or "calls_evaluation" in settings.arguments:
                continue
            if value is True or not _hangs_on_arguments(reader, found):
                settings.put("calls_evaluation", Known(value, reader.place(found)))


_EVALUATES = lazy_pattern(
    r"eval(?:uation)?_(?:strategy|steps|dataset)|do_(?:eval|predict)|test_(?:dataset|split)"
)


def _hangs_on_arguments(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether a call stands under a condition on what the Trainer is told of evaluation, which is read there."""
    return any(
        isinstance(node, ast.If)
        and _EVALUATES.search(unparse(node.test))
        and any(inner is found.node for each in node.body for inner in walk(each))
        for statement in reader.body_of(found.scope)
        for node in walk(statement)
    )


def _made_by(node: ast.expr, scope: Scope) -> ast.expr:
    """Return the class of an optimizer: of a call, of a name that holds one, or the class itself."""
    if isinstance(node, ast.Name):
        written = scope.assigned.get(node.id, [])
        node = written[0] if len(written) == 1 else node
    return node.func if isinstance(node, ast.Call) else node
