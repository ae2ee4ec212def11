"""Calls that put an adapter on a model without a LoraConfig that the script shows, and what a LoraConfig adds to one."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from preflight.launch_facts import Uncounted
from preflight.scripts.files import CallFound, last_name
from preflight.scripts.model_calls import followed
from preflight.scripts.reader import ScriptReader
from preflight.scripts.scope import Known
from preflight.setting import Place

ADAPTING = frozenset({"get_peft_model", "load_adapter", "add_adapter", "inject_adapter_in_model"})
OF_PEFT_MODEL = frozenset({"PeftModel", "PeftModelForCausalLM", "AutoPeftModelForCausalLM"})
UNSLOTH = frozenset({"FastLanguageModel", "FastModel", "FastVisionModel"})
"""Classes whose get_peft_model is read by itself (preflight/scripts/unsloth_calls.py)."""
BY_FLAGS = "get_peft_config"
"""TRL's own, which `--use_peft` decides (trl/trainer/utils.py)."""

BESIDE_LORA = {
    "target_parameters": ("an adapter on parameters", "more"),
    "layers_to_transform": ("an adapter on some layers", "less"),
    "exclude_modules": ("an adapter on some modules", "less"),
    "rank_pattern": ("a rank pattern", "either"),
    "layer_replication": ("replicated layers", "more"),
    "trainable_token_indices": ("rows of the embedding that train", "more"),
    "use_qalora": ("QALoRA", "either"),
    "arrow_config": ("routed adapters", "either"),
    "alora_invocation_tokens": ("an adapter on some tokens", "either"),
    "megatron_config": ("Megatron's layers", "either"),
    "runtime_config": ("an adapter that is set up elsewhere", "either"),
}
"""Keyword of LoraConfig -> what no formula counts of it, and what that takes (peft/tuners/lora/config.py, 0.13 to 0.21)."""


def beside_lora(reader: ScriptReader, found: CallFound) -> dict[str, Uncounted]:
    """Return what a LoraConfig is told that no formula counts."""
    values, _ = reader.keywords(found)
    return _beside(BESIDE_LORA, values, reader.place(found))


def _beside(
    table: Mapping[str, tuple[str, str]], values: Mapping[str, Known], place: Place
) -> dict[str, Uncounted]:
    return {
        name: Uncounted(place, takes)
        for keyword, (name, takes) in table.items()
        if keyword in values and values[keyword].value not in (None, False, [], {}, ())
    }


BESIDE_PACKED = {
    "llm_int8_skip_modules": ("modules that are not packed", "more"),
    "llm_int8_has_fp16_weight": ("whole weights beside packed ones", "more"),
    "llm_int8_enable_fp32_cpu_offload": ("weights in host memory", "less"),
}
"""Keyword of BitsAndBytesConfig -> the same (transformers/utils/quantization_config.py, 4.48 to 5.24)."""
_NEVER_PACKED = frozenset({"lm_head", "score", "classifier"})
"""Heads, which are left as they are where nobody says so."""


def beside_packed(reader: ScriptReader, found: CallFound) -> dict[str, Uncounted]:
    """Return what a BitsAndBytesConfig is told that no formula counts."""
    values, _ = reader.keywords(found)
    skipped = values.get("llm_int8_skip_modules")
    names = skipped.value if skipped is not None else None
    if isinstance(names, (list, tuple)) and _NEVER_PACKED.issuperset(map(str, names)):
        values.pop("llm_int8_skip_modules")
    return _beside(BESIDE_PACKED, values, reader.place(found))


def adapts(reader: ScriptReader, call: CallFound) -> bool:
    """Tell whether a call gives a model an adapter, of whatever kind and size."""
    receiver = call.node.func.value if isinstance(call.node.func, ast.Attribute) else None
    owner = last_name(receiver) if receiver is not None else ""
    if call.name == "from_pretrained":
        return owner in OF_PEFT_MODEL
    if call.name in ADAPTING:
        return owner not in UNSLOTH
    if not reader.makes_trainer(call):
        return False
    given = next((each.value for each in call.node.keywords if each.arg == "peft_config"), None)
    if given is None:
        # transformers' own takes none, and many a script hands it `**data_module`
        return call.name != "Trainer" and reader.keywords(call)[1]
    made = followed(reader, given, call.scope)
    return any(each is None or each.name != BY_FLAGS for each in made)
