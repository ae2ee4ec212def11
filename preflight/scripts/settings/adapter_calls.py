"""Calls that put an adapter on a model without a LoraConfig that the script shows, and what a LoraConfig adds to one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.plan_choices import OPEN_PARTS
from preflight.plan_parts import Adapter
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import keyword_of, last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.scripts.settings.followed_models import followed
from preflight.scripts.settings.given_keywords import given_by
from preflight.scripts.settings.made_and_given import is_given
from preflight.scripts.settings.model_calls import given_models
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place
from preflight.unpriced_names import COPY_OF_ADAPTER

ADAPTING = frozenset({"get_peft_model", "load_adapter", "add_adapter", "inject_adapter_in_model"})
MERGES = ("merge_and_unload", "unload")
OF_PEFT_MODEL = frozenset({"PeftModel", "PeftModelForCausalLM", "AutoPeftModelForCausalLM"})
UNSLOTH = frozenset({"FastLanguageModel", "FastModel", "FastVisionModel"})
"""Classes whose get_peft_model is read by itself (preflight/scripts/settings/unsloth_calls.py)."""
BY_FLAGS = "get_peft_config"
"""TRL's own, which `--use_peft` decides (trl/trainer/utils.py)."""

LORA = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "lora_target_modules",
    "modules_to_save": "lora_modules_to_save",
    "use_dora": "use_dora",
}
LORA_DEFAULTS = {"lora_r": 8, "lora_alpha": 8, "lora_dropout": 0.0}
"""peft/tuners/lora/config.py, 0.21.2."""

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
}
"""Keyword of LoraConfig -> what no formula counts of it, and what that takes (peft/tuners/lora/config.py, 0.13 to 0.21).
`runtime_config` is not among them: it says where DoRA's magnitudes are computed once (tuners/lora/variants.py:148, 0.21)."""


def lora_values(reader: ScriptReader, found: CallFound) -> tuple[dict[str, Known], bool]:
    """Return what a LoraConfig is told, and whether a `**` that cannot be read may add more."""
    values, is_open = reader.keywords(found)
    targets = values.get("target_modules")
    if targets is not None and targets.value is UNKNOWN:
        from preflight.scripts.settings.linear_names import gives_linear_names  # few look for them

        given = keyword_of(found.node, "target_modules")
        if given is not None and gives_linear_names(reader, given, found.scope):
            values["target_modules"] = Known("all-linear", targets.place)
    return values, is_open


def written_adapters(reader: ScriptReader, found: CallFound) -> tuple[Adapter, ...]:
    """Return what a LoraConfig that may run makes: as it is written, and each part that is not known at both of its ends."""
    values, is_open = lora_values(reader, found)
    ways = [Adapter(dropout=_number(values.get("lora_dropout")))]
    for keyword, name in LORA.items():
        if name not in OPEN_PARTS:
            continue
        part, dearest = OPEN_PARTS[name]
        given = values.get(keyword)
        value = None if given is None else _part(part, given.value)
        edit: dict[str, Any] = {part: dearest if value is None else value}
        if value is not None:
            ways = [replace(way, **edit) for way in ways]
        elif is_open or (given is not None and given.value is not None):
            ways += [replace(way, **edit) for way in ways]
    return tuple(ways)


def _part(part: str, value: object) -> object:
    """Return a plan's word for a part of an adapter; None where it is not known."""
    if part == "rank":
        return value if isinstance(value, int) and value > 0 else None
    if part == "kind":
        return {True: "dora", False: "lora"}.get(value) if isinstance(value, bool) else None
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return tuple(value)
    return value if value == "all-linear" else None


def _number(known: Known | None) -> float:
    return float(known.value) if known is not None and isinstance(known.value, (int, float)) else 0


def beside_lora(
    reader: ScriptReader, found: CallFound, table: Mapping[str, tuple[str, str]] = BESIDE_LORA
) -> dict[str, Uncounted]:
    """Return what a LoraConfig, or a call that makes one, is told that no formula counts."""
    values, _ = reader.keywords(found)
    return _beside(table, values, reader.place(found))


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


def read_adapting(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Note what puts an adapter on a model where no LoraConfig surely does. Of one that is read from a folder and goes on
    to train, the folder says kind and size, and no flag does unless the script may make a new one by it."""
    is_merged = any(map(reader.named, MERGES)) or any(map(reader.maybe, MERGES))
    is_new = bool(reader.maybe("LoraConfig"))
    for found in reader.possible_calls:
        if not adapts(reader, found):
            continue
        place = reader.place(found)
        settings.unread.setdefault("use_peft", place)
        trains = reader.keywords(found)[0].get("is_trainable")
        is_from_folder = found.name == "from_pretrained" and not is_new
        if not is_from_folder or trains is None or trains.value is not True:
            continue
        if found in reader.calls and not is_merged:
            settings.put("use_peft", Known(True, place))
        for name in OPEN_PARTS:
            settings.put_later(name, Known(UNKNOWN, place))


def read_adapted(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Note that a trainer which is told of an adapter is given a model that has one, or may have."""
    _note_copies(reader, settings)
    for call in reader.calls:
        if not reader.makes_trainer(call) or not given_by(reader, call, "peft_config"):
            continue
        has_one = [each is not None and adapts(reader, each) for each in _adapted(reader, call)]
        if any(has_one):
            known = Known(True if all(has_one) else UNKNOWN, reader.place(call))
            settings.put("has_adapter", known)


COPIES_ADAPTER = frozenset({"DPOTrainer", "GRPOTrainer", "RLOOTrainer", "KTOTrainer"})
"""Trainers of TRL that put an adapter `ref` beside the one of a model which has one, where they are given neither a reference
nor a `peft_config` (trl/trainer/dpo_trainer.py:667-695, 1.16.0): GRPO's and RLOO's since 0.27, DPO's since 0.29, KTO's since
1.4; earlier ones switch the adapter off, which takes less."""


def _note_copies(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Note a second adapter as large as the first: one of the same config, `model.add_adapter("reference", config)`, and the
    copy that a trainer of COPIES_ADAPTER makes."""
    first = [
        unparse(each.node.args[1])
        for each in reader.possible("get_peft_model")
        if len(each.node.args) > 1
    ]
    for call in reader.possible("add_adapter"):
        if any(unparse(each) in first for each in call.node.args[1:]):
            settings.uncounted[COPY_OF_ADAPTER] = Uncounted(reader.place(call), "more")
    for call in reader.possible_trainers:
        kinds = {call.name, *reader.kinds_of(call)}
        if not kinds & COPIES_ADAPTER or given_by(reader, call, "peft_config"):
            continue
        has_one = any(each is not None and adapts(reader, each) for each in _adapted(reader, call))
        references = given_by(reader, call, "ref_model")
        if has_one and all(unparse(node) == "None" for node, _ in references):
            settings.uncounted[COPY_OF_ADAPTER] = Uncounted(reader.place(call), "more")


def _adapted(reader: ScriptReader, trainer: CallFound) -> Iterator[CallFound | None]:
    """Yield the calls that make a trainer's model, those that put an adapter on it in place of what came before."""
    for node, scope in given_models(reader, trainer):
        yield from followed(reader, node, scope, (*ADAPTING, "from_pretrained"))


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
    given = given_by(reader, call, "peft_config")
    if not given:
        # transformers' own takes none, and many a script hands it `**data_module`
        return call.name != "Trainer" and reader.keywords(call)[1]
    made = (each for node, scope in given for each in followed(reader, node, scope))
    return any(each is None or each.name != BY_FLAGS for each in made)


def handed_adapters(reader: ScriptReader, config: CallFound) -> Iterator[tuple[Place, bool | None]]:
    """Yield what trainers are given as `peft_config`, whether it is one, where nothing else of the script puts one on; None
    where the one call that does may not run, or nothing is seen to take the config."""
    trainers = reader.possible_trainers
    adapting = [
        call for call in reader.possible_calls if call not in trainers and adapts(reader, call)
    ]
    given = [
        (reader.place(call), is_given(reader, node, scope))
        for call in trainers
        for node, scope in given_by(reader, call, "peft_config")
    ]
    if not adapting:
        yield from given
        if not given and not _may_be_taken(reader, config):
            yield reader.place(config), None
    elif (
        len(adapting) == 1 and adapting[0] not in reader.calls and not any(one for _, one in given)
    ):
        yield reader.place(adapting[0]), None


_ONLY_SHOW = {
    "print", "pprint", "info", "debug", "warning", "log", "str", "repr", "format", "len", "asdict", "isinstance", "type",
    "to_dict",
}  # fmt: skip
_OF_AN_ADAPTER = lazy_pattern(r"peft|lora|adapter", re.I)


def _may_be_taken(reader: ScriptReader, config: CallFound) -> bool:
    """Tell whether a call of what is not the script's own may be given the config of an adapter."""
    for call in reader.possible_calls:
        if call.name in _ONLY_SHOW or reader.meant_by(call.node, call.scope):
            continue
        for node in (*call.node.args, *(each.value for each in call.node.keywords)):
            if not isinstance(node, (ast.Name, ast.Attribute)):
                continue
            for made in followed(reader, node, call.scope):
                is_one = made is not None and made.node is config.node
                if is_one or (made is None and _OF_AN_ADAPTER.search(unparse(node))):
                    return True
    return False
