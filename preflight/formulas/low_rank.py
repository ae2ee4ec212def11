"""What GaLore and APOLLO keep of a matrix, and make while they step it: moments of a gradient of low rank, and its projector.

Source: galore_torch 1.0 (galore_projector.py, adamw.py, adamw8bit.py, adafactor.py) and apollo_torch 1.0.3 (apollo.py,
random_projector.py, svd_projector.py), whose only releases these are. A projector is taken of the whole gradient of one
tensor, so that nothing that an engine divides, or makes flat, is priced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from preflight.formulas.low_rank_options import low_rank_of
from preflight.formulas.optimizers import (
    ADAFACTOR_NARROW,
    ADAFACTOR_WIDE,
    EIGHT_BIT_BLOCK,
    LOW_RANK,
    SMALLEST_8BIT_TENSOR,
    state_bytes,
)
from preflight.formulas.precision import Precision
from preflight.formulas.sharding import HeldTensor, held_tensors
from preflight.formulas.trainer_arguments import argument
from preflight.launch import LaunchPlan
from preflight.memory import LAYER_BACKWARD, MemoryTerm, Moment
from preflight.model import LINEAR, ModelSpec, ModelUnit, ParameterTensor
from preflight.plan_parts import LowRank
from preflight.remembered import remembered
from preflight.units import ceil_div
from preflight.unpriced_names import SVD_WORKSPACE
from preflight.values import NamedTuple, replace

ALL_LINEAR = ("all-linear", "all_linear")
SHORTER_SIDE = {"std": True, "reverse_std": False}
"""Projection -> whether the projector has the shorter side of a matrix; `right` and `left` name the side itself."""


@remembered
def is_priced(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether the states of a plan's low-rank optimizer are known: which matrices it projects, and that they are whole."""
    if plan.low_rank is None or not plan.optimizer.startswith(LOW_RANK):
        return False
    if not _is_whole(plan) or plan.adapter is not None or model.is_counted_alone:
        return False
    answers = {_projects(plan.low_rank, model, held) for held in held_tensors(plan, model)}
    return True in answers and None not in answers


def _is_whole(plan: LaunchPlan) -> bool:
    """Tell whether every rank has all of a matrix and of its gradient."""
    is_divided = plan.engine not in ("single", "ddp") or plan.tensor_parallel_degree > 1
    return not is_divided and plan.offload_optimizer == "none"


def _may_project(held: HeldTensor) -> bool:
    return held.tensor.kind == LINEAR and len(held.tensor.shape) == 2


def _projects(low_rank: LowRank, model: ModelSpec, held: HeldTensor) -> bool | None:
    """Tell whether a tensor is projected; None where names of single layers decide, which one unit stands for.

    Weights of linear layers alone are, a tied head among none: its one name is the embedding's
    (_setup_low_rank_optimizer in transformers/trainer_optimizer.py, 5.24.0; named_parameters has a tensor once).
    """
    tensor, unit = held.tensor, held.unit
    is_turned = unit.role == "layer" and bool(model.facts.get("conv1d"))
    if not _may_project(held) or is_turned:
        return False
    names = {_is_target(low_rank.targets, name) for name in _module_names(unit, tensor)}
    return names.pop() if len(names) == 1 else None


def _module_names(unit: ModelUnit, tensor: ParameterTensor) -> Iterator[str]:
    inner = tensor.name.rpartition(".")[0]
    name = f"{unit.name}.{inner}" if inner else unit.name
    for place in unit.places or range(unit.count):
        yield name.replace("*", str(place), 1)


def _is_target(targets: tuple[str, ...] | str, name: str) -> bool:
    """Tell whether a module is one of those (check_target_module_exists in transformers/trainer_utils.py, 5.24.0)."""
    if isinstance(targets, str):
        return targets in ALL_LINEAR or re.fullmatch(targets, name) is not None
    return any(each in name or re.fullmatch(each, name) for each in targets)


@remembered
def _projected(plan: LaunchPlan, model: ModelSpec) -> frozenset[HeldTensor]:
    """Return the tensors that a plan's optimizer projects; none where that is not priced."""
    if plan.low_rank is None or not is_priced(plan, model):
        return frozenset()
    every = held_tensors(plan, model)
    return frozenset(held for held in every if _projects(plan.low_rank, model, held))


class _Sizes(NamedTuple):
    """Elements of what is made of a matrix."""

    shorter: int
    whole: int
    gradient: int
    """The gradient of low rank, and each of its moments."""
    projector: int
    vectors: int
    """Of the singular vectors that the projector is a view of."""
    sides: int
    """Rows and columns of the gradient of low rank together."""
    length: int
    """The side of it that is the matrix's own."""


def _sizes(plan: LaunchPlan, shape: tuple[int, ...]) -> _Sizes:
    low_rank = plan.low_rank
    assert low_rank is not None
    rows, columns = shape
    shorter = min(rows, columns)
    rank = low_rank.rank if low_rank.is_random else min(low_rank.rank, shorter)
    if low_rank.projection == "full":
        both = rank * (rows + columns), shorter * (rows + columns)
        return _Sizes(shorter, rows * columns, rank * rank, *both, 2 * rank, rank)
    is_right = low_rank.projection == "right"
    if low_rank.projection in SHORTER_SIDE:
        is_right = (rows >= columns) == SHORTER_SIDE[low_rank.projection]
    of, left = (columns, rows) if is_right else (rows, columns)
    return _Sizes(shorter, rows * columns, left * rank, of * rank, of * shorter, left + rank, left)


def low_rank_states(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, held: HeldTensor, elements: int
) -> int:
    """Return the optimizer-state bytes of one tensor's local elements, whatever the optimizer.

    A projector of a gradient in 16 bits is a copy in them. One of a gradient in fp32 is a slice of the singular vectors,
    all of which stay for it; Adafactor's gradients always are in fp32.
    """
    if not is_priced(plan, model):
        return state_bytes(plan, precision, held.tensor, elements)
    is_projected = held in _projected(plan, model)
    kind, size = _kind(plan), precision.bytes_of("gradient")
    if not is_projected:
        if kind == "adafactor":
            plain = replace(plan, optimizer="adafactor")
            return state_bytes(plain, precision, held.tensor, elements)
        return _states_in_8_bits(elements) if kind == "8bit" else 2 * size * elements
    assert plan.low_rank is not None
    sizes = _sizes(plan, held.tensor.shape)
    is_wide = size == 4 or kind == "adafactor"
    projector = size * sizes.projector
    if is_wide:
        projector = 4 * (sizes.projector if plan.low_rank.is_random else sizes.vectors)
    if kind == "adafactor":
        return 4 * sizes.sides + projector
    if kind == "8bit":
        return _states_in_8_bits(sizes.gradient) + projector
    return 2 * size * sizes.gradient + projector


def _kind(plan: LaunchPlan) -> str:
    name = plan.optimizer
    return "adafactor" if "adafactor" in name else "8bit" if "8bit" in name else "adamw"


def _states_in_8_bits(elements: int) -> int:
    """Return bitsandbytes' two states; embeddings have them too: Trainer makes those wide for bitsandbytes' own classes alone
    (transformers/trainer.py:1328, 5.24.0)."""
    if elements < SMALLEST_8BIT_TENSOR:
        return 8 * elements
    return 2 * (elements + 4 * ceil_div(elements, EIGHT_BIT_BLOCK))


class Passing(NamedTuple):
    """Bytes that a step makes of one tensor in passing, by what of the tensor before is still there."""

    projecting: int = 0
    """Beside all that the tensor before left."""
    updating: int = 0
    """Beside its last update."""
    alone: int = 0
    """When that is gone too."""
    left: int = 0
    """What names hold until the next tensor has its own, the update apart."""
    update: int = 0
    freed: int = 0
    """Of the gradient, in whose place that of low rank stays until the next step."""


def passing_bytes(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, held: HeldTensor
) -> Passing:
    """Return what a step makes of a tensor, without the workspace of an SVD: decompositions, and the update in full size."""
    kind, size = _kind(plan), precision.bytes_of("gradient")
    is_projected = held in _projected(plan, model)
    whole, longer = held.tensor.num_params, max(held.tensor.shape)
    own, wide = size * whole, 4 * whole
    cast = wide if size == 2 else 0
    projecting = cast + (_projecting_bytes(plan, held.tensor.shape) if is_projected else 0)
    if kind == "adafactor":
        copies = ADAFACTOR_NARROW if cast else ADAFACTOR_WIDE
        if not is_projected:
            return Passing(projecting, copies * wide + 4 * longer, 0, cast, wide)
        low = 4 * _sizes(plan, held.tensor.shape).gradient
        return Passing(
            projecting, cast + 4 * low, cast + 2 * wide + 2 * low + 4 * longer, cast + low, wide
        )
    if not is_projected:  # bitsandbytes' kernels make nothing
        return Passing() if kind == "8bit" else Passing(own, 2 * own, 0, own, own)
    low = size * _sizes(plan, held.tensor.shape).gradient
    if kind == "8bit":
        return Passing(projecting, own + 2 * low, freed=own - low)
    if plan.optimizer.startswith("apollo_"):
        # an update is made of the whole gradient by a factor per channel, and again where its norm grew too fast
        made = 3 * low + size * (longer + 2)
        return Passing(projecting, own + made, 2 * own + made, 2 * low, own)
    return Passing(projecting, 3 * low, 2 * own + 3 * low, 2 * low, own)


def _projecting_bytes(plan: LaunchPlan, shape: tuple[int, ...]) -> int:
    """Return what making a projector takes, in fp32: random numbers and these scaled, or singular vectors beside the copy
    that the library overwrites, then beside a product that nobody reads."""
    assert plan.low_rank is not None
    sizes = _sizes(plan, shape)
    if plan.low_rank.is_random:
        return 2 * 4 * sizes.projector
    vectors, rank = sizes.shorter * (sum(shape) + 1), sizes.sides - sizes.length
    product = 0 if plan.low_rank.projection == "full" else rank * (sizes.length + rank)
    return 4 * (vectors + max(sizes.whole, product))


def most_in_a_step(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> int:
    """Return the most bytes at once where one step walks over all tensors.

    Those that are not projected come first, and in LLaMA-Factory vectors before the others; layers come one after the other.
    """
    projected = _projected(plan, model)
    trained = [held for held in held_tensors(plan, model) if held.trains]
    vectors_first = any(argument(plan, name).is_on for name in ("use_galore", "use_apollo"))
    others = [held for held in trained if held not in projected]
    if vectors_first:
        others = [held for held in others if len(held.tensor.shape) > 1]
    low = [held for held in trained if held in projected]
    highest = left = update = freed = 0
    for held in (*others, *low, *low):
        each = passing_bytes(plan, model, precision, held)
        most = max(left + update + each.projecting, update + each.updating, each.alone)
        highest = max(highest, most - freed)
        left, update, freed = each.left, each.update, freed + each.freed
    return highest


def most_of_one(plan: LaunchPlan, model: ModelSpec, precision: Precision, held: HeldTensor) -> int:
    """Return the most bytes at once of a tensor that has a step of its own."""
    each = passing_bytes(plan, model, precision, held)
    return max(each.projecting, each.updating, each.alone)


def may_decompose(plan: LaunchPlan) -> bool:
    """Tell whether projectors may be made of a decomposition, for which a library of CUDA's takes memory of its own."""
    return plan.low_rank is None or not plan.low_rank.is_random


def is_within_adamw(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether states that are not priced are no more than AdamW's two of every matrix.

    Two moments and a projector are, up to a rank of half a matrix's shorter side, where every rank has whole matrices.
    FSDP2 shards neither a projector nor the moments of wide matrices, and gathers what is decomposed (run on gloo with
    torch 2.13).
    """
    if not _is_whole(plan):
        return False
    said = plan.low_rank or low_rank_of(
        plan.optimizer, argument(plan, "optim_args").value, "all-linear"
    )
    sides = [min(held.tensor.shape) for held in held_tensors(plan, model) if _may_project(held)]
    return said is not None and bool(sides) and 2 * said.rank <= min(sides)


def workspace_at_most(plan: LaunchPlan, model: ModelSpec) -> tuple[MemoryTerm, ...]:
    """Return a term of what an SVD takes beside its matrix and vectors; nothing where matrices are divided.

    torch hands cuSOLVER (gesvdj, and gesvd where that does not converge) a buffer of a size that the library asks for and
    no page names. Bounded by the dearest way to do it: an orthogonal factor as large as the matrix, then eigenvectors of
    [0 R; R' 0], which has twice its shorter side, and that matrix. No measurement is behind it. Where the rest of the step
    is not priced, all that it makes of a whole matrix and of the one before is in it.
    """
    every = [held for held in held_tensors(plan, model) if held.trains and _may_project(held)]
    if not every or not _is_whole(plan):
        return ()
    is_known = is_priced(plan, model)
    most = max(
        held.tensor.num_params + 8 * min(held.tensor.shape) ** 2
        for held in (_projected(plan, model) if is_known else every)
    )
    if not is_known:  # a copy and another, vectors of both sides, and four tensors of an update
        largest = max(held.tensor.num_params for held in held_tensors(plan, model) if held.trains)
        most += max(
            2 * held.tensor.num_params + min(held.tensor.shape) * (sum(held.tensor.shape) + 1)
            for held in every
        )
        most += 4 * largest
    moments = {Moment.OPTIMIZER_STEP}
    if plan.optimizer_in_backward:
        moments = {*LAYER_BACKWARD, Moment.HEAD_BACKWARD, Moment.EMBEDDING_BACKWARD}
    return (
        MemoryTerm(
            SVD_WORKSPACE,
            4 * most,
            frozenset(moments),
            f"{most:,} x 4: a matrix and 8 squares of its shorter side"
            + ("" if is_known else ", and what a step makes of it"),
            "aten/src/ATen/native/cuda/linalg/BatchLinearAlgebraLib.cpp svd_cusolver (torch 2.13)",
        ),
    )
