"""Decoders whose parameters are in a table of their own (tables/*.json), which `python -m preflight.derive family` writes.

    class, layer_classes   the class that was built, and what it says not to split
    attention              what it runs where SDPA is asked for: sdpa, or eager
    adapts_experts         whether PEFT's all-linear reaches its stacks of experts
    prefix                 where the layers hang
    body                   the modules around the layers: name, role, tensors
    kinds                  the tensors of every kind of layer
    patterns               lists by layer that a config may give as a string: its name, and what the letters mean
    heads                  of an encoder, by objective: another class, and its modules beside layers and tables of words
    places, lists          rules: which layer is of which kind; what a list by layer is where the config has none
    defaults, absent       what a field is where the config has none: a value, or an expression in others
    given                  fields that a config must have
    unset                  fields that no model had a value of that the table was made from, and values that are as null
    untraced               those of them that no parameter depends on, but bytes may
    buffers                [kind or null, bytes of an element or `load`, shape] of the tables that modules register
    fixed, never           fields whose other values, or these, make another layout, which is not in the table
    met                    which of the rule's atoms held together in the layers that the table was made from
    traced                 switches on which a layer's bytes depend, as the traces had them
    variants               by the end of the name of its own file of costs, what models with such switches have: a field
                           that is set or none, as the traces of that file had them
    large_heads            head sizes that flash attention does not take, as the traces had them
    delta                  the fields with the sizes of a gated delta rule, which loops over chunks of 64 tokens
    chunk                  the field with the length of a chunk, where a scan works by chunks
    kernels                packages whose kernels take the place of torch code that was traced, where they are installed
    widths                 what the costs of this type are counted in beside the usual

A tensor is [name, kind, shape, flags, condition]; shapes are expressions (expressions.py), conditions and rules are
those of layer_rules.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod
from typing import Any

from preflight.errors import ModelNotKnown
from preflight.model import EXPERTS, MASKED_LM, LayerShape, ModelUnit, ParameterTensor
from preflight.models.families.config_view import ConfigView
from preflight.models.families.expressions import evaluate
from preflight.models.families.layer_rules import Places, by_layer, values_by
from preflight.models.families.layout import Layout, Paths
from preflight.models.families.library_defaults import family_table
from preflight.models.families.table_limits import (
    raise_if_not_met,
    raise_if_other,
    raise_if_other_heads,
)
from preflight.models.families.table_numbers import Numbers
from preflight.models.families.table_traces import WIDER, WINDOWS, null_fields, unlike_traced
from preflight.values import replace

DEPTHS = (
    "decoder_layers", "num_decoder_layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers",
)  # fmt: skip
HIDDEN = ("hidden_size", "d_model", "n_embd", "emb_dim", "dim")
HEADS = (
    "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "attention_heads",
    "num_decoder_attention_heads",
)  # fmt: skip
WIDTHS = (
    "intermediate_size", "ffn_dim", "decoder_ffn_dim", "n_inner", "dim_ff", "dff", "ffn_hidden_size", "d_inner",
    "hidden_dim",
)  # fmt: skip
EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k")
EXPERT_WIDTHS = ("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size")


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units of a decoder that has a table."""
    table = family_table(view.model_type)
    assert table is not None
    if paths.body == Paths.body:
        return lay_out_by(table, view)
    # inside a model that sees or hears, which ties its head itself
    view.values = {**view.values, "tie_word_embeddings": paths.tied}
    layout = lay_out_by(table, view)
    return replace(
        layout, units=tuple(replace(u, name=_inside(u.name, paths)) for u in layout.units)
    )


def _inside(name: str, paths: Paths) -> str:
    """Return the name of a module of a decoder where the whole model has it."""
    first, dot, rest = name.partition(".")
    return f"{ {Paths.body: paths.body, Paths.head: paths.head}.get(first, first) }{dot}{rest}"


def lay_out_by(table: Mapping[str, Any], view: ConfigView) -> Layout:
    """Return the units of a decoder by its table; raise ModelNotKnown where the table does not speak of its config."""
    raise_if_other(table, view)
    numbers = Numbers(table, view)
    num_heads = _first(view, numbers, HEADS)
    raise_if_other_heads(table, view, num_heads and _first(view, numbers, HIDDEN) // num_heads)
    depth = _depth(table, view)
    places = Places(numbers.number, numbers.plain(depth), depth)
    raise_if_not_met(table, view, places)
    kinds = values_by(table["places"], places)
    units: list[ModelUnit] = []

    def around(entries: Sequence[Mapping[str, Any]]) -> tuple[ModelUnit, ...]:
        """Return the modules around the layers that have parameters."""
        made = (
            ModelUnit(e["name"], e["role"], tuple(_tensors(e["tensors"], numbers, places)))
            for e in entries
        )
        return tuple(unit for unit in made if unit.tensors)

    body = around(table["body"])
    heads = {head: around(entry["body"]) for head, entry in table.get("heads", {}).items()}
    own = _head_of(table, view)
    units += [unit for unit in body if unit.role == "embedding"]
    for kind, entry in enumerate(table["kinds"]):
        held = tuple(index for index, found in enumerate(kinds) if found == kind)
        if not held:
            continue
        tensors = tuple(_tensors(entry["tensors"], numbers, places))
        shape = _shape(table, view, numbers, places, tensors, held[0], kind)
        name = f"{table['prefix']}.*" + (f" ({kind})" if len(held) < depth else "")
        units.append(ModelUnit(name, "layer", tensors, len(held), shape, held))
    behind = tuple(unit for unit in body if unit.role != "embedding")
    units += heads[own] if own else behind
    facts: dict[str, Any] = {
        "layout": "table",
        "activation": view.get("hidden_act"),
        "attention": table["attention"],
    }
    variant, switches = _variant(table, view)
    if variant:
        facts["costs"] = f"{view.model_type}{variant}"
    facts["unlike_traced"] = tuple(unlike_traced(table, view, switches))
    facts["adapts_experts"] = bool(table.get("adapts_experts"))
    facts["windowed"] = bool(table.get("windowed"))
    facts["kernels"] = tuple(table.get("kernels", ()))
    if heads:
        facts["heads"] = {MASKED_LM: behind, **heads}
    if "delta" in table:
        facts["delta"] = {part: numbers.number(name) for part, name in table["delta"].items()}
    if "chunk" in table:
        facts["chunk"] = numbers.number(table["chunk"])
    facts["widths"] = dict(_widths(table, numbers))
    facts["buffers"] = _buffers(table, numbers, kinds)
    return Layout(tuple(units), facts, (_first(view, numbers, HIDDEN), depth))


def _buffers(table: Mapping[str, Any], numbers: Numbers, kinds: Sequence[Any]) -> dict[str, int]:
    """Return the elements of what modules register, by bytes of an element, `load` for those of the load dtype."""
    found: dict[str, int] = {}
    for kind, element, shape in table.get("buffers", ()):
        count = 1 if kind is None else sum(own == kind for own in kinds)
        elements = count * prod(evaluate(form, numbers.number) for form in shape)
        found[element] = found.get(element, 0) + elements
    return found


def _head_of(table: Mapping[str, Any], view: ConfigView) -> str | None:
    """Return the head of the class that a config names, where the table has one for it beside its own class."""
    named = view.values.get("architectures")
    first = named[0] if isinstance(named, list) and named else ""
    return next((h for h, e in table.get("heads", {}).items() if e["class"] == first), None)


def _widths(table: Mapping[str, Any], numbers: Numbers) -> Iterator[tuple[str, int]]:
    for text in table.get("widths", ()):
        with suppress(ModelNotKnown):  # one that is tried while costs are derived
            yield text, evaluate(text, numbers.number)


def _variant(table: Mapping[str, Any], view: ConfigView) -> tuple[str, Mapping[str, Any]]:
    """Return the end of the name of the file of costs that a config's layers are in, and the switches of its traces."""
    for suffix, own in table.get("variants", {}).items():
        if all(bool(view.get(name)) == value for name, value in own.items()):
            return suffix, own
    return "", {}


def _depth(table: Mapping[str, Any], view: ConfigView) -> int:
    """Return the number of layers; of a type whose list by layer says it, where nothing else does, its length."""
    patterns = table.get("patterns", {})
    if patterns and all(view.get(name) is None for name in DEPTHS):
        for name in patterns:
            kinds = by_layer(view, name, patterns)
            if isinstance(kinds, list):
                return len(kinds)
    return size_of(view, DEPTHS)


def size_of(view: ConfigView, names: Sequence[str]) -> int:
    """Return a size by whichever of its names the config or its class has."""
    for name in names:
        if view.get(name) is not None:
            return view.size(name)
    return view.size(names[0])


def _first(view: ConfigView, numbers: Numbers, names: Sequence[str]) -> int:
    for name in names:
        if view.get(name) is not None:
            return numbers.number(name)
    return 0


def _tensors(
    rows: Sequence[Sequence[Any]], numbers: Numbers, places: Places
) -> Iterator[ParameterTensor]:
    for name, kind, shape, *more in rows:
        flags = more[0] if more else ""
        if len(more) > 1 and not places.holds(more[1], 0):
            continue
        sides = tuple(evaluate(form, numbers.number) for form in shape)
        if 0 in sides:  # a module of no width is not there, and no adapter is on it
            continue
        yield ParameterTensor(
            name,
            sides,
            kind,
            gets_gradient="idle" not in flags,
            stays_fp32="fp32" in flags,
            is_of_subclass="subclass" in flags,
            is_read_bare="bare" in flags,
        )


def _width(view: ConfigView, numbers: Numbers, tensors: Sequence[ParameterTensor]) -> int:
    """Return the width of a layer's MLP; of one that a switch makes wider than the config's, as its matrix is."""
    own = [tensor.shape[0] for tensor in tensors if tensor.name == "mlp.up_proj.weight"]
    is_wide = bool(own) and any(view.get(name) for name in WIDER)
    return own[0] if is_wide else _first(view, numbers, WIDTHS)


def _shape(
    table: Mapping[str, Any],
    view: ConfigView,
    numbers: Numbers,
    places: Places,
    tensors: Sequence[ParameterTensor],
    place: int,
    kind: int,
) -> LayerShape:
    hidden, num_heads = _first(view, numbers, HIDDEN), max(1, _first(view, numbers, HEADS))
    num_kv_heads = _first(view, numbers, ("num_key_value_heads",)) or num_heads
    head_dim = _first(view, numbers, ("head_dim",)) or max(1, hidden // num_heads)
    has_experts = any(t.kind == EXPERTS for t in tensors)
    types = places.plain("layer_types")
    named = types if isinstance(types, (list, tuple)) else None
    if named is not None and place >= len(named):
        words = f"{view.section}layer_types names {len(named)} layers, and there are more"
        view.complain("layer_types", words)
        named = None
    is_sliding = named is not None and "sliding" in str(named[place])
    # a window that no traced model had is that of every layer, and a mask where sequences are longer
    is_sliding = is_sliding or any(n in null_fields(table) and view.get(n) for n in WINDOWS)
    return LayerShape(
        hidden,
        num_heads,
        num_kv_heads,
        head_dim,
        0 if has_experts else _width(view, numbers, tensors),
        num_experts=_first(view, numbers, EXPERT_COUNTS) if has_experts else 0,
        experts_per_token=_first(view, numbers, CHOSEN) if has_experts else 0,
        moe_intermediate_size=_first(view, numbers, EXPERT_WIDTHS) if has_experts else 0,
        attention_kind="sliding" if is_sliding else "full",
        sliding_window=_first(view, numbers, WINDOWS) or None if is_sliding else None,
        kind=f"kind {kind}",
    )
