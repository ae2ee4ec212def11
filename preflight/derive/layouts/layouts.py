"""models/families/tables/*.json: the parameters of a model type, solved from the models that transformers builds of it.

A small model is built without data in several sizes, and again with each field of its config changed. What follows a
field is an expression in it; what a switch adds has the switch as its condition; which layer is of which kind is a
rule. A field whose change the table does not follow is said to have one value: with another the type is not known.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from preflight.derive.layouts.absent_fields import absent_fields
from preflight.derive.layouts.buffer_rows import buffer_rows, elements_of
from preflight.derive.layouts.candidate_widths import candidate_widths, fields_of_chunks
from preflight.derive.layouts.changed_models import (
    ABSENT,
    NO_LAYOUT,
    OF_DECODERS,
    NotLaidOut,
    Seen,
    has_encoder,
    is_alike,
    never_set,
    see,
    spellings_of,
)
from preflight.derive.layouts.common_rows import (
    Solver,
    is_none_of_experts,
    kind_tensors,
    label_of,
    places_of,
    units,
)
from preflight.derive.layouts.observed_layouts import Observed, kernels_of
from preflight.derive.layouts.type_configs import DEPTHS, PATTERNS, SIZES, is_dropout
from preflight.errors import ModelNotKnown
from preflight.model import CAUSAL_LM
from preflight.models.families.expressions import fields_of
from preflight.models.families.layer_rules import NUM_SHARING, SHARING, named_fields
from preflight.models.families.table_layout import HEADS, HIDDEN
from preflight.models.families.table_traces import ACTIVATIONS
from preflight.trace.encoders import HEADS as HEADS_OF_ENCODERS
from preflight.trace.encoders import encoder_class

EMBEDDED = "embedding_size"
"""A width of its own, with a projection behind it where it is not the layers': as it is in no model that is built here."""


def layout_of(model_type: str) -> dict[str, Any]:
    """Return the table of a type, of an encoder with the modules of every head; raise NotLaidOut where none holds."""
    seen = see(model_type)
    table = _solved(seen)
    heads = {
        head: _of_head(model_type, head, table)
        for head in HEADS_OF_ENCODERS
        if encoder_class(model_type, head) is not None and head != "masked_lm"
    }
    if heads:
        never = {
            k: v for k, v in OF_DECODERS.items() if k != "is_decoder" or CAUSAL_LM not in heads
        }
        table = {**table, "fixed": {**table["fixed"], **never}, "heads": heads}
    return {**table, "widths": candidate_widths(seen, table)}


def _of_head(model_type: str, head: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the class of an encoder with another head, and its modules beside layers and tables of words."""
    own = _solved(see(model_type, head))
    if own["kinds"] != table["kinds"]:
        raise NotLaidOut(f"layers of {own['class']} are others than those of {table['class']}")
    units = [unit for unit in own["body"] if unit["role"] != "embedding"]
    return {"class": own["class"], "body": units}


def _solved(seen: Seen) -> dict[str, Any]:
    """Return the first table that gives all models but those with a field changed that it then knows one value of."""
    followed = dict(seen.changed)
    for _ in range(len(followed) + 1):
        table = _table(seen, followed)
        wrong = _first_wrong(seen, followed, table)
        if wrong is None:
            return table
        if wrong not in followed:
            raise NotLaidOut(f"the table does not give {wrong}")
        del followed[wrong]
    raise NotLaidOut("nothing holds")


def _table(seen: Seen, followed: Mapping[str, tuple[Observed, ...]]) -> dict[str, Any]:
    base = seen.base[0]
    matters = {text: models for text, models in followed.items() if not is_alike(models[0], base)}
    labels = [label_of(base, i) for i in range(len(base.layers))]
    kinds: dict[Hashable, int] = {}
    for label in labels:
        kinds.setdefault(label, len(kinds))
    solver = Solver(seen, matters)
    table: dict[str, Any] = {
        "class": base.config["architectures"][0],
        "layer_classes": list(base.layer_classes),
        "attention": base.attention,
        "adapts_experts": False,
        "traced": {},
        "prefix": base.prefix,
        "body": units(seen, matters, solver),
        "kinds": [
            {"tensors": kind_tensors(seen, matters, solver, labels.index(label), label)}
            for label in kinds
        ],
    }
    table["lists"], table["places"], table["met"] = places_of(seen, matters, kinds)
    table["buffers"] = buffer_rows(seen, solver, labels, list(kinds))
    table.update(fields_of_chunks(seen.fields))
    names = _named(table)
    table["absent"] = absent_fields(seen, names)
    names |= {name for text in table["absent"].values() for name in fields_of(text)}
    table["defaults"] = _defaults(seen, names)
    table["fixed"] = _fixed(seen, followed)
    table["never"] = {
        name: [
            v
            for text, (n, v) in seen.changes.items()
            if n == name and text not in followed and v is not ABSENT
        ]
        for text, (name, value) in seen.changes.items()
        if text not in followed and is_none_of_experts(name, value)
    }
    table["given"] = sorted(
        {
            name
            for text, (name, value) in seen.changes.items()
            if text not in followed and (value is None or value is ABSENT)
        }
        # left out, it has the class's own value, which is another
        | {
            name
            for name, value in table["fixed"].items()
            if seen.fields.get(name) not in (value, None)
        }
        # a config without the class is that of the whole, an encoder with its decoder
        | ({"architectures"} if has_encoder(seen.model_type) else set())
    )
    table["unset"], table["untraced"] = never_set(seen, followed, names), {}
    if EMBEDDED in seen.fields and "hidden_size" in seen.fields:
        table["equal"] = {EMBEDDED: "hidden_size"}
    table["spellings"] = spellings_of(seen.model_type)
    table["kernels"] = kernels_of(seen.model_type)
    if seen.model_type in PATTERNS:
        table["patterns"] = PATTERNS[seen.model_type]
    table["absent"].update(_worked_out(seen, followed, table, names))
    return table


def _worked_out(
    seen: Seen,
    followed: Mapping[str, tuple[Observed, ...]],
    table: dict[str, Any],
    names: set[str],
) -> dict[str, str]:
    """Return what models take for a field that is null where their config class does not say: what fits of the usual."""
    found = {}
    values = seen.base[0].values
    hidden = next((name for name in HIDDEN if name in values), "hidden_size")
    heads = next((name for name in HEADS if name in values), "num_attention_heads")
    usual = (f"{hidden}//{heads}", heads, f"4*{hidden}", hidden)
    for text, models in followed.items():
        name, value = seen.changes[text]
        is_left_out = value is None or value is ABSENT
        if not is_left_out or name in {**table["absent"], **table["lists"]} or name not in names:
            continue
        for form in usual:
            tried = {**table, "absent": {**table["absent"], name: form}}
            if name not in fields_of(form) and not any(
                differs(model, seen.model_type, tried) for model in models
            ):
                found[name] = form
                break
    return found


def _named(table: Mapping[str, Any]) -> set[str]:
    """Return every config field that a table reads."""
    found: set[str] = {*table.get("delta", {}).values(), table.get("chunk", "")} - {""}
    rows = [row for unit in (*table["body"], *table["kinds"]) for row in unit["tensors"]]
    for row in (*rows, *table["buffers"]):
        for form in row[2]:
            found.update(fields_of(form))
        found.update(named_fields([[row[4] if len(row) > 4 else [], 0]]))
    for rule in (table["places"], *(r for r in table["lists"].values() if r)):
        found.update(named_fields(rule))
    return found | {NUM_SHARING} if SHARING in found else found


def _defaults(seen: Seen, names: set[str]) -> dict[str, Any]:
    """Return the class's own values of what a table reads, and of all that says how a model drops out."""
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[seen.model_type]()
    found = {}
    for name, default in seen.fields.items():
        is_asked = name in names or is_dropout(name, default) or name in (*DEPTHS, *SIZES)
        value = default if _is_scalar(default) else None
        if name in ACTIVATIONS or "window" in name or "rotary" in name or name.startswith("tie_"):
            is_asked, value = True, default
        if is_asked and _is_scalar(value):
            found[name] = value
    if hasattr(config, "tie_word_embeddings"):
        found["tie_word_embeddings"] = bool(config.tie_word_embeddings)
    return dict(sorted(found.items()))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str))


def _fixed(seen: Seen, followed: Mapping[str, tuple[Observed, ...]]) -> dict[str, Any]:
    """Return the fields that have one value: words that may mean another layout, and changes nobody follows."""
    found: dict[str, Any] = {}
    for text, (name, value) in seen.changes.items():
        is_other = value is not None and value is not ABSENT and not is_none_of_experts(name, value)
        if text not in followed and is_other:
            found[name] = seen.base[0].values.get(name)
    for name, default in seen.fields.items():
        own = seen.base[0].values.get(name)
        is_word = isinstance(default, str) and name not in ACTIVATIONS and isinstance(own, str)
        if is_word and not any(part in name for part in NO_LAYOUT):
            found.setdefault(name, own)
    return dict(sorted(found.items()))


def _first_wrong(
    seen: Seen, followed: Mapping[str, tuple[Observed, ...]], table: Mapping[str, Any]
) -> str | None:
    """Return the first model that a table lays out otherwise than transformers does; None where all are alike."""
    for size, model in enumerate(seen.base):
        difference = differs(model, seen.model_type, table)
        if difference:
            return f"size {size}: {difference}"
    for text, models in followed.items():
        if any(differs(model, seen.model_type, table) for model in models):
            return text
    return None


def differs(model: Observed, model_type: str, table: Mapping[str, Any]) -> str:
    """Return where a table's layout is not that of a model; empty where it is."""
    from preflight.models.families.config_view import ConfigView
    from preflight.models.families.table_layout import lay_out_by

    view = ConfigView(model.config, model_type)
    view.use_table(table)
    try:
        layout = lay_out_by(table, view)
    except ModelNotKnown as error:
        return error.problems[0].message
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return repr(error)
    if view.problems:
        return view.problems[0].message
    mine: dict[str, tuple[int, ...]] = {}
    for unit in layout.units:
        names = [f"{unit.name}." if unit.name else ""]
        if unit.role == "layer":
            names = [f"{table['prefix']}.{place}." for place in unit.places]
        for name in names:
            mine.update({f"{name}{t.name}": t.shape for t in unit.tensors})
    theirs = {
        f"{model.prefix}.{i}.{name}": t.shape
        for i, layer in enumerate(model.layers)
        for name, t in layer.items()
    }
    theirs.update(
        {
            f"{owner}.{name}" if owner else name: t.shape
            for owner, tensors in model.outside.items()
            for name, t in tensors.items()
        }
    )
    if mine == theirs:
        tables = dict(layout.facts["buffers"])
        return "" if tables == elements_of(model) else f"{tables} in tables of its modules"
    apart = sorted(set(mine.items()) ^ set(theirs.items()))
    return f"{apart[0]} ({len(apart)} in all)"


__all__ = ["NotLaidOut", "differs", "layout_of"]
