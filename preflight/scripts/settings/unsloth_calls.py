"""What a script that loads its model with Unsloth says by its calls: name, packing, dtype, length, adapter and checkpointing.

A model in four bits may be Unsloth's own packed copy, whose least compressible layers are in 16 bits (mapper.py). Source:
unsloth/models/loader.py (FastLanguageModel.from_pretrained), llama.py (get_peft_model, the bitsandbytes config)
and rl.py (which length counts), unsloth 2026.10.9. Its kernels and its offloaded checkpointing take less than is counted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.library_classes import dotted
from preflight.scripts.python.nodes import last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.scripts.settings.adapter_calls import BESIDE_LORA, LORA, beside_lora
from preflight.scripts.settings.model_calls import made_for_trainer
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.scripts.settings.second_model import is_after_training, replaces
from preflight.unpriced_names import LEFT_WHOLE, OTHERS_QAT, SECOND_MODEL

OF_TEXT = "FastLanguageModel"
CLASSES = (OF_TEXT, "FastModel", "FastVisionModel")
OTHER_LOADS = ("load_in_fp8", "quantization_config")
"""Keywords that pack the model in ways that are not read."""
NOT_IN_FOUR_BITS = ("load_in_16bit", "full_finetuning", "load_in_8bit")
"""Keywords that say that it is not packed so, whatever load_in_4bit says (vision.py:3811 and 4015, loader.py:1330)."""
PACKED_NAME = lazy_pattern(r"(?i)^(unsloth/.+?)(?:-unsloth)?-bnb-4bit$")
"""Names of Unsloth's own packed copies, each of a model in 16 bits that has the rest of the name (mapper.py)."""
PACKED = {
    "bnb_4bit_quant_type": "nf4",
    "use_bnb_nested_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}
DEFAULTS = {
    "r": 16,
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "target_modules": [
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    ],
}  # fmt: skip
"""What get_peft_model makes of keywords that nobody gives; the others of LoraConfig it hands on as they are.
Of a model that may see, targets are every linear layer of the parts that train (unsloth_zoo/peft_utils.py get_peft_regex)."""
PARTS = tuple(
    f"finetune_{part}"
    for part in ("vision_layers", "language_layers", "attention_modules", "mlp_modules")
)
"""Keywords that leave the adapter off a part of such a model where they are False."""
TRAINED_WHOLE = ("embed_tokens", "lm_head")
"""Targets that it makes modules to save (_utils.py _redirect_embedding_targets): no adapter reaches them."""
BESIDE = {
    "qat_scheme": (OTHERS_QAT, "more"),
    "checkpoint_skip_layers": ("layers that are not recomputed", "more"),
    "finetune_last_n_layers": ("an adapter on some layers", "less"),
}
"""Keyword of get_peft_model alone -> what no formula counts of it, and what that takes."""

OF_TRAINERS = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "optim": "adamw_8bit",
    "per_device_eval_batch_size": 4,
}
"""Defaults that its subclasses of TRL's configs have in place of transformers' (unsloth/models/rl.py, February 2025 to
2026.10.9); of GRPO and RLOO that a group has 8 completions, and of GRPO a reference by beta 0.001 (since May and July 2025)."""
OF_GROUPS: Mapping[str, Mapping[str, float]] = {
    "trl.GRPOConfig": {"num_generations": 8, "beta": 0.001},
    "trl.RLOOConfig": {"num_generations": 8},
}

HUB_NAME = lazy_pattern(r"[\w.-]*\w/[\w.-]+")


def read_unsloth(reader: ScriptReader, settings: ScriptSettings) -> bool:
    """Record the model of the one Unsloth call that loads it; tell whether there is one that surely runs."""
    loads = [call for call in reader.named("from_pretrained") if _is_unsloth(reader, call)]
    if len(loads) > 1:
        loads = _that_train(reader, settings, loads)
    if len(loads) != 1:
        return False
    loaded = loads[0]
    values, is_open = reader.keywords(loaded)
    place = reader.place(loaded)
    for position, name in enumerate(("model_name", "max_seq_length", "dtype", "load_in_4bit")):
        if position < len(loaded.node.args):
            node = loaded.node.args[position]
            values.setdefault(name, reader.evaluator.evaluate(node, loaded.scope))
    if is_open or any(
        values[name].value not in (None, False) for name in OTHER_LOADS if name in values
    ):
        return False
    settings.seen["model"] = place
    packed = _packed(values, Known(True, place))
    if "model_name" in values:
        settings.put("model_name_or_path", _loaded(values["model_name"], packed))
        if packed.value is not False and _may_have_copy(values["model_name"].value):
            settings.uncounted[LEFT_WHOLE] = Uncounted(values["model_name"].place, "more")
    dtype = values.get("dtype", Known(None, place))
    if dtype.value is None:
        is_wide = values.get("float32_mixed_precision", Known(None, place)).value is True
        dtype = Known("float32" if is_wide else "bfloat16", place)
    settings.put("dtype", dtype)
    settings.put("load_in_4bit", packed)
    if "load_in_8bit" in values:
        settings.put("load_in_8bit", values["load_in_8bit"])
    for name, value in PACKED.items() if packed.value is True else ():
        settings.put(name, Known(value, place))
    _cap(settings, values.get("max_seq_length", Known(2048, place)))
    checkpointing = values.get("use_gradient_checkpointing", Known("unsloth", place))
    trains_whole = values.get("full_finetuning", Known(False, place))
    if trains_whole.value in (None, False):
        checkpointing = _adapter(reader, settings, checkpointing)
    elif trains_whole.value is UNKNOWN:
        settings.unread["use_peft"] = trains_whole.place
    if checkpointing.value in ("unsloth", True):
        settings.put("gradient_checkpointing", Known(True, checkpointing.place))
    elif checkpointing.value is UNKNOWN:
        settings.unread.setdefault("gradient_checkpointing", checkpointing.place)
    _defaults_of_trainers(reader, settings)
    return True


def _defaults_of_trainers(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record what the one config of TRL's that surely is made has where the script says nothing.

    Unsloth puts subclasses in its place as it is imported: one that was imported before is TRL's own.
    """
    made = [(call, dotted(reader, call.node.func, call.scope.path)) for call in reader.calls]
    made = [(call, name) for call, name in made if re.fullmatch(r"trl\.(?!Model)\w+Config", name)]
    if len(made) != 1:
        return
    call, name = made[0]
    roots = [each.partition(".")[0] for each in reader.libraries[call.scope.path].values()]
    if "unsloth" not in roots or roots.index("trl") < roots.index("unsloth"):
        return
    place, is_open = reader.place(call), reader.keywords(call)[1]
    for argument, value in {**OF_TRAINERS, **OF_GROUPS.get(name, {})}.items():
        if argument not in settings.arguments and argument not in settings.unread:
            settings.put(argument, Known(UNKNOWN if is_open else value, place))


def _that_train(
    reader: ScriptReader, settings: ScriptSettings, loads: list[CallFound]
) -> list[CallFound]:
    """Return the loads of a model that the first Trainer is given, and note another that is there beside it.

    One that stands behind the training, and behind a `del`, takes its place, unless a Trainer is given it too.
    """
    given = {id(call.node) for call in made_for_trainer(reader)}
    before = [call for call in loads if not is_after_training(reader, call)]
    found = before if len(before) == 1 else [call for call in before if id(call.node) in given]
    others = (call for call in loads if call not in found)
    beside = [call for call in others if id(call.node) in given or not replaces(reader, call)]
    if beside:
        settings.uncounted[SECOND_MODEL] = Uncounted(reader.place(beside[0]), "more")
    return found


def _packed(values: Mapping[str, Known], default: Known) -> Known:
    """Return whether the model is packed in four bits, which it is unless a keyword says otherwise."""
    for name in NOT_IN_FOUR_BITS:
        whole = values.get(name)
        if whole is not None and whole.value not in (None, False):
            return whole if whole.value is UNKNOWN else Known(False, whole.place)
    return values.get("load_in_4bit", default)


def _loaded(name: Known, packed: Known) -> Known:
    """Return the name of the model that is loaded: of Unsloth's packed copies the 16-bit one, where it is not to be packed.

    Source: unsloth/models/loader_utils.py __get_model_name (2026.10.9).
    """
    found = PACKED_NAME.match(name.value) if isinstance(name.value, str) else None
    return name if found is None or packed.value is not False else Known(found[1], name.place)


def _may_have_copy(name: object) -> bool:
    """Tell whether Unsloth may load a packed copy of its own in place of a hub's model, of which some layers are in 16 bits."""
    is_of_hub = isinstance(name, str) and HUB_NAME.fullmatch(name) is not None
    return is_of_hub and not str(name).lower().endswith("-bnb-4bit")


def imports_unsloth(reader: ScriptReader) -> bool:
    """Tell whether the script imports Unsloth, which puts subclasses in the place of TRL's configs and trainers.

    They take `max_seq_length` in every release of TRL, and arguments of Unsloth's own (unsloth/models/rl.py).
    """
    names = (name for imported in reader.libraries.values() for name in imported.values())
    return any(name.partition(".")[0] == "unsloth" for name in names)


def _cap(settings: ScriptSettings, length: Known) -> None:
    """Cut rows at the length of the model, or at the trainer's where that is shorter."""
    said = settings.arguments.get("seq_len")
    if said is None or not isinstance(said.value, int) or not isinstance(length.value, int):
        if said is None:
            settings.put("seq_len", length)
    elif length.value < said.value:
        settings.put("seq_len", length)


def _adapter(reader: ScriptReader, settings: ScriptSettings, checkpointing: Known) -> Known:
    """Record the adapter of the one get_peft_model of Unsloth that surely runs, and return what it says of checkpointing.

    Open where there may be others. A model that trains whole takes no adapter (vision.py:4947): do not ask then.
    """
    adapting = [call for call in reader.named("get_peft_model") if _is_unsloth(reader, call)]
    maybe = [call for call in reader.maybe("get_peft_model") if _is_unsloth(reader, call)]
    if maybe or len(adapting) > 1:
        settings.unread["use_peft"] = reader.place((*maybe, *adapting)[0])
        return checkpointing
    if not adapting:
        return checkpointing
    values, is_open = reader.keywords(adapting[0])
    place = reader.place(adapting[0])
    settings.seen["lora"] = place
    settings.put("use_peft", Known(True, place))
    settings.uncounted.update(beside_lora(reader, adapting[0], {**BESIDE_LORA, **BESIDE}))
    defaults = DEFAULTS
    if receiver_of(adapting[0]) != OF_TEXT:
        defaults = {**DEFAULTS, "target_modules": "all-linear"}
    if any(values[name].value is not True for name in PARTS if name in values):
        settings.uncounted["an adapter on some modules"] = Uncounted(place, "less")
    values = {**{name: Known(value, place) for name, value in defaults.items()}, **values}
    _train_whole(values)
    for keyword, name in LORA.items():
        known = values.get(keyword, Known(UNKNOWN if is_open else None, place))
        if known.value is not None:
            settings.put(name, known)
    return values.get("use_gradient_checkpointing", checkpointing)


def _train_whole(values: dict[str, Known]) -> None:
    """Make modules to save of the targets that Unsloth trains whole."""
    targets, saved = values["target_modules"], values.get("modules_to_save")
    if not isinstance(targets.value, (list, tuple)):
        return
    moved = [name for name in targets.value if str(name).rpartition(".")[2] in TRAINED_WHOLE]
    if not moved:
        return
    kept = [name for name in targets.value if name not in moved]
    values["target_modules"] = Known(kept, targets.place)
    before = saved.value if saved is not None else None
    if before is None or isinstance(before, (list, tuple)):
        whole = list(dict.fromkeys((*(before or ()), *moved)))
        values["modules_to_save"] = Known(whole, targets.place)


def receiver_of(call: CallFound) -> str:
    """Return the name of what a method is called of; empty where it is no method."""
    func = call.node.func
    return last_name(func.value) if isinstance(func, ast.Attribute) else ""


def _is_unsloth(reader: ScriptReader, call: CallFound) -> bool:
    func = call.node.func
    if not isinstance(func, ast.Attribute) or receiver_of(call) not in CLASSES:
        return False
    imported = reader.libraries.get(call.scope.path, {})
    name = unparse(func.value)
    whole = imported.get(name) or imported.get(name.partition(".")[0], "")
    return whole.partition(".")[0] == "unsloth"
