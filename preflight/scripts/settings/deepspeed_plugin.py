"""DeepSpeedPlugin of accelerate, as a script makes it for its Accelerator."""

from __future__ import annotations

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.settings.script_settings import Said, said_of
from preflight.shell.starters.variables import deepspeed_variable

KEYWORDS = (
    "zero_stage",
    "offload_optimizer_device",
    "offload_param_device",
    "deepspeed_config",
    "hf_ds_config",
)
"""Attributes of the plugin by which a script may make it another."""


def deepspeed_plugin(reader: ScriptReader, found: CallFound) -> dict[str, Said] | None:
    """Return the keywords of the only plugin; None where there may be another, or something else than a word says one.

    Its defaults are accelerate's variables (DeepSpeedPlugin.__post_init__ in accelerate/utils/dataclasses.py, 1.15.0). One
    that is changed on the object is not read.
    """
    plugins = reader.possible("DeepSpeedPlugin")
    values, is_open = reader.keywords(found)
    is_changed = any(name in reader.evaluator.changed_attributes for name in KEYWORDS)
    if len(plugins) > 1 or is_open or is_changed or found.node.args:
        return None
    told: dict[str, Said] = {}
    for name, known in values.items():
        said = said_of(known)
        if said is None or said.left_out or deepspeed_variable(name) is None:
            return None
        if said.value is not None:
            told[name] = said
    return told
