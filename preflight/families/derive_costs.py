"""Writes families/costs/*.json from traces of the installed transformers: `python -m preflight.families.derive_costs`.

A small model of every family is traced in four sizes. What is allocated and freed in one of its
layers is the same list of tensors each time, so every tensor's bytes are a sum of named sizes
(preflight/layer_sizes.py) that is solved exactly, and so is what is alive at any point of the layer.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from preflight.errors import BadInput
from preflight.families import describe
from preflight.launch import LaunchPlan
from preflight.layer_coefficients import CHECKPOINTED, FOLDER, METHODS, kind_of
from preflight.layer_sizes import Form, bytes_of, layer_sizes
from preflight.model import ModelSpec, ModelUnit
from preflight.trace.job import TraceJob, job_of
from preflight.trace.log import (
    EMBEDDING_BACKWARD,
    GRADIENTS,
    INPUTS,
    LAYER_BACKWARD,
    LAYER_FORWARD,
    LOSS,
    LOSS_BACKWARD,
    PRELUDE,
    AllocationLog,
    Part,
)
from preflight.trace.small_models import NUM_VARIANTS, SMALL_MODELS, plan_of, small_config
from preflight.values import dataclass

SHAPES = ((2, 192), (3, 128), (2, 224))
"""Sequences and their length, by variant."""
RANKS = (8, 12, 20)
LARGEST_COUNT = 64
NEGLIGIBLE_BYTES = 64
"""ALiBi's slopes: a number per head, in powers of two."""
Sizes = Sequence[Mapping[str, int]]


@dataclass(frozen=True)
class Seen:
    """One full-depth trace: its plan, model and log, and which unit every layer is."""

    plan: LaunchPlan
    model: ModelSpec
    log: AllocationLog
    units: tuple[ModelUnit, ...]


class NotSolved(Exception):
    """A tensor is no small sum of named sizes."""


def derive(model_type: str) -> dict[str, Any]:
    """Return the file of one family: facts, and the forms of every kind of layer by method."""
    entry: dict[str, Any] = {"kinds": {}, "shared": {}}
    for method in METHODS:
        for checkpointing in (False, True):
            key = method + (CHECKPOINTED if checkpointing else "")
            try:
                seen = [_see(model_type, method, checkpointing, i) for i in range(NUM_VARIANTS)]
                walked = _walk(seen)
                middle = _middle_layers(seen[0])
                solved = {name: _layer(walked, index) for name, index in middle.items()}
                shared = _shared(seen[0], walked, solved)
            except NotSolved as error:
                sys.stderr.write(f"{model_type}, {key}: not solved: {error}\n")
                continue
            except (AttributeError, BadInput) as error:
                sys.stderr.write(f"{model_type}, {key}: cannot be run: {error}\n")
                continue
            entry["facts"] = _plain(seen[0].model.facts)
            entry["shared"][key] = shared
            for name, forms in solved.items():
                entry["kinds"].setdefault(name, {})[key] = forms
    return entry


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in facts.items() if isinstance(v, (bool, str)) and k != "top_model_type"}


def _see(model_type: str, method: str, checkpointing: bool, variant: int) -> Seen:
    from dataclasses import replace

    from preflight.trace.run import trace

    spec = describe(small_config(model_type, variant), model_type, "small_models.py")
    batch, length = SHAPES[variant]
    plan = plan_of(method, checkpointing, micro_batch_size=batch, seq_len=length)
    if plan.adapter is not None:
        plan = replace(plan, adapter=replace(plan.adapter, rank=RANKS[variant]))
    job = job_of(plan, spec, full_depth=True)
    return Seen(plan, spec, trace(job, num_steps=1).log, _units_by_layer(job, spec))


def _units_by_layer(job: TraceJob, spec: ModelSpec) -> tuple[ModelUnit, ...]:
    """Return the unit of every layer: the one with its parameters and its kind of attention."""
    from dataclasses import replace

    from preflight.trace.build import build

    built = build(replace(job, adapter=None, full_depth=True))
    kinds = getattr(built.model.config.get_text_config(), "layer_types", None)
    found = []
    for index, layer in enumerate(built.layers):
        num_params = sum(p.numel() for p in layer.parameters())
        units = [unit for unit in spec.layers if unit.num_params == num_params]
        kind = {"sliding_attention": "sliding", "chunked_attention": "sliding"}.get(
            kinds[index] if kinds else "", "full"
        )
        alike = [unit for unit in units if unit.layer and unit.layer.attention_kind == kind]
        found.append((alike or units)[0])
    return tuple(found)


def _middle_layers(seen: Seen) -> dict[str, int]:
    """Return a layer of every kind that is neither first nor last where there is one."""
    found: dict[str, int] = {}
    order = [*range(1, len(seen.units) - 1), len(seen.units) - 1, 0]
    for index in reversed(order):
        found[kind_of(seen.units[index])] = index
    return found


def _walk(seen: Sequence[Seen]) -> dict[Part, list[tuple[Form, Form]]]:
    """Return what is alive after every event of a part beyond what was when it began: (others, gradients)."""
    by_layer = [
        [layer_sizes(s.plan, s.model, unit) for s, unit in zip(seen, units, strict=True)]
        for units in zip(*(s.units for s in seen), strict=True)
    ]
    forms: dict[int, Form] = {}
    found: dict[Part, list[tuple[Form, Form]]] = {}
    categories = seen[0].log.settled_categories()
    for parts in zip(*(s.log.changes() for s in seen), strict=True):
        part = parts[0][0]
        if part.step != 0 or part.name not in MODEL_PARTS:
            continue
        if len({len(changes) for _, changes in parts}) != 1:
            raise NotSolved(f"{part}: events differ with the sizes")
        now: tuple[dict[str, int], dict[str, int]] = ({}, {})
        levels: list[tuple[Form, Form]] = [({}, {})]
        for events in zip(*(changes for _, changes in parts), strict=True):
            number, sign = events[0]
            is_gradient = categories[number] == GRADIENTS
            if number not in forms:
                vector = tuple(s.log.sizes[n] for s, (n, _) in zip(seen, events, strict=True))
                if is_gradient and not _is_of_layer(seen[0], number, part):
                    forms[number] = {"hV": 1} if part.layer < 0 else {}
                else:
                    forms[number] = solve(vector, by_layer[part.layer])
            side = now[is_gradient]
            for name, count in forms[number].items():
                side[name] = side.get(name, 0) + sign * count
            levels.append((_without_zeros(now[0]), _without_zeros(now[1])))
        found[part] = levels
    return found


MODEL_PARTS = frozenset(
    {INPUTS, PRELUDE, LAYER_FORWARD, LOSS, LOSS_BACKWARD, LAYER_BACKWARD, EMBEDDING_BACKWARD}
)


def _is_of_layer(seen: Seen, number: int, part: Part) -> bool:
    """Tell a gradient of a layer's parameter from one of the embeddings, the norm or the head."""
    if part.layer < 0:
        return False
    unit = seen.units[part.layer]
    size = seen.log.sizes[number]
    sizes = layer_sizes(seen.plan, seen.model, unit)
    return any(size in (2 * n, 4 * n) for name, n in sizes.items() if name.startswith("w:"))


def _layer(walked: Mapping[Part, list[tuple[Form, Form]]], index: int) -> dict[str, Any]:
    forward = walked[Part(0, 0, LAYER_FORWARD, index)]
    backward = walked[Part(0, 0, LAYER_BACKWARD, index)]
    return {
        "saved": _sum(*forward[-1]),
        "forward": [_sum(*pair) for pair in _highest(forward)],
        "backward": [list(pair) for pair in _highest(backward)],
    }


def _shared(
    seen: Seen,
    walked: Mapping[Part, list[tuple[Form, Form]]],
    solved: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what is alive outside of layers, parameters and gradients: inputs, tables, masks, the last norm.

    `forward` when the last layer begins, `turn` and `turn_backward` at the peaks of the loss beside
    its `logits`, `backward` when the last layer's backward begins: what each layer is said to keep is
    taken off. `first` when the first layer's backward begins, with what that layer kept; `embedding`
    at the end.
    """
    now: dict[str, int] = {}
    found: dict[str, Any] = {"logits": {}, "embedding": {}}
    for part, levels in walked.items():
        if part.name == LAYER_FORWARD:
            found["forward"] = now
        elif part.name in TURNS:
            peak = _sum(now, _peak(levels))
            found[TURNS[part.name]] = _without_logits(peak)
            found["logits"][TURNS[part.name]] = peak.get("T*V", 0)
        elif part.name == LAYER_BACKWARD:
            found.setdefault("backward", now)
            if part.layer == 0:
                found["first"] = now
                found["first_backward"] = [list(pair) for pair in _highest(levels)]
        elif part.name == EMBEDDING_BACKWARD:
            found["embedding"] = _without_logits(_sum(now, _peak(levels)))
        now = _sum(now, levels[-1][0])
        if part.name == LAYER_FORWARD:
            saved = solved[kind_of(seen.units[part.layer])]["saved"]
            now = _sum(now, {key: -count for key, count in saved.items()})
    # nothing is taken off any more where the first layer's backward begins
    for part in walked:
        if part.name == LAYER_FORWARD:
            saved = solved[kind_of(seen.units[part.layer])]["saved"]
            for point in ("first", "embedding"):
                if found.get(point):
                    found[point] = _sum(found[point], saved)
    return found


TURNS = {LOSS: "turn", LOSS_BACKWARD: "turn_backward"}


def _peak(levels: Sequence[tuple[Form, Form]]) -> Form:
    """Return the highest level of a part for a vocabulary much larger than the layers."""
    sizes = {"T*V": 10**9, "hV": 10**6, "T*h": 10**4}
    return max(levels, key=lambda pair: bytes_of(pair[0], sizes) + bytes_of(pair[1], sizes))[0]


def _without_logits(form: Form) -> Form:
    return {name: count for name, count in form.items() if name not in ("T*V", "hV")}


def solve(vector: tuple[int, ...], sizes: Sizes) -> Form:
    """Return a tensor's bytes as the simplest sum of named sizes that holds in every variant."""
    if not any(vector):
        return {}
    key = (vector, id(sizes))
    if key not in _SOLVED:
        _SOLVED[key] = _solve(vector, sizes)
    return _SOLVED[key]


_SOLVED: dict[tuple[tuple[int, ...], int], Form] = {}


def _solve(vector: tuple[int, ...], sizes: Sizes) -> Form:
    names = [name for name in sizes[0] if any(one[name] for one in sizes)]
    columns = {name: tuple(one[name] for one in sizes) for name in names}
    if len(set(vector)) == 1:
        return {"C": vector[0]}
    for name in names:
        count = _times(vector, columns[name])
        if count:
            return {name: count}
    pairs = [name for name in names if not name.startswith("w:")]
    for small in (4, 16):
        for first in pairs:
            for count in range(1, small + 1):
                rest = tuple(v - count * c for v, c in zip(vector, columns[first], strict=True))
                if min(rest) <= 0:
                    break
                for second in pairs:
                    other = _times(rest, columns[second])
                    if other:
                        return {first: count, second: other}
    for first in pairs:
        for second in pairs:
            for count in (2, 4):
                rest = tuple(
                    v - count * (a + b)
                    for v, a, b in zip(vector, columns[first], columns[second], strict=True)
                )
                if min(rest) <= 0:
                    continue
                for third in pairs:
                    other = _times(rest, columns[third])
                    if other:
                        return _counted([(first, count), (second, count), (third, other)])
    if max(vector) <= NEGLIGIBLE_BYTES:
        return {"C": max(vector)}
    raise NotSolved(str(vector))


def _counted(terms: Iterable[tuple[str, int]]) -> Form:
    found: dict[str, int] = {}
    for name, count in terms:
        found[name] = found.get(name, 0) + count
    return found


def _times(vector: Sequence[int], column: Sequence[int]) -> int:
    if not column[0] or vector[0] % column[0]:
        return 0
    count = vector[0] // column[0]
    if count > LARGEST_COUNT:
        return 0
    return count if all(v == count * c for v, c in zip(vector, column, strict=True)) else 0


def _sum(*forms: Form) -> dict[str, int]:
    return _without_zeros(_counted(pair for form in forms for pair in form.items()))


def _without_zeros(form: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in form.items() if count}


def _highest(live: list[tuple[Form, Form]]) -> list[tuple[Form, Form]]:
    """Keep the points of a part that are its peak for layers of some size, with gradients and without."""
    unique: list[tuple[Form, Form]] = []
    for pair in live:
        if pair not in unique:
            unique.append(pair)
    kept: set[int] = set()
    for sizes in _samples({name for pair in unique for form in pair for name in form}):
        others = [bytes_of(pair[0], sizes) for pair in unique]
        both = [one + bytes_of(pair[1], sizes) for one, pair in zip(others, unique, strict=True)]
        kept.add(max(range(len(both)), key=both.__getitem__))
        kept.add(max(range(len(others)), key=others.__getitem__))
    return [unique[i] for i in sorted(kept)]


def _samples(names: set[str]) -> Iterator[dict[str, int]]:
    """Yield sizes of layers from small to very large: tokens, widths and lengths in all proportions."""
    import random

    generator = random.Random(0)
    for _ in range(150):
        hidden = generator.choice((256, 1024, 2048, 4096, 8192, 16384))
        length = generator.choice((128, 512, 2048, 8192, 32768))
        tokens = length * generator.choice((1, 2, 4, 8, 32))
        heads = hidden // generator.choice((64, 128))
        groups = generator.choice((1, 2, 4, 8))
        head = generator.choice((64, 128, 256))
        wide = int(hidden * generator.choice((1, 2, 2.7, 3.5, 4, 6)))
        narrow = int(hidden * generator.choice((0.1, 0.25, 0.5, 1.5, 3.5)))
        experts = generator.choice((8, 16, 64, 128))
        chosen = min(experts, generator.choice((1, 2, 4, 8)))
        width = {
            "1": 1, "h": hidden, "q": heads * head, "kv": heads * head // groups,
            "v": heads * head // groups, "o": heads * head, "I": wide, "S": narrow, "M": narrow,
            "nh": heads, "nkv": max(1, heads // groups), "d": head, "E": experts, "k": chosen,
            "kh": chosen * hidden, "kM": chosen * narrow, "Eh": experts * hidden,
            "EM": experts * narrow, "qr": hidden // 4, "kvr": hidden // 8, "rope": 64,
            "r": generator.choice((8, 64, 256)), "V": 128_000, "rot": head // 2,
            "rotq": heads * head // 2, "restq": heads * head // 2,
            "rotkv": heads * head // groups // 2, "restkv": heads * head // groups // 2,
        }  # fmt: skip
        sizes = {
            "C": 1,
            "B": tokens // length,
            "E": experts,
            "LL": length * length,
            "hV": hidden * 128_000,
        }
        for name in names:
            scale, _, what = name.partition("*")
            if what:
                sizes[name] = {"T": tokens, "TL": tokens * length, "L": length}[scale] * width[what]
            elif name.startswith("w:"):
                sizes[name] = _weight(name, width)
        yield sizes


def _weight(name: str, width: Mapping[str, int]) -> int:
    if ".lora_" in name:
        return width["r"] * width["h"]
    if "expert" in name and "shared" not in name:
        return width["EM"] * width["h"] * (2 if "gate_up" in name else 1)
    if "norm" in name or name.endswith("bias"):
        return width["h"]
    for part, size in (("k_proj", "kv"), ("v_proj", "kv"), ("q_proj", "q"), ("o_proj", "q")):
        if part in name:
            return width[size] * width["h"]
    if "shared" in name:
        return width["S"] * width["h"]
    return width["h"] * width["I"]


def main(args: Sequence[str] | None = None) -> int:
    """Write the files of the named families, or of all; return the exit code."""
    import gc

    os.makedirs(FOLDER, exist_ok=True)
    names = list(sys.argv[1:] if args is None else args) or list(SMALL_MODELS)
    failed = 0
    for name in names:
        entry = derive(name)
        if not entry["kinds"]:
            failed = 1
            continue
        _SOLVED.clear()
        gc.collect()
        with open(os.path.join(FOLDER, f"{name}.json"), "w", encoding="utf-8") as file:
            file.write(rendered(entry))
    return failed


def rendered(entry: Mapping[str, Any]) -> str:
    """Return the text of one file: one line per kind and method."""
    parts = [f'"facts": {json.dumps(entry["facts"], sort_keys=True)}']
    kinds = [f"{json.dumps(name)}: {_by_line(forms)}" for name, forms in entry["kinds"].items()]
    parts.append('"kinds": {' + ",\n".join(kinds) + "}")
    parts.append(f'"shared": {_by_line(entry["shared"])}')
    return "{" + ",\n".join(parts) + "}\n"


def _by_line(forms: Mapping[str, Any]) -> str:
    lines = [f" {json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in forms.items()]
    return "{\n" + ",\n".join(lines) + "}"


if __name__ == "__main__":
    raise SystemExit(main())
