"""The models that a type's layout is read from: in every size, and again with each field of the config changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from preflight.derive.layouts.observed_layouts import Observed, observe
from preflight.derive.layouts.type_configs import (
    DEPTHS,
    SIZES,
    SPECIAL,
    config_fields,
    is_dropout,
    small_type_config,
)
from preflight.derive.target import NotMade
from preflight.trace.encoders import encoder_class
from preflight.values import dataclass

EXPERT_COUNTS = (
    "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "n_shared_experts", "num_shared_experts",
    "moe_num_shared_experts",
)  # fmt: skip
DEPTH, DEEP = 6, 19
NUM_SOLVED = 4
"""Sizes that expressions are solved from; the others check them, in depths of their own."""
OF_ABSENT = (DEPTH, 7, 13, 19)
"""Depths of models that are left to make a list by layer themselves: two turns and more of a rule by six or fewer."""
OF_SIZES = (DEPTH, DEPTH, DEPTH, DEPTH, 7, 9)
NO_BYTES = (
    "initializer", "_eps", "epsilon", "token_id", "rope_theta", "rope_scaling", "rope_parameters", "use_cache",
    "summary_", "id2label", "label2id", "begin_suppress", "suppress_tokens", "forced_", "per_layer_config",
)  # fmt: skip
"""Parts of the names of fields that decide neither a parameter nor a byte of a layer."""
SIZE_PER_LAYER = "hidden_size_per_layer_input"
"""Of what every layer is handed beside the layer before: models have it or not."""
NO_LAYOUT = (*NO_BYTES, "scale", "scaling", "softcap")
"""Parts of the names of fields that no parameter depends on."""


class NotLaidOut(NotMade):
    """A type whose parameters no table says."""


@dataclass(frozen=True)
class Seen:
    """The models of one type: in every size, and with one field changed."""

    model_type: str
    base: tuple[Observed, ...]
    changed: Mapping[str, tuple[Observed, ...]]
    """What was changed, as text -> the model in every size that could be built so."""
    changes: Mapping[str, tuple[str, Any]]
    """The same text -> field and value."""
    fields: Mapping[str, Any]


OF_DECODERS = {"is_decoder": False, "add_cross_attention": False}
"""Fields that make a decoder of an encoder's class, which its table does not speak of."""
LABELS = (3, 5, 7, 11, 4, 6)
"""Of a classifier, by size."""


def see(model_type: str, head: str = "masked_lm") -> Seen:
    """Build a type's models in every size and with each field changed; of an encoder with the named head."""
    from transformers import CONFIG_MAPPING

    fields = config_fields(CONFIG_MAPPING[model_type])
    if encoder_class(model_type, head) is not None:
        fields = {name: default for name, default in fields.items() if name not in OF_DECODERS}

    def config_of(size: int, depth: int) -> dict[str, Any]:
        labels = {} if head == "masked_lm" else {"num_labels": LABELS[size]}
        return small_type_config(model_type, size, depth, labels, head)

    try:
        base = tuple(observe(config_of(size, depth)) for size, depth in enumerate(OF_SIZES))
    except Exception as error:
        raise NotLaidOut(f"it cannot be built: {_line(error)}") from error
    changed: dict[str, tuple[Observed, ...]] = {}
    changes: dict[str, tuple[str, Any]] = {}
    for name, value in _changes(fields, base[0]):
        text = f"{name}={value}"
        found = _changed(config_of, name, value, base[0])
        if found or value is ABSENT:  # what cannot be built without a key has to have it
            changes[text] = (name, value)
        if found:
            changed[text] = found
    return Seen(model_type, base, changed, changes, fields)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[-160:]


def _changed(
    config_of: Callable[[int, int], dict[str, Any]], name: str, value: Any, plain: Observed
) -> tuple[Observed, ...]:
    """Return the models with one field changed, in all sizes where it changes anything; none where it cannot be."""

    def build(size: int) -> Observed | None:
        # what a list by layer is where there is none is a rule that has to hold in any depth
        is_list = value is ABSENT and isinstance(plain.values.get(name), (list, tuple))
        depth = OF_ABSENT[size] if is_list else DEPTH
        config = config_of(size, value if name in DEPTHS else depth)
        if value is ABSENT:
            config.pop(name, None)
        else:
            config[name] = value
        try:
            return observe(config)
        except Exception:
            return None

    first = build(0)
    if first is None:
        return ()
    if is_alike(first, plain):
        return (first,)
    others = [build(size) for size in range(1, NUM_SOLVED)]
    return (first, *(one for one in others if one is not None))


class _Absent:
    def __repr__(self) -> str:
        return "(absent)"


ABSENT = _Absent()


def _changes(fields: Mapping[str, Any], plain: Observed) -> Iterator[tuple[str, Any]]:
    """Yield every field with other values than those of the small config."""
    special = SPECIAL.get(plain.config["model_type"], {})
    own_sizes = {name for name, value in special.items() if type(value) is tuple}
    for name, default in fields.items():
        if any(part in name for part in NO_LAYOUT) or is_dropout(name, default):
            continue
        effective = plain.values.get(name)
        given = plain.config.get(name, default)
        if name in DEPTHS:
            yield name, DEEP
        elif isinstance(effective, bool):
            yield name, not effective
        elif isinstance(effective, int):
            if name in EXPERT_COUNTS and effective > 1:
                yield from ((name, 0), (name, 1))
            if name not in SIZES and name not in own_sizes:
                yield name, effective * 2 if effective > 1 else effective + 1
                if 1 < effective < 20:
                    yield name, effective + 1
            if name in own_sizes and name.endswith(SIZE_PER_LAYER):
                yield name, 0
            if (default is None or isinstance(default, str)) and given is not None:
                yield name, ABSENT
            elif name in SIZES:
                yield name, None
        elif isinstance(effective, float):
            yield name, effective * 2
        elif effective is None and "window" in name:
            yield name, 64
        elif isinstance(effective, (list, tuple)) and len(effective) == len(plain.layers):
            if default is None and plain.config.get(name) is not None:
                yield name, ABSENT
            others = list(reversed(effective))
            if others != list(effective) and not any(isinstance(v, float) for v in others):
                yield name, others
            yield name, [effective[-1]] * len(others)


def is_alike(one: Observed, two: Observed) -> bool:
    mine, theirs = (
        (model.layers, model.outside, model.marks, model.buffers) for model in (one, two)
    )
    return mine == theirs


def never_set(
    seen: Seen, followed: Mapping[str, tuple[Observed, ...]], names: set[str]
) -> dict[str, list[Any]]:
    """Return the fields that no model had a value of: what one means to the layers is not in the table."""
    varied = {
        seen.changes[text][0]
        for text, models in followed.items()
        if not is_alike(models[0], seen.base[0])
    }
    other_names = spellings_of(seen.model_type)
    return {
        name: []
        for name in sorted(seen.fields)
        if name not in {*names, *varied, *other_names}
        and not any(part in name for part in NO_BYTES)
        and all(model.values.get(name) is None for model in seen.base)
    }


def has_encoder(model_type: str) -> bool:
    """Tell whether a type is by itself an encoder with a decoder."""
    from transformers import CONFIG_MAPPING

    return bool(CONFIG_MAPPING[model_type]().is_encoder_decoder)


def spellings_of(model_type: str) -> dict[str, list[str]]:
    """Return the other names that a config class takes for its fields."""
    from transformers import CONFIG_MAPPING

    found: dict[str, list[str]] = {}
    for left, right in sorted((CONFIG_MAPPING[model_type].attribute_map or {}).items()):
        found.setdefault(left, []).append(right)
        found.setdefault(right, []).append(left)
    return found
