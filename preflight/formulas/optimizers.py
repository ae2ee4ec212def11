"""Bytes that each optimizer keeps per parameter, and needs in passing during its step."""

from __future__ import annotations

from math import ceil

from preflight.formulas.optimizer_classes import element_cost
from preflight.formulas.precision import Precision
from preflight.launch import LaunchPlan
from preflight.model import LINEAR, ParameterTensor
from preflight.plan_choices import HF_TRAINERS
from preflight.units import ceil_div
from preflight.values import NamedTuple
from preflight.versions.torch import HAS_FOREACH

WITH_FOREACH = frozenset({"adamw_torch", "sgd", "rmsprop", "adagrad"})
"""Trainer's names of torch's own optimizers (transformers/trainer_optimizer.py, 5.24.0)."""
EIGHT_BIT_BLOCK = 256
SMALLEST_8BIT_TENSOR = 4096
"""bitsandbytes keeps states of smaller tensors in fp32 (bitsandbytes/optim/optimizer.py, min_8bit_size, 0.50.2)."""

SMALLEST_PAGED_TENSOR = 100_000
"""The states of smaller tensors are not paged (optimizer.py:383)."""

EIGHT_BIT = frozenset(
    {
        "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "ademamix_8bit", "paged_ademamix_8bit", "lion_8bit",
        "paged_lion_8bit", "adagrad_8bit", "rmsprop_bnb_8bit",
    }
)  # fmt: skip
TORCHAO_BITS = {"adamw_torch_8bit": 8, "adamw_torch_4bit": 4}
"""torchao's states, embeddings too (torchao/optim/adam.py, 0.18.0)."""
TORCHAO_BLOCK = {8: 256, 4: 128}
"""Elements that one fp32 scale serves (block_size of AdamW8bit and AdamW4bit)."""

MUON = "muon"
ITERATED = 14
"""Bytes that Newton and Schulz's iteration of one matrix makes beside its update, in bf16: itself before and after it is
scaled, a step's two and its products, squares at most (counted: 10 in torch 2.13, 14 in Moonlight's, which the frameworks
have)."""

PAGED = frozenset(
    {
        "paged_adamw_8bit",
        "paged_adamw_32bit",
        "paged_adamw",
        "paged_ademamix_32bit",
        "paged_ademamix_8bit",
        "paged_lion_8bit",
        "paged_lion_32bit",
    }
)
NUM_STATES = {
    "sgd": 0,
    "adamw_torch": 2,
    "adamw_torch_fused": 2,
    "adamw_hf": 2,
    "adamw_apex_fused": 2,
    "adamw_anyprecision": 2,
    "adamw_bf16": 3,
    "deepspeed_fused_adam": 2,
    "deepspeed_cpu_adam": 2,
    "adamw_bnb_8bit": 2,
    "adamw_torch_8bit": 2,
    "adamw_torch_4bit": 2,
    "adamw_8bit": 2,
    "paged_adamw_8bit": 2,
    "paged_adamw_32bit": 2,
    "paged_adamw": 2,
    "ademamix": 3,
    "ademamix_8bit": 3,
    "paged_ademamix_32bit": 3,
    "paged_ademamix_8bit": 3,
    "lion_32bit": 1,
    "lion_8bit": 1,
    "paged_lion_32bit": 1,
    "paged_lion_8bit": 1,
    "rmsprop": 1,
    "rmsprop_bnb": 1,
    "rmsprop_bnb_8bit": 1,
    "rmsprop_bnb_32bit": 1,
    "adagrad": 1,
    "adagrad_8bit": 1,
    "stable_adamw": 2,
    "schedule_free_adamw": 2,
    "schedule_free_radam": 2,
    "schedule_free_sgd": 1,
    "grokadamw": 3,
    MUON: 1,
    "lomo": 0,
    "adalomo": 0,
}
"""State tensors per parameter, by Trainer's names (transformers/trainer_optimizer.py, 5.24.0), and by EasyR1's: its
AnyPrecisionAdamW keeps Kahan's sum beside both moments (verl/utils/torch_functional.py, 0.3.3)."""


def optimizer_kernel(plan: LaunchPlan) -> str:
    """Return how the optimizer walks over tensors: foreach, fused or for_loop.

    A loop of one's own under DeepSpeed usually names its optimizer in DeepSpeed's config, where AdamW is
    FusedAdam (deepspeed/runtime/engine.py _configure_basic_optimizer, 0.19.8); one that hands torch's own
    to accelerate says so with `optimizer_kernel`, and Trainer always does.
    """
    if plan.optimizer not in WITH_FOREACH:
        return "fused"
    if plan.optimizer_kernel is not None:
        return plan.optimizer_kernel
    if plan.zero_stage is not None and plan.trainer == "plain_loop":
        return "fused"
    return "foreach" if HAS_FOREACH.holds_in(plan.versions) else "for_loop"


def state_bytes(
    plan: LaunchPlan, precision: Precision, tensor: ParameterTensor, elements: int
) -> int:
    """Return the optimizer-state bytes of one tensor's local elements."""
    name = plan.optimizer
    if name == "adafactor":
        return _adafactor_bytes(tensor, elements)
    size, cost = precision.bytes_of("optimizer_state"), element_cost(name)
    if cost is not None:
        return ceil(elements * (cost.states_fp32 if size == 4 else cost.states_16_bits))
    count = NUM_STATES.get(name, 2)
    if name == MUON and not is_orthogonalized(tensor):
        count = NUM_STATES["adamw_torch"]
    if name in TORCHAO_BITS:
        return count * _torchao_bytes(TORCHAO_BITS[name], precision, elements)
    if name in EIGHT_BIT:
        if elements < SMALLEST_8BIT_TENSOR or _keeps_32_bits(plan, tensor):
            return 4 * count * elements
        return count * (elements + 4 * ceil_div(elements, EIGHT_BIT_BLOCK))
    if name in PAGED or name.startswith(("lion_32", "ademamix", "rmsprop_bnb_32", "adamw_any")):
        return (
            4 * count * elements
        )  # bitsandbytes' 32-bit states, and AnyPrecision's unless optim_args say otherwise
    return size * count * elements


def is_orthogonalized(tensor: ParameterTensor) -> bool:
    """Tell whether Muon has a matrix: one of two dimensions in a layer; AdamW has the rest, embeddings and head among it.

    (_create_muon_optimizer of llamafactory/train/trainer_utils.py, 0.9.5; MuonOptimizerFactory of axolotl-contribs-mit
    0.0.6; ms-swift's optimizers/muon.py, 4.6, which has stacks of experts too)
    """
    is_outside = "." not in tensor.name or "embed" in tensor.name  # a head is a unit of its own
    return tensor.kind == LINEAR and len(tensor.shape) == 2 and not is_outside


def paged_bytes(plan: LaunchPlan, tensor: ParameterTensor, elements: int) -> int:
    """Return how many of one tensor's state bytes are CUDA managed memory.

    torch's counters never see it, and the driver moves it to the host where the device is full: such states
    slow a step down, and no allocation fails for them. Scales of 8-bit states, and the states of small tensors,
    are ordinary memory (bitsandbytes/optim/optimizer.py:374 get_state_buffer, 0.50.2).
    """
    name = plan.optimizer
    if name not in PAGED or elements < SMALLEST_PAGED_TENSOR:
        return 0
    is_8bit = name in EIGHT_BIT and not _keeps_32_bits(plan, tensor)
    return NUM_STATES[name] * elements * (1 if is_8bit else 4)


def _keeps_32_bits(plan: LaunchPlan, tensor: ParameterTensor) -> bool:
    """Tell whether the states of a tensor are 32-bit ones under an 8-bit optimizer.

    Trainer registers nn.Embedding for bitsandbytes' 32-bit states (transformers/trainer.py:1328, 5.24.0); a loop
    of one's own does not.
    """
    is_registered = plan.trainer is None or plan.trainer in HF_TRAINERS
    return tensor.kind == "embedding" and is_registered


def _torchao_bytes(bits: int, precision: Precision, elements: int) -> int:
    """Return the bytes of one state: packed with a scale per block, or as the weight where it is small or uneven."""
    block = TORCHAO_BLOCK[bits]
    if elements < SMALLEST_8BIT_TENSOR or elements % block:
        return precision.bytes_of("trainable") * elements
    return elements * bits // 8 + 4 * (elements // block)


LOW_RANK = ("galore_", "apollo_")
"""How Trainer's names begin of optimizers that project gradients to a low rank, which formulas/low_rank.py prices."""
ADAFACTOR_NARROW, ADAFACTOR_WIDE = 4, 2
"""fp32 copies of one tensor that Adafactor's step makes at once: its gradient's square and that with an epsilon; in 16 bits
its gradient and itself too."""


def is_known(optimizer: str) -> bool:
    """Tell whether the bytes that an optimizer keeps are known."""
    return (
        optimizer in NUM_STATES or optimizer == "adafactor" or element_cost(optimizer) is not None
    )


def _adafactor_bytes(tensor: ParameterTensor, elements: int) -> int:
    """Rows and columns in fp32 for matrices, everything for vectors (transformers/optimization.py Adafactor)."""
    if len(tensor.shape) < 2:
        return 4 * elements
    *outer, rows, columns = tensor.shape
    stacks = 1
    for size in outer:
        stacks *= size
    whole = tensor.num_params or 1
    return ceil_div(4 * stacks * (rows + columns) * elements, whole)


class StepCopies(NamedTuple):
    """What one of torch's own optimizers makes while it steps, in copies of the states' dtype."""

    foreach: int
    """Of all parameters: whole lists exist at once."""
    for_loop: int
    """Of one parameter; the one before it is freed only when its name is used again."""


STEP_COPIES = {
    "adamw_torch": StepCopies(1, 2),
    "rmsprop": StepCopies(1, 1),
    "adagrad": StepCopies(2, 1),
    "sgd": StepCopies(0, 0),
}
"""_multi_tensor_* and _single_tensor_* of torch/optim/adam.py, rmsprop.py, adagrad.py and sgd.py (2.13): the square
root of the second moments, adagrad's scaled gradients, and the quotient that Adam's loop makes of its square root.
Fused kernels and bitsandbytes make none. tests/trace/test_user_loop.py holds them against traces."""


def step_bytes_per_element(plan: LaunchPlan) -> int:
    """Return how many extra copies of all parameters the step makes."""
    copies, cost = STEP_COPIES.get(plan.optimizer), element_cost(plan.optimizer)
    if cost is not None:
        return cost.copies_of_all
    return copies.foreach if copies and optimizer_kernel(plan) == "foreach" else 0


def step_copies_of_one(plan: LaunchPlan) -> int:
    """Return how many extra copies of one parameter at a time the step makes."""
    copies, cost = STEP_COPIES.get(plan.optimizer), element_cost(plan.optimizer)
    if cost is not None:
        return cost.copies_of_one
    return copies.for_loop if copies and optimizer_kernel(plan) == "for_loop" else 0


def step_copies_of_flat(plan: LaunchPlan) -> int:
    """Return how many extra copies the step makes where all parameters are one flat tensor, as in ZeRO."""
    return step_bytes_per_element(plan) or step_copies_of_one(plan)
