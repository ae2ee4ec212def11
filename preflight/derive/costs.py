"""formulas/costs/*.json, from traces of the installed transformers; `python -m preflight.derive.costs` writes some.

A small model of every family is traced in four sizes. What is allocated and freed in one of its
layers is the same list of tensors each time, so every tensor's bytes are a sum of named sizes
(preflight/formulas/layer_sizes.py) that is solved exactly, and so is what is alive at any point of the layer.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from preflight.derive.chunks import (
    FEW,
    MANY,
    NotAlike,
    joined,
    joined_levels,
    loops_over_chunks,
    shapes_of,
)
from preflight.derive.cost_files import known_costs, rendered, together
from preflight.derive.small_models import NUM_VARIANTS, SMALL_MODELS, small_config, small_launch
from preflight.derive.target import ROOT, Files, Say
from preflight.errors import BadInput
from preflight.formulas.layer_coefficients import (
    CHECKPOINTED,
    METHODS,
    kind_of,
)
from preflight.formulas.layer_sizes import CHUNK, UNPACKED, Form, bytes_of, layer_sizes
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.models import describe
from preflight.trace.job import TraceJob, job_of
from preflight.trace.log import (
    EMBEDDING_BACKWARD,
    GRADIENTS,
    INPUTS,
    LAYER_BACKWARD,
    LAYER_FORWARD,
    LOSS,
    LOSS_BACKWARD,
    OUTPUTS,
    PRELUDE,
    REGION_END,
    AllocationLog,
    Part,
)
from preflight.values import dataclass

SHAPES = ((2, 192), (3, 128), (2, 224))
"""Sequences and their length, by variant."""
UNPACKING_SHAPES = ((2, 832), (3, 640), (2, 1120))
"""The same on a packed base: more tokens than its fused product takes."""
RANKS = (8, 12, 20)
LARGEST_COUNT = 64
NEGLIGIBLE_SHARE = 0.002
"""Of what a layer has at its peak."""
WORKSPACE = "workspace"
NEGLIGIBLE_BYTES = 64
"""ALiBi's slopes: a number per head, in powers of two."""
NUM_SAMPLES = 600
"""Of the sizes that peaks are looked for in."""
Sizes = Sequence[Mapping[str, int]]


@dataclass(frozen=True)
class Seen:
    """One full-depth trace: its plan, model and log, and which unit every layer is."""

    plan: LaunchPlan
    model: ModelSpec
    log: AllocationLog
    units: tuple[ModelUnit, ...]


@dataclass(frozen=True)
class Walked:
    """What every part of the step did to the bytes alive, as sums of named sizes."""

    levels: Mapping[Part, list[tuple[Form, Form]]]
    """What is alive after every event beyond what was when the part began: (others, gradients)."""
    left: Mapping[int, Form]
    """By layer, what it had made and lost when the forward's autocast ended."""


class NotSolved(Exception):
    """A tensor is no small sum of named sizes."""


def derive(model_type: str, methods: Iterable[str] = tuple(METHODS)) -> dict[str, Any]:
    """Return the file of one family: facts, and the forms of every kind of layer by method."""
    entry: dict[str, Any] = {"kinds": {}, "shared": {}}
    for method in methods:
        for checkpointing in (False, True):
            key = method + (CHECKPOINTED if checkpointing else "")
            try:
                seen, walked = _see_and_walk(model_type, method, checkpointing)
                middle = _middle_layers(seen[0])
                solved = {name: _layer(walked, index) for name, index in middle.items()}
                shared = _shared(seen[0], walked, solved, 0)
                again = _shared(seen[0], walked, solved, 1)
                shared["adding"] = {name: again[name] for name in ADDED_TO if name in again}
                _leave_out_what_is_usual(shared, solved[kind_of(seen[0].units[0])])
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


def _see_and_walk(
    model_type: str, method: str, checkpointing: bool
) -> tuple[Sequence[Seen], Walked]:
    """Trace a small model in all sizes; where layers loop over chunks, with few of them and with more."""
    spec = describe(small_config(model_type), model_type, "small_models.py")
    is_packed = "base_quantization" in METHODS[method]

    def walk(shapes: Sequence[tuple[int, int]]) -> tuple[Sequence[Seen], Walked]:
        seen = [_see(model_type, method, checkpointing, i, shapes[i]) for i in range(NUM_VARIANTS)]
        return seen, _walk(seen)

    if not loops_over_chunks(spec):
        return walk(UNPACKING_SHAPES if is_packed else SHAPES)
    seen, few = walk(shapes_of(FEW, is_packed))
    _, many = walk(shapes_of(MANY, is_packed))
    try:
        levels = {
            part: joined_levels(levels, many.levels[part]) for part, levels in few.levels.items()
        }
        left = {index: joined(form, many.left.get(index, {})) for index, form in few.left.items()}
    except NotAlike as error:
        raise NotSolved(str(error)) from error
    return seen, Walked(levels, left)


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in facts.items() if isinstance(v, (bool, str)) and k != "top_model_type"}


def _see(
    model_type: str, method: str, checkpointing: bool, variant: int, shape: tuple[int, int]
) -> Seen:
    from dataclasses import replace

    from preflight.trace.run import trace

    spec = describe(small_config(model_type, variant), model_type, "small_models.py")
    batch, length = shape
    plan = small_launch(
        model_type,
        method,
        checkpointing,
        micro_batch_size=batch,
        seq_len=length,
        gradient_accumulation_steps=2,
    )
    if plan.adapter is not None:
        plan = replace(plan, adapter=replace(plan.adapter, rank=RANKS[variant]))
    job = job_of(plan, spec, full_depth=True)
    return Seen(plan, spec, trace(job, num_steps=1).log, _units_by_layer(job, spec))


def _units_by_layer(job: TraceJob, spec: ModelSpec) -> tuple[ModelUnit, ...]:
    """Return the unit of every layer: the one with its parameters and its kind of attention."""
    from dataclasses import replace

    from preflight.trace.build import build

    built = build(replace(job, adapter=None, quantization=None, full_depth=True))
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


def _walk(seen: Sequence[Seen]) -> Walked:
    by_layer = [
        [layer_sizes(s.plan, s.model, unit) for s, unit in zip(seen, units, strict=True)]
        for units in zip(*(s.units for s in seen), strict=True)
    ]
    unpacked = [_unpacked_sizes(sizes) for sizes in by_layer]
    forms: dict[int, Form] = {}
    made: dict[int, int] = {}
    found: dict[Part, list[tuple[Form, Form]]] = {}
    left: dict[int, dict[str, int]] = {}
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
                made[number] = part.layer
                vector = tuple(s.log.sizes[n] for s, (n, _) in zip(seen, events, strict=True))
                if is_gradient and not _is_of_layer(seen[0], number, part):
                    is_head = part.layer < 0 and vector[0] // by_layer[-1][0]["hV"] in (2, 4)
                    forms[number] = {"hV": 1} if is_head else {}
                elif seen[0].log.operations[number] == WORKSPACE:
                    forms[number] = solve(vector, unpacked[part.layer])
                else:
                    forms[number] = solve(vector, by_layer[part.layer])
            side = now[is_gradient]
            _add(side, forms[number], sign)
            if part.name == REGION_END and part.micro == 0:
                _add(left.setdefault(made[number], {}), forms[number], -sign)
            levels.append((_without_zeros(now[0]), _without_zeros(now[1])))
        found[part] = levels
    return Walked(found, left)


def _add(total: dict[str, int], form: Form, sign: int) -> None:
    for name, count in form.items():
        total[name] = total.get(name, 0) + sign * count


def _unpacked_sizes(sizes: Sizes) -> list[dict[str, int]]:
    """Keep the sizes of what a packed product unpacks inside itself."""
    return [{k: v for k, v in one.items() if k.startswith(UNPACKED)} for one in sizes]


MODEL_PARTS = frozenset(
    {
        INPUTS, PRELUDE, LAYER_FORWARD, LOSS, REGION_END, OUTPUTS, LOSS_BACKWARD, LAYER_BACKWARD,
        EMBEDDING_BACKWARD,
    }
)  # fmt: skip
ADDED_TO = ("head", "embedding", "first_backward")
"""Where a gradient that finds another is alive beside it."""


def _is_of_layer(seen: Seen, number: int, part: Part) -> bool:
    """Tell a gradient of a layer's parameter from one of the embeddings, the norm or the head."""
    if part.layer < 0:
        return False
    unit = seen.units[part.layer]
    size = seen.log.sizes[number]
    sizes = layer_sizes(seen.plan, seen.model, unit)
    return any(size in (2 * n, 4 * n) for name, n in sizes.items() if name.startswith("w:"))


def _layer(walked: Walked, index: int) -> dict[str, Any]:
    forward = walked.levels[Part(0, 0, LAYER_FORWARD, index)]
    backward = walked.levels[Part(0, 0, LAYER_BACKWARD, index)]
    adding = walked.levels[Part(0, 1, LAYER_BACKWARD, index)]
    left = walked.left.get(index, {})
    saved = _less(_sum(*forward[-1]), left)
    found = {
        "saved": saved,
        "forward": [_sum(*pair) for pair in _highest(forward, {})],
        "backward": [list(pair) for pair in _highest(backward, saved)],
        "adding": [_sum(*pair) for pair in _highest(adding, saved)],
    }
    return {**found, "left": _without_zeros(left)} if any(left.values()) else found


def _shared(
    seen: Seen, walked: Walked, solved: Mapping[str, Mapping[str, Any]], micro: int
) -> dict[str, Any]:
    """Return what is alive outside of layers, parameters and gradients: inputs, tables, masks, the last norm.

    `forward` when the last layer begins, `loss`, `loss_backward` and `head` at the peaks of the loss
    and of the head's gradient beside their `logits`, `backward` when the last layer's backward begins:
    what each layer is said to keep is taken off. `first` when the first layer's backward begins, with
    what that layer kept; `embedding` at the end.
    """
    now: dict[str, int] = {}
    found: dict[str, Any] = {"logits": {}, "embedding": {}}
    kept: dict[str, int] = {}
    for part, levels in walked.levels.items():
        if part.micro != micro:
            continue
        of_layer = solved[kind_of(seen.units[part.layer])] if part.layer >= 0 else {}
        if part.name == LAYER_FORWARD:
            found["forward"] = now
        elif part.name in (LOSS, OUTPUTS):
            _keep_peak(found, "loss", now, _peak(levels, BY_LOGITS))
        elif part.name == LOSS_BACKWARD:
            _keep_peak(found, "loss_backward", now, _peak(levels, BY_LOGITS))
            if any("hV" in form for pair in levels for form in pair):
                _keep_peak(found, "head", now, _peak(levels, BY_HEAD))
        elif part.name == LAYER_BACKWARD:
            found.setdefault("backward", now)
            if part.layer == 0:
                found["first"] = now
                highest = _highest(levels, of_layer["saved"])
                found["first_backward"] = [list(pair) for pair in highest]
        elif part.name == EMBEDDING_BACKWARD:
            found["embedding"] = _without_logits(_sum(now, _peak(levels, BY_HEAD)))
        now = _sum(now, levels[-1][0])
        if part.name == LAYER_FORWARD:
            now = _less(now, of_layer["saved"], of_layer.get("left", {}))
            kept = _sum(kept, of_layer["saved"])
        elif part.name == REGION_END:
            left = [solved[kind_of(unit)].get("left", {}) for unit in seen.units]
            now = _sum(now, *left)
    # nothing is taken off any more where the first layer's backward begins
    for point in ("first", "embedding"):
        if found.get(point):
            found[point] = _sum(found[point], kept)
    return found


def _leave_out_what_is_usual(shared: dict[str, Any], of_first: Mapping[str, Any]) -> None:
    """Drop the first layer's backward where it is that of any layer of its kind."""
    if shared.get("first_backward") == of_first["backward"]:
        del shared["first_backward"]
    adding = shared["adding"]
    if [_sum(*pair) for pair in adding.get("first_backward", ())] == of_first["adding"]:
        del adding["first_backward"]


def _keep_peak(found: dict[str, Any], point: str, now: Form, peak: Form) -> None:
    level = _sum(now, peak)
    if level.get("T*V", 0) > found["logits"].get(point, -1):
        found["logits"][point] = level.get("T*V", 0)
        found[point] = _without_logits(level)


BY_LOGITS = {"T*V": 10**9, "hV": 10**6, "T*h": 10**4}
"""For a vocabulary much larger than the layers."""
BY_HEAD = {"hV": 10**9, "hP": 10**7, "T*V": 10**6, "T*h": 10**4}


def _peak(levels: Sequence[tuple[Form, Form]], sizes: Mapping[str, int]) -> Form:
    """Return the highest level of a part."""
    return max(levels, key=lambda pair: bytes_of(pair[0], sizes) + bytes_of(pair[1], sizes))[0]


def _without_logits(form: Form) -> Form:
    return {name: count for name, count in form.items() if name != "T*V"}


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
    pairs = [name for name in names if ":" not in name]
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


def _less(total: Form, *forms: Form) -> dict[str, int]:
    return _sum(total, *({name: -count for name, count in form.items()} for form in forms))


def _without_zeros(form: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in form.items() if count}


def _highest(live: Sequence[tuple[Form, Form]], base: Form) -> list[tuple[Form, Form]]:
    """Keep the fewest points of a part whose highest is its peak, beside `base`, for layers of any size.

    With gradients and without; what is within NEGLIGIBLE_SHARE of the peak is as good as the peak.
    """
    import numpy

    points = _tops(live)
    names = sorted({name for pair in (*points, (base,)) for form in pair for name in form})
    sizes = numpy.array([[one[name] for name in names] for one in _samples(set(names))], float)

    def values(forms: Sequence[Form]) -> Any:
        counts = [[form.get(name, 0) for name in names] for form in forms]
        return sizes @ numpy.array(counts, float).T

    others = values([others for others, _ in points])
    both = others + values([gradients for _, gradients in points])
    levels = numpy.concatenate([others, both])
    peaks = levels.max(axis=1, keepdims=True)
    whole = numpy.concatenate([values([base])] * 2) + peaks
    missing = levels >= peaks - NEGLIGIBLE_SHARE * whole.clip(min=0)
    kept: list[int] = []
    while len(missing):
        best = int(missing.sum(axis=0).argmax())
        kept.append(best)
        missing = missing[~missing[:, best]]
    return [points[index] for index in sorted(kept)]


def _tops(live: Sequence[tuple[Form, Form]]) -> list[tuple[Form, Form]]:
    """Return the points of a part after which something is freed, or the part ends."""
    tops: list[tuple[Form, Form]] = []
    for index, pair in enumerate(live):
        after = live[index + 1] if index + 1 < len(live) else ({}, {})
        if _is_less(after, pair) and pair not in tops:
            tops.append(pair)
    return tops or [live[-1]]


def _is_less(after: tuple[Form, Form], before: tuple[Form, Form]) -> bool:
    """Tell whether something of what was alive before is gone after."""
    return any(
        new.get(name, 0) < old.get(name, 0)
        for old, new in zip(before, after, strict=True)
        for name in {**old, **new}
    )


def _samples(names: set[str]) -> Iterator[dict[str, int]]:
    """Yield sizes of layers from small to very large: tokens, widths and lengths in all proportions."""
    import random

    generator = random.Random(0)
    for _ in range(NUM_SAMPLES):
        hidden = generator.choice((256, 1024, 2048, 4096, 8192, 16384))
        length = generator.choice((128, 512, 2048, 8192, 32768))
        tokens = length * generator.choice((1, 2, 4, 8, 32))
        heads = hidden // generator.choice((64, 128))
        groups = generator.choice((1, 2, 4, 8))
        head = generator.choice((64, 128, 256))
        wide = int(hidden * generator.choice((1, 2, 2.7, 3.5, 4, 6)))
        narrow = int(hidden * generator.choice((0.1, 0.25, 0.5, 1, 1.5, 2, 2.8, 3.5)))
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
            "ih": 64, "id": 128, "ihd": 8192, "idrope": 64, "ihdrope": 4096, "idrest": 64,
            "ihdrest": 4096, "topk": min(length, 2048),
            "lk": hidden, "lv": 2 * hidden, "lrk": 2 * hidden, "lnv": heads, "lnk": heads // 2,
            "lcc": CHUNK * heads, "mix": 4 * hidden, "ls": 2 * hidden * head,
        }  # fmt: skip
        sizes = {
            "C": 1,
            "B": tokens // length,
            "E": experts,
            "d": head,
            "LL": length * length,
            "V": 128_000,
            "hV": hidden * 128_000,
            "hP": hidden * max(length, 2048),
        }
        for name in names:
            scale, _, what = name.partition("*")
            if what:
                scales = {
                    "T": tokens, "TL": tokens * length, "L": length, "Tp": tokens, "Tk": tokens,
                    "B": tokens // length, "Bc": tokens // length * CHUNK, "N": tokens // CHUNK,
                }  # fmt: skip
                sizes[name] = scales[scale] * width[what]
            elif name.startswith(("w:", "u:")):
                sizes[name] = _weight(name, width)
            elif name.startswith(("s:", "us:")):
                sizes[name] = _weight(name, width) // 64
        yield sizes


def _weight(name: str, width: Mapping[str, int]) -> int:
    if ".lora_" in name:
        return width["r"] * width["h"]
    if "expert" in name and "shared" not in name:
        double = 2 if "gate_up" in name else 1
        return width["EM"] * double * (1 if name.endswith("bias") else width["h"])
    if "router" in name or name.endswith("mlp.gate.weight"):
        return width["Eh"]
    if "indexer" in name:
        return width["id"] * width["h"] if "norm" not in name else width["id"]
    if "norm" in name or name.endswith("bias"):
        return width["h"]
    for part, size in (("k_proj", "kv"), ("v_proj", "kv"), ("q_proj", "q"), ("o_proj", "q")):
        if part in name:
            return width[size] * width["h"]
    if "shared" in name:
        return width["S"] * width["h"]
    return width["h"] * width["I"]


def files(say: Say) -> Files:
    """Yield the file of every family."""
    for name in SMALL_MODELS:
        say(name)
        yield from file_of(name, say)


def file_of(name: str, say: Say, only_missing: bool = False) -> Files:
    """Yield the file of a family, where any of its layers could be solved; or what methods it lacks beside the rest."""
    known = known_costs(name) if only_missing else None
    entry = derive(name, [m for m in METHODS if known is None or m not in known["shared"]])
    _SOLVED.clear()
    gc.collect()
    if known is not None:
        entry = together(known, entry)
    if not entry["kinds"]:
        say(f"{name}: no layer could be solved, and its file stays as it is")
        return
    yield f"preflight/formulas/costs/{name}.json", rendered(entry)


def main() -> int:
    """Write the files of the named families; return the exit code."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m preflight.derive.costs", description=__doc__)
    parser.add_argument("families", nargs="+", metavar="FAMILY", choices=tuple(SMALL_MODELS))
    parser.add_argument("--missing", action="store_true", help="only the methods that a file lacks")
    options = parser.parse_args()
    for name in options.families:
        for path, text in file_of(name, print, options.missing):
            (ROOT / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
