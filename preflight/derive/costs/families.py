"""A model type as tables: `python -m preflight.derive TYPE ...` lays it out, traces it, and compares.

The layout comes from models of the type that transformers builds (layouts.py), the costs of its layers from traces of
small ones (costs.py). What is written has been compared with traces in sizes that it was not solved from: a method
whose formulas are off by more than MOST_OFF anywhere is left out, and so is a type without any; one that is off where
layers are checkpointed alone is left out for those.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from preflight.derive.costs.cost_files import known_costs, rendered, without
from preflight.derive.costs.costs import CANNOT_RUN, chosen_costs, derive
from preflight.derive.costs.formula_table import Compared, compare
from preflight.derive.layouts import type_samples
from preflight.derive.layouts.layouts import NotLaidOut, layout_of
from preflight.derive.layouts.model_behaviour import (
    adapts_experts,
    default_of,
    has_windows,
    is_windowed,
    large_heads,
    mark_bare,
    mark_idle,
    null_fields,
    traced_nulls,
    traced_switches,
)
from preflight.derive.layouts.small_models import small_config
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.derive.layouts.type_configs import VARIANTS, class_of_type, windows_of
from preflight.derive.target import ROOT, Chosen, Files, Say, read, write
from preflight.errors import ModelNotKnown
from preflight.formulas.adapters.adaptations import ADAPTATIONS, USUAL, Adaptation, adapter_of
from preflight.formulas.cost_tables import (
    CHECKPOINTED,
    EAGER,
    METHODS,
    WINDOWED,
    costs_in,
    family_costs,
    forms_of_method,
)
from preflight.model import MASKED_LM
from preflight.models import describe
from preflight.models.families.groups import TABLE, group_of
from preflight.models.families.library_defaults import family_table
from preflight.models.registry import all_models
from preflight.plugins import load_plugins
from preflight.trace.encoders import HEADS, encoder_class

MOST_OFF = 0.01
LAYOUTS, COSTS = "preflight/models/families/tables", "preflight/formulas/costs"
FIRST = (
    "full", "full, autocast", "LoRA", "LoRA, autocast", "full, bf16 under autocast", "LoRA, fp32 adapters",
)  # fmt: skip
OF_ENCODERS = (
    "full, fp32", "full", "full, autocast", "full, bf16 under autocast", "LoRA, fp32", "LoRA, fp32 under autocast",
)  # fmt: skip
"""Encoders are trained usually without mixed precision; their checkpoints are fp32, and so is what an adapter is on."""
SCALES = ("T*", "TL*", "L*", "B*", "O*", "N*", "S*", "M*")


def names() -> tuple[str, ...]:
    """Return the types that have a table."""
    return tuple(sorted(path.stem for path in (ROOT / LAYOUTS).glob("*.json")))


def may_have_a_table(name: str) -> bool:
    """Tell whether a name is that of a decoder of the installed transformers that nothing but a table could lay out."""
    if group_of(name) not in (None, TABLE):
        return False
    try:
        return bool(class_of_type(name))
    except (KeyError, ImportError):
        return False


def files(say: Say) -> Files:
    """Yield the layout and the costs of every type that has a table."""
    for model_type in names():
        yield from files_of(model_type, Chosen(), say)


def files_of(model_type: str, chosen: Chosen, say: Say) -> Files:
    """Yield a type's layout and costs: those of all methods that it has, of the usual ones where it is new.

    Both lie where they belong while they are compared with traces, and then again what lay there before.
    """
    paths = [f"{folder}/{model_type}.json" for folder in (LAYOUTS, COSTS)]
    paths += [_path(*file) for file in beside(model_type)]
    paths += [_path(name, way.folder) for name, way in _ways(model_type, chosen)]
    before = [read(path) for path in paths]
    try:
        _make(model_type, chosen, say)
        made = [read(path) for path in paths]
    finally:
        for path, text in zip(paths, before, strict=True):
            put(path, text)
    yield from (
        (path, text) for path, text, old in zip(paths, made, before, strict=True) if text or old
    )


def _path(name: str, head: str) -> str:
    return f"{COSTS}/{name}.json" if head == MASKED_LM else f"{COSTS}/{head}/{name}.json"


def beside(model_type: str) -> tuple[tuple[str, str], ...]:
    """Return the further files of a type, by name and head.

    Of an encoder: of eager attention, which it had before SDPA, and of what is beside its layers under its other heads.
    Of a decoder: of the variants that are published, and of each with a window that ends before the sequence.
    """
    if encoder_class(model_type, MASKED_LM) is None:
        names = [model_type, *(f"{model_type}{end}" for end in VARIANTS.get(model_type, ()))]
        others = [f"{name}{WINDOWED}" for name in names] if windows_of(model_type) else []
        return tuple((name, MASKED_LM) for name in (*names[1:], *others))
    eager = f"{model_type}{EAGER}"
    others = [head for head in HEADS if head != MASKED_LM and encoder_class(model_type, head)]
    return ((eager, MASKED_LM), *((name, head) for name in (model_type, eager) for head in others))


def _make(model_type: str, chosen: Chosen, say: Say) -> None:
    """Write what is made of a type where it belongs."""
    known = known_costs(model_type)
    is_encoder = encoder_class(model_type, MASKED_LM) is not None
    first = OF_ENCODERS if is_encoder else FIRST
    every = OF_ENCODERS if is_encoder else tuple(METHODS)
    usual = every if chosen.only_missing else tuple(known["shared"] if known else first)
    usual = methods_of(model_type, chosen, usual)
    layout = f"{LAYOUTS}/{model_type}.json"
    table = layout_of(model_type)
    table["adapts_experts"] = adapts_experts(model_type)
    table["traced"] = {**traced_switches(model_type), **traced_nulls(model_type, table)}
    # a switch that is on by itself is on where a config does not say
    on = {name for name in table["traced"] if default_of(model_type, name) is True}
    table["defaults"] = dict(sorted({**table["defaults"], **dict.fromkeys(on, True)}.items()))
    table["unset"], table["untraced"] = null_fields(model_type, table["unset"])
    mark_idle(model_type, table)
    if is_windowed(model_type):
        table["windowed"] = True
    if model_type in VARIANTS:
        table["variants"] = {
            end: {name: bool(value) for name, value in more.items()}
            for end, more in VARIANTS[model_type].items()
        }
    if large := large_heads(model_type):
        table["large_heads"] = large
    put(layout, in_rows(table))
    if (other := unlike_published(model_type)) is not None:
        raise NotLaidOut(other)
    if not is_encoder:
        mark_bare(model_type, table)
        put(layout, in_rows(table))
    entries = [_of_own_head(model_type, chosen, usual, say)]
    for name, head in beside(model_type):
        if not is_encoder:
            if has_windows(model_type) or not name.endswith(WINDOWED):
                entries.append(_of_own_head(name, chosen, usual, say))
        elif name == model_type or table["attention"] == "sdpa":
            made = derive(name, chosen.methods or usual, head=head)
            kinds = made["kinds"] if head == MASKED_LM else {}
            entries.append(
                _compared(name, head, {**made, "kinds": kinds}, list(made["shared"]), say)
            )
    if not is_encoder:
        ways = _ways(model_type, chosen)
        entries += [_adapted(name, way, chosen, usual, say) for name, way in ways]
    table["widths"] = sorted(set().union(*map(used, entries)).intersection(table["widths"]))
    put(layout, in_rows(table))


def methods_of(name: str, chosen: Chosen, usual: Iterable[str]) -> tuple[str, ...]:
    """Return the methods that a file may be made of: the usual ones, those it has, and those that are asked for."""
    known = known_costs(name)
    had = known["shared"] if known is not None and not chosen.only_missing else ()
    wanted = {*usual, *had, *chosen.methods}
    return tuple(method for method in METHODS if method in wanted)


def _of_own_head(name: str, chosen: Chosen, usual: Sequence[str], say: Say) -> dict[str, Any]:
    """Write the costs of a type or a variant of it with the head that it is pretrained with; return them."""
    known = known_costs(name)
    had = set(known["shared"]) if known is not None and chosen.only_missing else set()
    usual = methods_of(name, chosen, usual)  # a variant's file may have more than the type's
    entry = chosen_costs(name, chosen, usual)
    new = [method for method in chosen.methods or usual if method not in had]
    return _compared(name, MASKED_LM, entry, new, say)


def _ways(model_type: str, chosen: Chosen) -> tuple[tuple[str, Adaptation], ...]:
    """Return the files with adapters elsewhere that a type or a variant of it has, or that are asked for."""
    names = [model_type, *(name for name, head in beside(model_type) if head == MASKED_LM)]
    return tuple(
        (name, way)
        for name in names
        for way in ADAPTATIONS
        if way.folder
        and family_costs(name) is not None
        and (way.folder in chosen.adapters or family_costs(name, way.folder) is not None)
    )


def _adapted(
    name: str, way: Adaptation, chosen: Chosen, usual: Sequence[str], say: Say
) -> dict[str, Any]:
    """Write the costs of a type or a variant whose adapters are elsewhere; return them."""
    known = known_costs(name, way.folder)
    had = known["shared"] if known is not None and chosen.only_missing else ()
    usual = [method for method in chosen.methods or usual if "adapter" in METHODS[method]]
    entry = chosen_costs(name, chosen, usual, way)
    new = [method for method in usual if method not in had]
    return _compared(name, MASKED_LM, entry, new, say, way)


def _compared(
    name: str,
    head: str,
    entry: dict[str, Any],
    methods: Sequence[str],
    say: Say,
    way: Adaptation = USUAL,
) -> dict[str, Any]:
    """Write costs without the methods whose formulas are off; return what is left of them."""
    path = _path(name, way.folder or head)
    if entry["shared"]:
        put(path, rendered(entry))
    left_out = []
    for method in methods:
        if method.endswith(CHECKPOINTED):
            continue
        for checkpointing in (False, True):
            key = method + CHECKPOINTED * checkpointing
            if key not in entry["shared"]:
                continue  # a class that cannot be checkpointed, or is not said to be
            worst = worst_of(name, method, checkpointing, head, way)
            of = way.folder or ("" if head == MASKED_LM else head)
            said = ", ".join(filter(None, (name, of, key)))
            say(f"{said}: {_said(worst)}")
            if worst is None or abs(worst.error) > MOST_OFF:
                # what recomputes a layer is made of what it keeps, and not the other way
                left_out += [key] if checkpointing else [key, method + CHECKPOINTED]
    entry = without(entry, left_out)
    put(path, rendered(entry) if entry["shared"] else "")
    return entry


def unlike_published(model_type: str) -> str | None:
    """Return the first model of the registry whose count a type's table does not give; None where it gives all."""
    ends = ("",) if (family_table(model_type) or {}).get("heads") else WITH_HEAD
    for entry in all_models():
        named = (entry.config.get("architectures") or [""])[0]
        if entry.config.get("model_type") != model_type or not named.endswith(ends):
            continue
        try:
            own = describe(entry.config, entry.id, "the registry").num_params
        except ModelNotKnown as error:
            print(f"{model_type}, {entry.id}: {error.problems[0].message}", file=sys.stderr)
            continue
        if own != entry.num_params:
            return f"{entry.id} has {entry.num_params:,} parameters, and {own:,} by the table"
    return None


WITH_HEAD = ("ForCausalLM", "LMHeadModel", "LMHead")


def worst_of(
    model_type: str,
    method: str,
    checkpointing: bool,
    head: str = MASKED_LM,
    way: Adaptation = USUAL,
) -> Compared | None:
    """Return the moment at which a method's formulas are off most, in sizes that nothing was solved from."""
    changes: dict[str, Any] = {}
    if way is not USUAL:
        model = describe(small_config(model_type, NUM_VARIANTS), model_type, "small_models.py")
        changes["adapter"] = adapter_of(way, METHODS[method]["adapter"], model)
    try:
        plugins = load_plugins(str(ROOT))
        found = compare(model_type, method, checkpointing, plugins, head=head, **changes)
    except CANNOT_RUN as error:
        print(f"{model_type}, {method}: not compared: {error}", file=sys.stderr)
        return None
    return max(found, key=lambda c: abs(c.error), default=None)


def _said(worst: Compared | None) -> str:
    if worst is None:
        return "no forms"
    return f"{100 * worst.error:+.2f} % {worst.moment.value}"


def used(costs: Mapping[str, Any]) -> set[str]:
    """Return the widths that a type's costs are counted in."""
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                scale = next((s for s in SCALES if name.startswith(s)), None)
                if scale is not None and isinstance(item, int):
                    found.add(name.removeprefix(scale))
                look(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                look(item)

    look(costs["kinds"])
    look(costs["shared"])
    return found


def in_rows(table: Mapping[str, Any]) -> str:
    """Return a table's text: a unit, a kind of layer or a rule to a line."""
    parts = []
    for name, value in table.items():
        if name in ("body", "kinds", "places", "buffers"):
            rows = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in value)
            parts.append(f" {json.dumps(name)}: [\n  {rows}\n ]")
        elif name == "heads":
            rows = ",\n  ".join(
                f"{json.dumps(head)}:{json.dumps(entry, separators=(',', ':'))}"
                for head, entry in value.items()
            )
            parts.append(f" {json.dumps(name)}: {{\n  {rows}\n }}")
        else:
            parts.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def put(path: str, text: str) -> None:
    """Write a file of the checkout, or remove it where there is nothing to write; what was read of it is forgotten."""
    write(path, text)
    family_table.cache_clear()
    type_samples.forget()
    costs_in.cache_clear()
    forms_of_method.cache_clear()
