"""From a config.json to a ModelSpec: find the decoder, lay it out, add what stands around it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput, ModelNotKnown
from preflight.model import ALL_PARAMETERS, OTHER, ModelSpec, ModelUnit, ParameterTensor, Tower
from preflight.models.families.config_view import ConfigView, place_of_key
from preflight.models.families.groups import (
    BOTH_STACKS,
    FIRST_CHATGLM,
    SAME_AS,
    group_of_config,
    type_of,
)
from preflight.models.families.layout import Layout, Paths, counted_units
from preflight.models.families.library_defaults import family_table, library_defaults
from preflight.models.families.wholes import whole_of
from preflight.units import canonical_dtype

CLASSIFIER = "ForSequenceClassification"
HEADLESS = ("Model", CLASSIFIER)
"""Ends of the names of classes that have no language model's head."""

OF_CHATGLM = "ChatGLMModel"
"""What ChatGLM's configs name, whatever class of the code beside the weights is loaded: in training that with a head."""

NOT_DROPOUT = ("classifier_dropout", "layerdrop")


def describe_config(
    config: Mapping[str, Any], name: str, source: str, num_params: int | None
) -> ModelSpec:
    """Describe a model; see `preflight.models.describe`."""
    top_type, text = _decoder_section(config, name, source, num_params is not None)
    text_type = type_of(text.model_type, text.values)
    whole = whole_of(top_type)
    top = ConfigView(config, top_type, source) if whole is not None else text
    group = group_of_config(text_type, config)
    if group is None:
        return _only_counted(top, text, name, source, num_params)
    text.model_type = text_type
    tied = top.flag("tie_word_embeddings") if whole is None else whole.is_tied(top, text)
    if group in BOTH_STACKS:  # a config that says nothing shares its table
        tied = text.get("tie_word_embeddings") is not False
    paths = Paths(tied=tied) if whole is None else Paths(whole.body, whole.head, tied)
    lay_out = importlib.import_module(f"preflight.models.families.{group}").lay_out
    try:
        layout: Layout = lay_out(text, paths)
    except ModelNotKnown:
        if num_params is None:
            raise
        return _only_counted(top, text, name, source, num_params)
    _raise_problems(text, top)
    units = layout.units
    has_heads = "heads" in layout.facts
    headless = headless_class(config) if num_params is not None and not has_heads else ""
    if headless:
        units = (*(unit for unit in units if unit.role != "lm_head"), *_score(config, text))
    of_tower: tuple[ModelUnit, ...] = ()
    tower = None
    if whole is not None:
        text_params = sum(unit.num_params * unit.count for unit in units)
        of_tower, tower = _tower(top, name, num_params, text.size("hidden_size"), text_params)
    name_in_configs = FIRST_CHATGLM[0] if top_type == FIRST_CHATGLM[2] else top_type
    facts = {**layout.facts, "top_model_type": name_in_configs}
    if whole is not None:
        facts["whole"] = True
        facts.update({"attention": whole.attention} if whole.attention else {})
    if headless:
        facts["headless"] = headless
    if text.assumed:
        facts["library_defaults"] = tuple(dict.fromkeys(text.assumed))
    hidden_size, num_layers = layout.size or (
        text.size("hidden_size"),
        text.size("num_hidden_layers"),
    )
    return ModelSpec(
        name=name,
        config=config,
        model_type=text_type,
        hidden_size=hidden_size,
        vocab_size=text.size("vocab_size"),
        num_layers=num_layers,
        units=(*of_tower, *units),
        tower=tower,
        tied=tied,
        layer_classes=_layer_classes(top_type, text_type, config.get("vision_config")),
        config_dtype=_dtype(config, text),
        dropouts=_dropouts(text),
        is_decoder_lm=not headless,
        source=source,
        facts=facts,
    )


def headless_class(config: Mapping[str, Any]) -> str:
    """Return the class that a config names where that has no language model's head; empty where it has one."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else ""
    is_headless = isinstance(first, str) and first.endswith(HEADLESS) and "LMHead" not in first
    return first if is_headless and first != OF_CHATGLM else ""


def _score(config: Mapping[str, Any], text: ConfigView) -> tuple[ModelUnit, ...]:
    """Return the head of a classifier in place of the language model's."""
    if not headless_class(config).endswith(CLASSIFIER):
        return ()
    labels = text.optional_size("num_labels") or 2
    score = ParameterTensor("score.weight", (labels, text.size("hidden_size")), OTHER)
    return (ModelUnit("score", "other", (score,)),)


def _decoder_section(
    config: Mapping[str, Any], name: str, source: str, is_counted: bool
) -> tuple[str, ConfigView]:
    """Return the whole config's model_type and a view of the section that describes its decoder.

    A family that nobody knows here has one only where the parameters are counted beside the config.
    """
    top_type = config.get("model_type")
    if not isinstance(top_type, str) or not top_type:
        raise BadInput.one(
            f"the config of {name} has no model_type",
            place_of_key(source, "model_type"),
            "give a transformers config.json; `model_type` names its family (llama, qwen3, ...)",
        )
    known, whole = library_defaults().config_defaults, whole_of(top_type)
    if whole is None:
        is_known = top_type in known or SAME_AS.get(top_type) is not None
        if not is_known and family_table(top_type) is None:
            if is_counted:
                section = config.get("text_config")
                values = section if isinstance(section, Mapping) else config
                return top_type, ConfigView(values, top_type, source)
            raise ModelNotKnown.one(
                f"the parameters of model_type {top_type!r} are not known here",
                place_of_key(source, "model_type"),
                _nearest_type(top_type),
            )
        return top_type, ConfigView(config, type_of(top_type, config), source)
    section = config.get("text_config")
    if section is None:
        # Older files of Qwen-VL have the decoder's keys at the top.
        return top_type, ConfigView(config, whole.text_type, source)
    if not isinstance(section, Mapping):
        raise BadInput.one(
            f"text_config must be a mapping, not {section!r}", place_of_key(source, "text_config")
        )
    text_type = section.get("model_type")
    if text_type is None or text_type == top_type:
        text_type = whole.text_type
    return top_type, ConfigView(section, str(text_type), source, "text_config.")


def _nearest_type(model_type: str) -> str:
    import difflib

    known = (*library_defaults().config_defaults, *library_defaults().text_types)
    near = difflib.get_close_matches(model_type, known, n=1, cutoff=0.75)
    hint = f"did you mean {near[0]}? otherwise " if near else ""
    return (
        f"{hint}give the config of a family it shares its shapes with: `--set model_config=FILE` "
        "with that model_type"
    )


def _raise_problems(*views: ConfigView) -> None:
    problems = {problem: None for view in views for problem in view.problems}
    if problems:
        raise BadInput(*problems)


def _tower(
    top: ConfigView, name: str, num_params: int | None, text_hidden: int, text_params: int
) -> tuple[tuple[ModelUnit, ...], Tower | None]:
    """Return the units of tower and projector with its sizes; of a kind that is not laid out here, the rest of the total."""
    from preflight.models.families.vision_towers import hears, lay_out_tower

    layout, vision = lay_out_tower(top, text_hidden)
    _raise_problems(vision, top)
    units, sizes = layout or ((), None)
    if layout is not None and not hears(top.values):
        return layout
    left, section = ("vision", "vision_config") if layout is None else ("audio", "audio_config")
    if num_params is None:
        raise ModelNotKnown.one(
            f"the {left} tower of {name} cannot be counted from its config",
            place_of_key(top.where, section),
            "give a folder that holds its weights (model.safetensors or its index)",
        )
    rest = num_params - text_params - sum(unit.num_params * unit.count for unit in units)
    counted = counted_units(f"{left} tower and projector", rest) if rest > 0 else ()
    return (*units, *counted), sizes


def _only_counted(
    top: ConfigView, text: ConfigView, name: str, source: str, num_params: int | None
) -> ModelSpec:
    """Describe a model whose tensors nobody listed here: a total, and no claim about activations."""
    if num_params is None:
        raise ModelNotKnown.one(
            f"the parameters of model_type {top.model_type!r} are not laid out here, "
            f"and the config of {name} does not say how many there are",
            source,
            "give a folder that holds its weights (model.safetensors or its index), "
            "or a name from the registry",
        )
    vocab = text.optional_size("vocab_size") or 1
    classes = library_defaults().layer_classes
    return ModelSpec(
        name=name,
        config=top.values,
        model_type=text.model_type,
        hidden_size=text.optional_size("hidden_size") or 1,
        vocab_size=vocab,
        num_layers=text.optional_size("num_hidden_layers") or 1,
        units=counted_units(ALL_PARAMETERS, num_params),
        tied=top.flag("tie_word_embeddings"),
        layer_classes=classes.get(top.model_type, classes.get(text.model_type, ())),
        config_dtype=_dtype(top.values, text),
        dropouts=_dropouts(text),
        is_decoder_lm=False,
        source=source,
        num_params_override=num_params,
        facts={"layout": "none", "top_model_type": top.model_type},
    )


SEEING = {
    "clip_vision_model": ("llava", "llama"),
    "pixtral": ("mistral3", "mistral"),
    "siglip_vision_model": ("gemma3", "gemma3_text"),
}
"""Kind of tower -> a family that has it by default, and that family's decoder."""


def _layer_classes(top_type: str, text_type: str, vision: Any = None) -> tuple[str, ...]:
    """Return `_no_split_modules`; a vision-language model may carry other parts than its defaults."""
    whole = whole_of(top_type)
    if whole is not None and whole.layer_classes and text_type == whole.text_type:
        return whole.layer_classes
    table = family_table(text_type)
    if table is not None and text_type not in library_defaults().layer_classes:
        return tuple(table["layer_classes"])
    tables = library_defaults()
    classes = tables.layer_classes
    own = set(classes.get(top_type, ()))
    default = tables.text_types.get(top_type)
    if default is None:
        return tuple(sorted(own)) or classes.get(text_type, ())
    if default != text_type or not own:
        own = own - set(classes.get(default, ())) | set(classes.get(text_type, ()))
    kind = vision.get("model_type") if isinstance(vision, Mapping) else None
    towers = {name: set(classes[of]) - set(classes[text]) for name, (of, text) in SEEING.items()}
    if kind in towers:
        own = own.difference(*towers.values()) | towers[kind]
    return tuple(sorted(own))


def _dtype(config: Mapping[str, Any], text: ConfigView) -> str | None:
    """Return the dtype transformers 5 loads by default: the top's `dtype`, then `torch_dtype`, then the decoder's."""
    for values in (config, text.values):
        for key in ("dtype", "torch_dtype"):
            value = values.get(key)
            if isinstance(value, str):
                return canonical_dtype(value)
    return None


def _dropouts(view: ConfigView) -> dict[str, float]:
    """Return the active dropout probabilities among the keys that the family's class knows."""
    found = {}
    for key in view.known_keys:
        is_dropout = ("dropout" in key or key.endswith("pdrop")) and key not in NOT_DROPOUT
        value = view.get(key) if is_dropout else None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            found[key] = float(value)
    return found
