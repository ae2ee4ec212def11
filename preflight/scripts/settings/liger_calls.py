"""Liger's kernels that a script puts in by Liger's own functions, in place of the Trainer's `use_liger_kernel`."""

from __future__ import annotations

import ast

from preflight.formulas.layers.kernels import LIGER_BY_CALL
from preflight.launch_facts import Uncounted
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import last_name
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place

_OF_TYPE = "apply_liger_kernel_to_"
_OF_ANY = ("_apply_liger_kernel_to_instance", "_apply_liger_kernel")
_LOADS = "AutoLigerKernelForCausalLM"
NOT_READ = "Liger's kernels, where the script puts them in"
SWITCHES = ("rope", "rms_norm", "swiglu", "geglu", "cross_entropy", "fused_linear_cross_entropy")
"""Keywords of these functions that decide what a step holds (liger_kernel/transformers/monkey_patch.py, 0.8.5)."""


def read_liger(reader: ScriptReader, settings: ScriptSettings, is_plain_loop: bool) -> None:
    """Read the one call that surely puts kernels in.

    Of several, of one that may not run, and in a loop of the script's own, which need not ask the model for its loss,
    only that it may take less is known.
    """
    sure = [found for found in reader.calls if _applies(found)]
    places = [reader.place(found) for found in (*sure, *reader.unsure) if _applies(found)]
    if not places:
        return
    values, is_open = reader.keywords(sure[0]) if sure else ({}, True)
    switches = {name: known.value for name, known in values.items() if name in SWITCHES}
    is_known = len(places) == 1 and not is_open and UNKNOWN not in switches.values()
    if sure and sure[0].name.startswith(_OF_TYPE) and "model" not in values:
        is_known &= not _is_late(places[0], settings.seen.get("model"))
    if not is_known or is_plain_loop:
        settings.uncounted[NOT_READ] = Uncounted(places[0], "less")
        return
    name = sure[0].name
    model_type = name.removeprefix(_OF_TYPE) if name.startswith(_OF_TYPE) else ""
    settings.put(LIGER_BY_CALL, Known({**switches, "model_type": model_type}, places[0]))


def _is_late(place: Place, loaded: Place | None) -> bool:
    """Tell whether a call stands below that which makes the model, whose modules are then as they were."""
    if loaded is None or loaded.document != place.document:
        return False
    return (place.line or 0) > (loaded.line or 0)


def _applies(found: CallFound) -> bool:
    if found.name == "from_pretrained" and isinstance(found.node.func, ast.Attribute):
        return last_name(found.node.func.value) == _LOADS
    return found.name.startswith(_OF_TYPE) or found.name in _OF_ANY
