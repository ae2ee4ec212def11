"""formulas/adapters/adapter_kinds.json: what a PEFT adapter of every kind puts on a linear layer, from the real module.

Each kind is put on one linear layer of several sizes on the CPU and runs forward and backward. Kept are the kinds whose
parameters, buffers, and every tensor that a step makes are small sums of the layer's widths, the tokens and the kind's
own size: with the sums, by dtypes; and which options of the config change them. A kind whose steps depend on its own
size (a loop over it) holds for its default alone.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from preflight.derive.costs.adapter_steps import made, step_of
from preflight.derive.costs.cost_forms import NotSolved, in_halves, solve, summed, taken_off
from preflight.derive.target import Files, Say, read
from preflight.formulas.adapters.adapter_kinds import kind_of_config
from preflight.formulas.layers.layer_sizes import Form
from preflight.versions.boundary import release

PATH = "preflight/formulas/adapters/adapter_kinds.json"
SIZES = ("init_r", "r", "n_frequency", "oft_block_size")
"""What configs call the size of their kind, the first that they have and that is not 0."""
SHAPES = ((512, 1280, 48), (1280, 768, 112), (768, 512, 80))
"""Inputs, outputs and tokens, by variant; widths are whole blocks of every kind's size."""
MORE_SHAPES = ((768, 1024), (1024, 1280))
"""Inputs and outputs that parameters and buffers are counted at too."""
FACTORS = (1, 2, 4, 2, 1)
"""What a kind's default size is multiplied by, by variant."""
MODES = (
    ("bf16", "fp32", True), ("bf16", "fp32", False), ("bf16", "bf16", True), ("bf16", "bf16", False),
    ("fp32", "fp32", True), ("fp32", "fp32", False),
)  # fmt: skip
"""Dtype of the layer, dtype of the adapter, and whether autocast is on."""
NEEDED: Mapping[str, Mapping[str, Any]] = {
    "AdaLoraConfig": {"total_step": 100},
    "IA3Config": {"feedforward_modules": []},
}
"""Arguments without which a config is refused."""
LEFT_OUT = frozenset({"FrodConfig", "LNTuningConfig", "OSFConfig", "PsoftConfig"})
"""Configs whose adapters take weights apart when they are made, for minutes and with no sums of widths; and of norms."""
TWICE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "IA3Config": ("(feedforward)", {"feedforward_modules": True}),
    "AdaLoraConfig": ("(dropout)", {"lora_dropout": 0.1}),
    "VeraConfig": ("(dropout)", {"vera_dropout": 0.1}),
}
"""Kinds that do something else to some of their modules, or drop inputs out as LoRA does where they are told to."""
WHERE = frozenset(
    {
        "target_modules", "feedforward_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
        "modules_to_save", "total_step",
    }
)  # fmt: skip
"""Options that say where an adapter goes, or how long it trains."""


def files(say: Say) -> Files:
    """Yield the file; in an environment with an older PEFT, with what holds since that release too."""
    import peft
    import torch

    torch.set_num_threads(1)  # thousands of small products
    before: dict[str, Any] = json.loads(read(PATH) or "{}")
    here = version("peft")
    rows = {}
    for cls in _configs(peft):
        for name, given in _ways(cls):
            row = _row(cls, given)
            if row is not None:
                rows[name] = {"since": here, **row}
                say(name)
    if release(here) < release(before.get("version", "0")):
        for name, row in before["kinds"].items():
            known, kept = rows.get(name, {}), {"since", "fixed", "free"}
            if all(known.get(part) == row[part] for part in row.keys() - kept):
                row["since"] = min(here, row["since"], key=release)
        yield PATH, _text(before)
        return
    for name, row in rows.items():
        was = before.get("kinds", {}).get(name, {})
        if {**was, "since": 0} == {**row, "since": 0}:
            row["since"] = was["since"]
    yield PATH, _text({"version": here, **_places(rows), "kinds": rows})


def _text(table: Mapping[str, Any]) -> str:
    """Return the table with a line for each kind."""
    parts = []
    for name, value in table.items():
        if isinstance(value, dict):
            lines = (f"  {json.dumps(n)}: {json.dumps(each)}" for n, each in sorted(value.items()))
            parts.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
        else:
            parts.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _places(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Return the modules that PEFT puts each kind on by itself, where they are others than LoRA's; and IA3's of inputs."""
    from peft.utils import constants

    def of(kind: str, what: str) -> dict[str, list[str]]:
        return getattr(constants, f"TRANSFORMERS_MODELS_TO_{kind}_{what}_MODULES_MAPPING", {})

    usual, fed = of("LORA", "TARGET"), of("IA3", "FEEDFORWARD").values()
    targets = {}
    for kind in sorted(kind_of_config(name) for name in rows if "(" not in name):
        own = of(kind.upper(), "TARGET").items()
        others = {model: names for model, names in own if names != usual.get(model)}
        if others:
            targets[kind] = others
    return {"feedforward": sorted({name for names in fed for name in names}), "targets": targets}


def _configs(peft: Any) -> Iterator[Any]:
    for name in sorted(dir(peft)):
        cls: Any = getattr(peft, name)
        is_config = inspect.isclass(cls) and issubclass(cls, peft.PeftConfig)
        if is_config and name not in LEFT_OUT and "target_modules" in cls.__dataclass_fields__:
            yield cls


def _ways(cls: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    given = NEEDED.get(cls.__name__, {})
    yield cls.__name__, given
    if cls.__name__ in TWICE:
        name, more = TWICE[cls.__name__]
        yield cls.__name__ + name, {**given, **more}


def _row(cls: Any, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what is known of a kind; None where nothing runs here, or no sum holds."""
    fields = cls.__dataclass_fields__
    named = next((n for n in SIZES if n in fields and fields[n].default), None)
    default = fields[named].default if named is not None else 0
    for factors in (FACTORS, (1,) * len(FACTORS)) if named else ((1,) * len(FACTORS),):
        sizes = [default * factor for factor in factors]
        options = [{**given, **({named: size} if named else {})} for size in sizes]
        try:
            counts = _counts(cls, options, sizes)
            modes = dict(_modes(cls, options, sizes))
        except NotSolved:
            continue
        except Exception:  # a kind that wants another library, or another model
            return None
        row = {"size": named, "default": default, "any_size": len({*sizes}) > 1}
        if not modes:
            return None
        options_known = _options(cls, given, next(iter(modes)))
        return {**row, **counts, "modes": modes, **options_known}
    return None


def _modes(
    cls: Any, options: Sequence[Mapping[str, Any]], sizes: Sequence[int]
) -> Iterator[tuple[str, Any]]:
    for mode in MODES:
        try:
            yield _key(mode), _forms(cls, options, sizes, mode)
        except NotSolved:
            raise
        except Exception:  # a kind that multiplies tensors of two dtypes without autocast
            continue


def _counts(
    cls: Any, options: Sequence[Mapping[str, Any]], sizes: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Return what one layer's adapter trains and keeps beside it, and what all layers' have together."""
    shapes = [*(shape[:2] for shape in SHAPES), *MORE_SHAPES]
    alone, both = (
        [made(cls, each, shape, number) for each, shape in zip(options, shapes, strict=True)]
        for number in (1, 2)
    )
    if any(two[0] != 2 * one[0] for one, two in zip(alone, both, strict=True)):
        raise NotSolved("layers train something together")
    named = [_counted_in(*shape, size) for shape, size in zip(shapes, sizes, strict=True)]
    pairs = [(two[1] - one[1], 2 * one[1] - two[1]) for one, two in zip(alone, both, strict=True)]
    return {
        "parameters": in_halves(tuple(one[0] for one in alone), named),
        "buffers": in_halves(tuple(own for own, _ in pairs), named),
        "shared_buffers": in_halves(tuple(shared for _, shared in pairs), named),
    }


def _counted_in(inputs: int, outputs: int, size: int) -> dict[str, int]:
    pairs = {"s*i": size * inputs, "s*o": size * outputs, "s*s": size**2, "i*o": inputs * outputs}
    return {**pairs, "i": inputs, "o": outputs, "s": size, "1": 1, "i*i": inputs**2}


def _key(mode: tuple[str, str, bool]) -> str:
    base, own, under = mode
    return f"{base}, {own}" + ", autocast" * under


def _forms(
    cls: Any,
    options: Sequence[Mapping[str, Any]],
    sizes: Sequence[int],
    mode: tuple[str, str, bool],
) -> dict[str, Any]:
    """Return one mode's sums; raise NotSolved where tensors or their order differ with the sizes."""
    steps = [step_of(cls, each, shape, mode) for each, shape in zip(options, SHAPES, strict=False)]
    named = [_named(*shape, size) for shape, size in zip(SHAPES, sizes, strict=False)]
    if any(step.order != steps[0].order for step in steps):
        raise NotSolved("events differ with the sizes")

    def solved(parts: Sequence[Sequence[tuple[int, int]]]) -> list[Form]:
        vectors = [tuple(abs(size) for _, size in events) for events in zip(*parts, strict=True)]
        signs = [size < 0 for _, size in parts[0]]
        forms = [solve(vector, named) for vector in vectors]
        return [
            taken_off({}, form) if sign else form for form, sign in zip(forms, signs, strict=True)
        ]

    forward, kept = _levels(solved([step.forward for step in steps]), {})
    backward, _ = _levels(solved([step.backward for step in steps]), kept)
    return {
        "keeps_input": steps[0].keeps_input,
        "kept": kept,
        "forward": forward,
        "backward": backward,
    }


def _levels(changes: Sequence[Form], start: Form) -> tuple[list[Form], Form]:
    """Return the highest sums that are alive at any time, and the last."""
    found = [start]
    for change in changes:
        found.append(summed(found[-1], change))
    return _undominated(found), found[-1]


def _undominated(forms: Sequence[Form]) -> list[Form]:
    distinct = [dict(one) for one in {tuple(sorted(f.items())): f for f in forms}.values()]
    return [
        one
        for one in distinct
        if not any(other != one and _is_within(one, other) for other in distinct)
    ]


def _is_within(one: Form, other: Form) -> bool:
    return all(one.get(name, 0) <= other.get(name, 0) for name in {*one, *other})


def _named(inputs: int, outputs: int, tokens: int, size: int) -> dict[str, int]:
    """Return the sizes that a tensor may be of: widths and tokens, each with another, and with the kind's size."""
    widths = {"i": inputs, "o": outputs}
    pairs = {"i*o": inputs * outputs, "i*i": inputs**2, "o*o": outputs**2}
    pairs |= {"T*1": tokens, "T*i": tokens * inputs, "T*o": tokens * outputs}
    sized = {
        "s": size,
        "s*s": size**2,
        "s*i": size * inputs,
        "s*o": size * outputs,
        "T*s": tokens * size,
    }
    return {**widths, **pairs, **(sized if size else {})}


def _options(cls: Any, given: Mapping[str, Any], mode: str) -> dict[str, dict[str, Any]]:
    """Return the defaults of options by whether another value may change a step: of a word or an object nobody knows what
    it does."""
    import peft

    base, own, *under = mode.split(", ")
    told = (base, own, bool(under))
    usual = step_of(cls, given, SHAPES[0], told)
    found: dict[str, dict[str, Any]] = {"fixed": {}, "free": {}}
    for name, option in cls.__dataclass_fields__.items():
        default = option.default
        if name in WHERE or name in SIZES or name in peft.PeftConfig.__dataclass_fields__:
            continue
        is_free = False
        if isinstance(default, (bool, int, float)):
            other: Any = not default if isinstance(default, bool) else 2 * default or 1
            with suppress(Exception):  # refused, or another library's
                other = 0.1 if default == 0 and isinstance(default, float) else other
                is_free = step_of(cls, {**given, name: other}, SHAPES[0], told) == usual
        is_plain = isinstance(default, (bool, int, float, str))
        found["free" if is_free else "fixed"][name] = default if is_plain else None
    return found
