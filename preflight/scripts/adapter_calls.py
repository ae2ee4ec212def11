"""Calls that put an adapter on a model without a LoraConfig that the script shows."""

from __future__ import annotations

import ast

from preflight.scripts.files import CallFound, last_name
from preflight.scripts.model_calls import followed
from preflight.scripts.reader import ScriptReader

ADAPTING = frozenset({"get_peft_model", "load_adapter", "add_adapter", "inject_adapter_in_model"})
OF_PEFT_MODEL = frozenset({"PeftModel", "PeftModelForCausalLM", "AutoPeftModelForCausalLM"})
UNSLOTH = frozenset({"FastLanguageModel", "FastModel", "FastVisionModel"})
"""Classes whose get_peft_model is read by itself (preflight/scripts/unsloth_calls.py)."""
BY_FLAGS = "get_peft_config"
"""TRL's own, which `--use_peft` decides (trl/trainer/utils.py)."""


def adapts(reader: ScriptReader, call: CallFound) -> bool:
    """Tell whether a call gives a model an adapter, of whatever kind and size."""
    receiver = call.node.func.value if isinstance(call.node.func, ast.Attribute) else None
    owner = last_name(receiver) if receiver is not None else ""
    if call.name == "from_pretrained":
        return owner in OF_PEFT_MODEL
    if call.name in ADAPTING:
        return owner not in UNSLOTH
    if not call.name.endswith("Trainer"):
        return False
    given = next((each.value for each in call.node.keywords if each.arg == "peft_config"), None)
    if given is None:
        # transformers' own takes none, and many a script hands it `**data_module`
        return call.name != "Trainer" and reader.keywords(call)[1]
    made = followed(reader, given, call.scope)
    return any(each is None or each.name != BY_FLAGS for each in made)
