"""A model that a script gathers whole on every GPU although an engine divides it: FSDP's full state dict that stays on the
card, DeepSpeed's GatheredParameters of all parameters.

FSDP1 gives a full state dict where nobody asks for another, and leaves it on the card where nobody asks for the host
(torch/distributed/fsdp/_state_dict_utils.py _full_post_state_dict_hook, api.py FullStateDictConfig, 2.13). accelerate
asks for the host in its own saving alone (utils/dataclasses.py set_state_dict_type, 1.15).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import argument_of, last_name, unparse, walk
from preflight.unpriced_names import GATHERED, STATE_DICT_ON_CARD

_OF_MODEL = lazy_pattern(r"model|engine|\bmodule$|\bnet$|policy|fsdp", re.IGNORECASE)
_ALL = lazy_pattern(r"^(?!.* if ).*(?:model|module|engine)\.parameters\(\)")
"""Parameters of a model of which none is left out."""
_SAYS_TYPE = ("state_dict_type", "set_state_dict_type")


def whole_gathers(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a file gathers a whole model, each with its line; `nodes` are those of the file."""
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    made = {
        node.targets[0].id: node.value
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    types = [call for call in calls if last_name(call.func) in (*_SAYS_TYPE, "summon_full_params")]
    for call in calls:
        name = last_name(call.func)
        if (
            name == "state_dict"
            and not types
            and _is_of_model(call)
            and not _is_loaded(call, calls)
        ) or (name in _SAYS_TYPE and _stays_on_card(call, made)):
            yield STATE_DICT_ON_CARD, call.lineno
        elif _gathers_all(call, name, made):
            yield GATHERED, call.lineno
    for node in nodes:
        if isinstance(node, (ast.DictComp, ast.ListComp)):
            value = node.value if isinstance(node, ast.DictComp) else node.elt
            if isinstance(value, ast.Call) and last_name(value.func) == "full_tensor":
                yield GATHERED, node.lineno


def _is_of_model(call: ast.Call) -> bool:
    owner = call.func.value if isinstance(call.func, ast.Attribute) else call.func
    return not call.args and not call.keywords and _OF_MODEL.search(unparse(owner)) is not None


def _is_loaded(call: ast.Call, calls: Sequence[ast.Call]) -> bool:
    """Tell whether a state dict is handed to `load_state_dict` at once, as before a model is divided."""
    return any(call in each.args for each in calls if last_name(each.func) == "load_state_dict")


def _stays_on_card(call: ast.Call, made: Mapping[str, ast.expr]) -> bool:
    """Tell whether a full state dict is asked for, and not on the host, as accelerate's plugin asks by itself."""
    if "FULL_STATE_DICT" not in unparse(call) or "plugin" in unparse(call.func):
        return False
    given = argument_of(call, 2, "state_dict_config")
    return given is None or not _says(given, made, "offload_to_cpu")


def _gathers_all(call: ast.Call, name: str, made: Mapping[str, ast.expr]) -> bool:
    if name == "summon_full_params":
        offloads = _says(call, made, "offload_to_cpu")
        is_shallow = any(k.arg == "recurse" and _is(k.value, False) for k in call.keywords)
        return not offloads and not is_shallow
    if name == "GatheredParameters":
        given = [held for each in call.args[:1] for held in (each, _held(each, made))]
        return any(_ALL.search(unparse(each)) for each in given)
    if name in ("get_model_state_dict", "get_state_dict"):
        options = [_held(k.value, made) for k in call.keywords if k.arg == "options"]
        return any(
            _says(each, made, "full_state_dict") and not _says(each, made, "cpu_offload")
            for each in options
        )
    return False


def _held(node: ast.expr, made: Mapping[str, ast.expr]) -> ast.expr:
    """Return what a name was set to; the expression itself where it is no name, or nothing sets it."""
    return made.get(node.id, node) if isinstance(node, ast.Name) else node


def _says(node: ast.expr, made: Mapping[str, ast.expr], keyword: str) -> bool:
    """Tell whether a call, or the one that made a name, is given True by a keyword."""
    return any(
        isinstance(part, ast.keyword) and part.arg == keyword and _is(part.value, True)
        for part in walk(_held(node, made))
    )


def _is(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
