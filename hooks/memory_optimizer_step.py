"""What the optimizer needs in passing while it steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from preflight.formulas.optimizers import (
    ADAFACTOR_NARROW,
    ADAFACTOR_WIDE,
    ITERATED,
    MUON,
    is_orthogonalized,
    step_bytes_per_element,
    step_copies_of_one,
)
from preflight.formulas.precision import Precision, precision_of
from preflight.formulas.segments import pool_of_states
from preflight.formulas.sharding import held_tensors, local_elements
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.plan_choices import HF_TRAINERS

LOMO = {"lomo": 8, "adalomo": 12}
"""Bytes per element of one tensor's update in fp32: of its gradient, its weight, and AdaLomo's update (lomo_optim 0.1.1
lomo.py and adalomo.py fuse_update). A hook on the next gradient makes it: the tensor's own is there until then."""
STEP = frozenset({Moment.OPTIMIZER_STEP})
STEPPED_IN = {
    "lm_head": Moment.HEAD_BACKWARD,
    "final_norm": Moment.HEAD_BACKWARD,
    "embedding": Moment.EMBEDDING_BACKWARD,
}
"""Where an optimizer in backward steps what is of no layer."""


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the temporaries of the optimizer step outside DeepSpeed."""
    if plan.zero_stage is not None or plan.offload_params != "none":
        return
    precision = precision_of(plan, model)
    if plan.optimizer_in_backward:
        yield from _in_backward(plan, model, precision)
        return
    if plan.low_rank is not None and (low_rank := _low_rank(plan, model, precision)):
        yield low_rank
        return
    trainable = sum(
        held.count * local_elements(plan, held) for held in held_tensors(plan, model) if held.trains
    )
    size = precision.bytes_of("optimizer_state")
    copies = step_bytes_per_element(plan)
    if copies and trainable:
        yield MemoryTerm(
            "optimizer step, foreach temporaries",
            copies * size * trainable,
            STEP,
            f"{copies} x {trainable:,} x {size}",
            "preflight/formulas/optimizers.py STEP_COPIES: torch/optim _multi_tensor_* (2.13)",
            stream=pool_of_states(plan, model),
        )
    each = step_copies_of_one(plan)
    if each and trainable:
        elements = _most_in_a_loop(plan, model, each)
        yield MemoryTerm(
            "optimizer step, temporaries of one tensor",
            size * elements,
            STEP,
            f"{elements:,} x {size}: {each} of a tensor, and one of the tensor before",
            "preflight/formulas/optimizers.py STEP_COPIES: torch/optim _single_tensor_* (2.13)",
        )
    if plan.optimizer == MUON:
        yield _orthogonalization(plan, model, size)
    if plan.optimizer == "adafactor":
        copies = _adafactor_copies(precision)
        elements = _most_in_a_loop(plan, model, copies)
        yield MemoryTerm(
            "optimizer step, fp32 update",
            4 * elements,
            STEP,
            f"{elements:,} x 4: {copies} of a tensor, and the update of the tensor before",
            "transformers/optimization.py:1229 Adafactor.step (5.24.0)",
        )


def _low_rank(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> MemoryTerm | None:
    """Return a term of what projections and updates of full size make, where it is known what is projected."""
    from preflight.formulas.low_rank import is_priced, most_in_a_step  # few launches have any

    if not is_priced(plan, model):
        return None
    num_bytes = most_in_a_step(plan, model, precision)
    return MemoryTerm(
        "optimizer step, projections and updates",
        num_bytes,
        STEP,
        f"{num_bytes:,}: the most of a tensor, beside what is left of the one before",
        "preflight/formulas/low_rank.py: galore_torch 1.0, apollo_torch 1.0.3",
    )


def _in_backward(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> Iterable[MemoryTerm]:
    """Yield the temporaries of steps of one tensor each: beside head, layers and embedding, while it has its gradient."""
    size = precision.bytes_of("optimizer_state")
    each = size * (step_bytes_per_element(plan) or step_copies_of_one(plan))
    if plan.optimizer == "adafactor":
        each = 4 * _adafactor_copies(precision)
    elif plan.optimizer in LOMO:
        each = LOMO[plan.optimizer] + precision.bytes_of("gradient")
    is_low_rank = False
    if plan.low_rank is not None:
        from preflight.formulas.low_rank import is_priced, most_of_one  # few launches have any

        is_low_rank = is_priced(plan, model)
    most = Counter[Moment]()
    for held in held_tensors(plan, model):
        if held.trains:
            is_muon = plan.optimizer == MUON and is_orthogonalized(held.tensor)
            num_bytes = local_elements(plan, held) * (size + ITERATED if is_muon else each)
            if is_low_rank:
                num_bytes = most_of_one(plan, model, precision, held)
            moment = STEPPED_IN.get(held.unit.role, Moment.FIRST_LAYER_BACKWARD)
            most[moment] = max(most[moment], num_bytes)
    most[Moment.LAST_LAYER_BACKWARD] = most[Moment.FIRST_LAYER_BACKWARD]
    for moment, num_bytes in most.items():
        if num_bytes:
            yield MemoryTerm(
                f"optimizer step of one tensor, {moment.value.replace('_', ' ')}",
                num_bytes,
                frozenset({moment}),
                f"{num_bytes:,}: the largest there",
                "torch/optim _single_tensor_*, _multi_tensor_* (2.13), in a hook behind AccumulateGrad",
            )


def _orthogonalization(plan: LaunchPlan, model: ModelSpec, size: int) -> MemoryTerm:
    """Return a term of Muon's update of its largest matrix, or of AdamW's two copies of the largest other tensor."""
    sizes = {True: 0, False: 0}
    for held in held_tensors(plan, model):
        if held.trains:
            is_muon = is_orthogonalized(held.tensor)
            sizes[is_muon] = max(sizes[is_muon], local_elements(plan, held))
    return MemoryTerm(
        "optimizer step, orthogonalized update",
        max((size + ITERATED) * sizes[True], 2 * size * sizes[False]),
        STEP,
        f"the larger of {sizes[True]:,} x {size + ITERATED} and {sizes[False]:,} x {2 * size}",
        "preflight/formulas/optimizers.py ITERATED: torch/optim/_muon.py (2.13)",
    )


def _adafactor_copies(precision: Precision) -> int:
    return ADAFACTOR_NARROW if precision.bytes_of("trainable") == 2 else ADAFACTOR_WIDE


def _most_in_a_loop(plan: LaunchPlan, model: ModelSpec, each: int) -> int:
    """Return the most elements at once: the copy of the tensor before lives until its name is used again.

    Trainer's vectors, which have no weight decay, are a group of their own.
    """
    highest = before = 0
    for held in held_tensors(plan, model):
        if not held.trains or (plan.trainer in HF_TRAINERS and len(held.tensor.shape) < 2):
            continue
        elements = local_elements(plan, held)
        highest = max(highest, each * elements + before)
        before = elements
    return highest
