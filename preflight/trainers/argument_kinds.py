"""Which values an argument of the Trainer can have at all: what has its name and another kind of value is no argument."""

from __future__ import annotations

import math

from preflight.formulas.layers.kernels import LIGER_BY_CALL
from preflight.scripts.arguments.trainer_spellings import KINDS, SIZES
from preflight.scripts.arguments.trainer_tables import ArgumentTable
from preflight.versions.spans import moved_arguments

_IS_KIND: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "list_int": (list, tuple),
    "float": (int, float),
    "list_float": (list, tuple),
    "flag": (bool, int),
    "bool": (bool, int),
    "str": (str,),
    "optional_str": (str, bool),
    "list": (str, list, tuple),
    "dict": (str, dict),
    "file_only": (str, bool, int, float, list, tuple, dict),
}
_OWN_KINDS = {
    "fsdp": (str, bool, list, tuple),
    "seq_len": (int,),
    "pad_to_multiple_of": (int, str),
    "keeps_outputs": (bool, str),
    "zero_grad_set_to_none": (bool,),
    "target_len": (int,),
    "loss_type": (str, list, tuple),
    **dict.fromkeys(("precompute_ref_log_probs", "padding_free"), (bool, int)),
    "precompute_ref_batch_size": (int,),
    LIGER_BY_CALL: (dict,),
    "lora_target_modules": (str, list, tuple),
    SIZES: (dict,),
}


def is_of_its_kind(name: str, value: object, table: ArgumentTable) -> bool:
    """Tell whether an argument can have a value; a script or a file may have a name that only looks like one."""
    argument = table.arguments.get(name)
    if argument is None and name not in KINDS and name in moved_arguments():
        return True  # of another release, whose kinds no table has
    kind = KINDS.get(name, "str") if argument is None else argument.kind
    wanted = _OWN_KINDS.get(name, _IS_KIND.get(kind, ()))
    if value is None or not wanted:
        return True
    if isinstance(value, bool) and bool not in wanted:
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(value, (list, tuple)) and kind == "list":
        return all(isinstance(item, str) for item in value)
    return isinstance(value, wanted)
