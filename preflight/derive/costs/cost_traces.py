"""A family's small model, traced in several sizes, and what every part of a step did to the bytes alive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from preflight.derive.costs import chunks, expert_loops, token_loops
from preflight.derive.costs.cost_forms import NotSolved, Sizes, solve, without_zeros
from preflight.derive.costs.loops import NotAlike, Turns, joined, joined_levels
from preflight.derive.layouts.small_models import objective_of, small_config, small_launch
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.formulas.adapters.adaptations import Adaptation
from preflight.formulas.adapters.linear_experts import in_release
from preflight.formulas.cost_tables import METHODS
from preflight.formulas.layers.layer_sizes import UNPACKED, Form, layer_sizes
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
from preflight.versions.installed import installed_versions

SHAPES = ((2, 192), (3, 128), (2, 224))
"""Sequences and their length, by variant."""
ANSWERS = (96, 160, 64)
"""Tokens of what a decoder beside an encoder is given, by variant: in rows of 32, as the efficient kernel keeps sums."""
CHUNKED_SHAPES = ((2, 192), (3, 128), (2, 256))
"""The same of a type that a table lays out: whole chunks of its states, where it has some."""
UNPACKING_SHAPES = ((2, 832), (3, 640), (2, 1120))
"""The same on a packed base: more tokens than its fused product takes."""
CHUNKED_UNPACKING_SHAPES = ((2, 832), (3, 640), (2, 896))
"""Both of these at once, and no longer than the usual window."""
RANKS = (8, 12, 20)
"""Of the adapters, by variant."""
WORKSPACE = "workspace"
MODEL_PARTS = frozenset(
    {
        INPUTS, PRELUDE, LAYER_FORWARD, LOSS, REGION_END, OUTPUTS, LOSS_BACKWARD, LAYER_BACKWARD,
        EMBEDDING_BACKWARD,
    }
)  # fmt: skip


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


def see_and_walk(
    model_type: str,
    method: str,
    checkpointing: bool,
    adaptation: Adaptation,
    head: str,
) -> tuple[Sequence[Seen], Walked]:
    """Trace a small model in all sizes; where layers loop over chunks, with few of them and with more.

    `head`: of an encoder, the objective that is trained.
    """
    spec = describe(small_config(model_type), model_type, "small_models.py")
    is_packed = "base_quantization" in METHODS[method]

    def see(shapes: Sequence[tuple[int, int]], num_experts: int | None = None) -> Sequence[Seen]:
        return [
            _see(model_type, method, checkpointing, adaptation, i, shapes[i], head, num_experts)
            for i in range(NUM_VARIANTS)
        ]

    if expert_loops.loops_over_experts(spec, _versions_here()):
        shapes = expert_loops.UNPACKING_SHAPES if is_packed else expert_loops.SHAPES
        seen = see(shapes, expert_loops.FEW)
        return seen, _walk_loops(seen, see(shapes, expert_loops.MANY))
    if chunks.loops_over_chunks(spec):
        seen, others = (see(chunks.shapes_of(n, is_packed)) for n in (chunks.FEW, chunks.MANY))
        few, many = (_walk(some, _sizes_by_layer(some)) for some in (seen, others))
        return seen, _joined(few, many, [chunks.TURNS] * len(seen[0].units))
    is_table = spec.facts.get("layout") == "table" and not spec.facts.get("both_stacks")
    if is_table and token_loops.loops_over_tokens(model_type):
        loops = (token_loops.FEW, token_loops.MANY)
        seen, others = (see(token_loops.shapes_of(n, is_packed)) for n in loops)
        few, many = (_walk(some, _sizes_by_layer(some)) for some in (seen, others))
        return seen, _joined(few, many, [token_loops.TURNS] * len(seen[0].units))
    shapes = CHUNKED_SHAPES if is_table else SHAPES
    if is_packed:
        shapes = CHUNKED_UNPACKING_SHAPES if is_table else UNPACKING_SHAPES
    seen = see(shapes)
    return seen, _walk(seen, _sizes_by_layer(seen))


def _versions_here() -> Mapping[str, str]:
    return installed_versions(("transformers", "peft"))


def _walk_loops(few: Sequence[Seen], many: Sequence[Seen]) -> Walked:
    """Walk through layers that loop over few experts and over many, and join both to forms for any number."""
    pairs = [
        expert_loops.told_apart(*pair)
        for pair in zip(_sizes_by_layer(few), _sizes_by_layer(many), strict=True)
    ]
    some, others = (_walk(seen, [pair[i] for pair in pairs]) for i, seen in enumerate((few, many)))
    return _joined(some, others, [expert_loops.turns_of(*pair) for pair in pairs])


def _joined(few: Walked, many: Walked, turns: Sequence[Turns]) -> Walked:
    """Return what parts did for any number of turns of their layers' loops; what is around the layers has none."""
    try:
        levels = {
            part: joined_levels(levels, many.levels[part], turns[part.layer])
            for part, levels in few.levels.items()
        }
        left = {
            index: joined(form, many.left.get(index, {}), turns[index])
            for index, form in few.left.items()
        }
    except NotAlike as error:
        raise NotSolved(str(error)) from error
    return Walked(levels, left)


def _see(
    model_type: str,
    method: str,
    checkpointing: bool,
    adaptation: Adaptation,
    variant: int,
    shape: tuple[int, int],
    head: str,
    num_experts: int | None,
) -> Seen:
    from preflight.trace.run import trace

    config = small_config(model_type, variant, head)
    if num_experts is not None:
        config = expert_loops.with_experts(config, num_experts)
    spec = describe(config, model_type, "small_models.py")
    batch, length = shape
    has_answers = spec.facts.get("both_stacks")
    plan = small_launch(
        model_type,
        method,
        checkpointing,
        adaptation,
        micro_batch_size=batch,
        seq_len=length,
        **({"target_len": ANSWERS[variant]} if has_answers else {}),
        gradient_accumulation_steps=2,
        objective=objective_of(head),
    )
    if plan.adapter is not None:
        plan = replace(plan, adapter=replace(plan.adapter, rank=RANKS[variant]))
    job = job_of(plan, spec, full_depth=True)
    if num_experts is not None:
        plan = replace(plan, versions=dict(_versions_here()))
        spec = in_release(plan, spec)
    return Seen(plan, spec, trace(job, num_steps=1).log, _units_by_layer(job, spec))


def _units_by_layer(job: TraceJob, spec: ModelSpec) -> tuple[ModelUnit, ...]:
    """Return the unit of every layer: the one with its parameters and its kind of attention."""
    from preflight.trace.build import build

    if spec.facts.get("layout") == "table":  # or of both stacks
        by_place = {place: unit for unit in spec.layers for place in unit.places}
        return tuple(by_place[place] for place in sorted(by_place))
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


def _sizes_by_layer(seen: Sequence[Seen]) -> list[Sizes]:
    """Return the named sizes of every layer, by variant."""
    return [
        [layer_sizes(s.plan, s.model, unit) for s, unit in zip(seen, units, strict=True)]
        for units in zip(*(s.units for s in seen), strict=True)
    ]


def _walk(seen: Sequence[Seen], by_layer: Sequence[Sizes]) -> Walked:
    unpacked = [_sizes_called(UNPACKED, sizes) for sizes in by_layer]
    weights = [_sizes_called(("w:",), sizes) for sizes in by_layer]
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
                elif is_gradient and part.layer >= 0:
                    forms[number] = _of_weight(vector, weights[part.layer], by_layer[part.layer])
                else:
                    forms[number] = solve(vector, by_layer[part.layer])
            side = now[is_gradient]
            _add(side, forms[number], sign)
            if part.name == REGION_END and part.micro == 0:
                _add(left.setdefault(made[number], {}), forms[number], -sign)
            levels.append((without_zeros(now[0]), without_zeros(now[1])))
        found[part] = levels
    return Walked(found, left)


def _is_of_layer(seen: Seen, number: int, part: Part) -> bool:
    """Tell a gradient of a layer's parameter from one of the embeddings, the norm or the head."""
    if part.layer < 0:
        return False
    unit = seen.units[part.layer]
    size = seen.log.sizes[number]
    sizes = layer_sizes(seen.plan, seen.model, unit)
    return any(size in (2 * n, 4 * n) for name, n in sizes.items() if name.startswith("w:"))


def _add(total: dict[str, int], form: Form, sign: int) -> None:
    for name, count in form.items():
        total[name] = total.get(name, 0) + sign * count


def _of_weight(vector: tuple[int, ...], weights: Sizes, sizes: Sizes) -> Form:
    """Return the form of a gradient: that of its weight, which activations may have the size of."""
    try:
        return solve(vector, weights)
    except NotSolved:
        return solve(vector, sizes)


def _sizes_called(prefixes: tuple[str, ...], sizes: Sizes) -> list[dict[str, int]]:
    """Keep the sizes whose names begin so: of weights, or of what a packed product unpacks inside itself."""
    return [{k: v for k, v in one.items() if k.startswith(prefixes)} for one in sizes]
