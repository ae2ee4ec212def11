"""The adapter that a script makes by a LoraConfig, where it reaches a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.plan_choices import OPEN_PARTS, OPEN_VALUES
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import keyword_of
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.scripts.settings.adapter_calls import (
    LORA,
    LORA_DEFAULTS,
    beside_lora,
    handed_adapters,
    lora_values,
    read_adapted,
    read_adapting,
    written_adapters,
)
from preflight.scripts.settings.made_and_given import is_loaded, never_made
from preflight.scripts.settings.other_adapters import (
    read_other_adapter,
    read_own_adapter,
)
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place
from preflight.unpriced_names import MAKES

TARGETS = "lora_target_modules"


def read_adapter(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read kind, size and targets of the one that a trainer or a model is surely given; open what only running tells."""
    read_adapted(reader, settings)
    read_own_adapter(reader, settings)
    calls = [each for each in reader.named("LoraConfig") if is_loaded(reader, each)]
    others = [each for each in reader.maybe("LoraConfig") if is_loaded(reader, each)]
    for found in () if len(calls) == 1 else others:
        settings.unread.setdefault("use_peft", reader.place(found))
    for found in (*calls, *others):
        settings.uncounted.update(beside_lora(reader, found))
        adapters = settings.may_be.get("adapter", OPEN_VALUES["adapter"])
        settings.may_be["adapter"] = (*adapters, *written_adapters(reader, found))
    is_lora = bool(reader.named("LoraConfig") or reader.maybe("LoraConfig"))
    if not is_lora and read_other_adapter(reader, settings):
        return
    if not calls:
        _read_parts(reader, settings, others)
        read_adapting(reader, settings)
        read_own_layers(reader, settings)
        never_made(reader, settings, "LoraConfig", "use_peft")
        return
    place = reader.place(calls[0])
    settings.seen["lora"] = place
    if len(calls) > 1:
        settings.unread["use_peft"] = place
        _open_parts(settings, [lora_values(reader, each)[0] for each in calls], place)
        return
    for handed, is_one in handed_adapters(reader, calls[0]):
        if is_one is not True:
            settings.put("use_peft", Known(False if is_one is False else UNKNOWN, handed))
            return
    values, is_open = lora_values(reader, calls[0])
    beside = [
        lora_values(reader, each)[0] for each in others
    ]  # one more may be made, or in its place
    settings.put("use_peft", Known(True, place))
    for name, default in LORA_DEFAULTS.items():
        settings.put(name, Known(default, place))
    for keyword, name in LORA.items():
        if name in OPEN_PARTS and _differ([each.get(keyword) for each in (values, *beside)]):
            settings.put(name, Known(UNKNOWN, place))
        elif keyword in values:
            settings.put(name, values[keyword])
            if name == TARGETS and values[keyword].value is UNKNOWN and not is_open:
                _note_targets(reader, settings, calls[0], keyword)
        elif is_open and name in OPEN_PARTS:
            settings.put(name, Known(UNKNOWN, place))


def _read_parts(reader: ScriptReader, settings: ScriptSettings, calls: Sequence[CallFound]) -> None:
    """Record what the LoraConfigs that may be made say of parts of an adapter: a rank that a flag gives says no more."""
    told = [lora_values(reader, each) for each in calls]
    for keyword, name in LORA.items():
        said = [values.get(keyword) for values, _ in told]
        if name not in OPEN_PARTS or name == "lora_r" or not any(said):
            continue
        known = next(each for each in said if each is not None)
        settings.put(name, Known(UNKNOWN, known.place) if _differ(said) else known)


def _open_parts(
    settings: ScriptSettings, told: Sequence[Mapping[str, Known]], place: Place
) -> None:
    """Note the parts of an adapter of which several LoraConfigs say different things: no flag says which of them trains."""
    for keyword, name in LORA.items():
        if name in OPEN_PARTS and _differ([values.get(keyword) for values in told]):
            settings.put_later(name, Known(UNKNOWN, place))


def _note_targets(
    reader: ScriptReader, settings: ScriptSettings, call: CallFound, keyword: str
) -> None:
    """Note the lists of modules of which a LoraConfig surely has one, where only running tells which."""
    from preflight.scripts.settings.alternatives import alternatives  # few scripts choose them

    given = keyword_of(call.node, keyword)
    if given is None:  # one of `**arguments`
        return
    ways = alternatives(reader, given, call.scope)
    if ways and None not in ways and len(ways) > 1:
        settings.may_be[TARGETS] = ways


def _differ(said: Sequence[Known | None]) -> bool:
    """Tell whether what several calls say of one keyword is not the same, where any says it."""
    return len({None if each is None else repr(each.value) for each in said}) > 1


OWN_LAYERS = "convert_linear_layer_to_lora"
OF_OWN_LAYERS = ("model", "part_module_name", "lora_dim", "lora_scaling", "lora_droppout")
FREEZES_OTHERS = "only_optimize_lora_parameters"
_WHOLE_LAYERS = lazy_pattern(r"^(?:\w+\.)*(?:layers|layer|h|blocks|block)\.?$")
"""Words that the name of every linear layer of a decoder has, and the head's has not."""


def read_own_layers(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record the adapter that a script surely makes of DeepSpeed-Chat's layers, where its rank is known; name another one.

    `convert_linear_layer_to_lora(model, "decoder.layers.", rank)`, of which many repositories have a copy, gives two matrices,
    in the dtype of the weight, to each linear layer with those words in its name, and freezes that weight;
    `only_optimize_lora_parameters(model)` freezes everything else (dschat/utils/module/lora.py of DeepSpeedExamples). What is
    kept for the backward is what PEFT keeps: the input, and its product with the first matrix. Without the second call the
    embedding, the head, norms and biases train too, which is bounded by copies of the first two as PEFT makes them
    (`modules_to_save`).
    """
    made, maybe = reader.named(OWN_LAYERS), reader.maybe(OWN_LAYERS)
    if not _is_read(reader, settings, made, maybe):
        for call in (*made, *maybe):
            settings.uncounted[f"what {OWN_LAYERS}{MAKES}"] = Uncounted(
                reader.place(call), "either"
            )


def _is_read(
    reader: ScriptReader,
    settings: ScriptSettings,
    made: Sequence[CallFound],
    maybe: Sequence[CallFound],
) -> bool:
    """Record the adapter that one call makes; tell whether it does, since others leave what is made of the model open."""
    if len(made) != 1 or maybe:
        return False
    (call,) = made
    given = (reader.evaluator.evaluate(each, call.scope) for each in call.node.args)
    values = {**dict(zip(OF_OWN_LAYERS, given, strict=False)), **reader.keywords(call)[0]}
    name, rank = (getattr(values.get(each), "value", None) for each in OF_OWN_LAYERS[1:3])
    is_whole = isinstance(name, str) and _WHOLE_LAYERS.match(name) is not None
    if not is_whole or not isinstance(rank, int) or rank < 1:
        return False
    place = reader.place(call)
    settings.put("use_peft", Known(True, place))
    settings.put("lora_r", values["lora_dim"])
    settings.put("lora_dropout", values.get("lora_droppout", Known(0.0, place)))
    settings.put("lora_target_modules", Known("all-linear", place))
    freezing = reader.named(FREEZES_OTHERS)
    is_alone = any(len(each.node.args) == 1 and not each.node.keywords for each in freezing)
    if not is_alone:
        settings.put("lora_modules_to_save", Known(UNKNOWN, place))
    return True
