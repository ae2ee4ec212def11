"""Methods of a script's own Trainer that make its engine: what a launch says of FSDP, DeepSpeed and precision may not reach it."""

from __future__ import annotations

import ast

from preflight.launch_facts import Uncounted
from preflight.scripts.python.leading import leading_to
from preflight.scripts.python.nodes import keyword_of, last_name, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.settings.own_batches import overridden
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.unpriced_names import OWN_ENGINE

MAKE_ENGINES = ("create_accelerator_and_postprocess", "_build_accelerator_args")
"""Methods in which a Trainer makes what wraps its model (transformers/trainer.py, 4.31 to 5.24, and 5.0 to 5.24)."""
WRAPS = "_wrap_model"
"""The method whose outcome a Trainer hands its Accelerator no more where it is another than its model (4.28 to 5.24)."""
_OF_ENGINE = ("deepspeed_plugin", "fsdp_plugin", "mixed_precision", "parallelism_config", "cpu", "dynamo_backend")  # fmt: skip
_OF_ARGUMENTS = {"deepspeed": "deepspeed_plugin", "fsdp": "fsdp_plugin"}
"""Argument of a Trainer -> what its Accelerator has it by (transformers/training_args.py, 4.31 to 5.24)."""


def read_engines_of_trainers(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Name what a Trainer's own method may make an engine of, beside what the launch says."""
    for name in MAKE_ENGINES:
        for method, place in overridden(reader, name):
            if not _asks_above(method, name) and not _hands_on(method, reader):
                settings.uncounted[OWN_ENGINE] = Uncounted(place, "either")
    for method, place in overridden(reader, WRAPS):
        if not _gives_back(method):
            settings.uncounted[OWN_ENGINE] = Uncounted(place, "either")


def _asks_above(method: ast.FunctionDef, name: str) -> bool:
    return any(isinstance(each, ast.Call) and _is_above(each, name) for each in walk(method))


def _is_above(call: ast.Call, name: str) -> bool:
    return last_name(call.func) == name and unparse(call.func) != f"self.{name}"


def _hands_on(method: ast.FunctionDef, reader: ScriptReader) -> bool:
    """Tell whether a method makes an Accelerator with the plugins that the Trainer's arguments made, and no others."""
    nodes = walk(method)
    made = [n for n in nodes if isinstance(n, ast.Call) and last_name(n.func) == "Accelerator"]
    if not made:
        return False
    for call in made:
        for name in _OF_ENGINE:
            given = keyword_of(call, name)
            if given is not None and "args." not in unparse(given):
                return False
        needed = [_OF_ARGUMENTS[each] for each in _OF_ARGUMENTS if reader.flag_of((each,))]
        text = " ".join(map(unparse, leading_to([call], nodes)))
        if any(name not in text for name in needed):
            return False
    return True


def _gives_back(method: ast.FunctionDef) -> bool:
    """Tell whether a method gives back the model that it is given, or what the method above it makes of that."""
    arguments = [each.arg for each in method.args.args][1:2]
    returned = [n.value for n in walk(method) if isinstance(n, ast.Return) and n.value is not None]
    set_anew = {
        name
        for node in walk(method)
        if isinstance(node, ast.Assign) and not _asks_above(method, WRAPS)
        for name in map(last_name, node.targets)
    }
    return all(
        (isinstance(each, ast.Name) and each.id in arguments and each.id not in set_anew)
        or (isinstance(each, ast.Call) and _is_above(each, WRAPS))
        for each in returned
    )
