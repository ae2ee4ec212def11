"""How long one optimizer step takes, part by part: good enough to rank plans, never shown as seconds.

Everything is a count (FLOPs, bytes of device memory, bytes over a link) over a rate of the GPU table, times
the share of that rate that such work reaches (preflight/devices/step_work.py, preflight/devices/step_links.py).
What a link carries hides behind the work of the same pass, as far as that lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from preflight.device import DeviceSpec
from preflight.devices.gpu_speeds import DeviceSpeed, speed_of
from preflight.devices.step_links import link_times
from preflight.devices.step_work import MEMORY_SHARE, work_of
from preflight.formulas.adapters.adapters import num_trainable_params
from preflight.formulas.optimizers import optimizer_kernel
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.plan_choices import DIVIDES_NOTHING
from preflight.units import ceil_div, dtype_bytes
from preflight.values import dataclass

KERNEL_PASSES = {"fused": 1, "foreach": 3, "for_loop": 3}
"""A fused step reads weight, gradient and two states and writes all but the gradient; one of single operations
makes about 22 such passes instead of seven (torch/optim/adamw.py, _multi_tensor_adamw, 2.13)."""
HOST_STEP_BYTES = 112e9
"""A second that a fused step on the host moves through a node's memory: DeepSpeed's CPUAdam takes 2.41 s for
8 billion parameters at 28 bytes each, on two Xeons of 40 cores together (Ren et al. 2021, ZeRO-Offload, table 4;
0.25 ns a parameter over its rows)."""
HOST_LOOP_TIMES = 5.8
"""That of single operations over that of a fused one: 11.93 s for the same (the same table, torch's Adam)."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step on one rank, by part, and the tokens that all ranks train in it."""

    parts: Mapping[str, float] = field(default_factory=dict)
    num_tokens: int = 1

    @property
    def seconds_per_token(self) -> float:
        return sum(self.parts.values()) / self.num_tokens

    def factor_of(self, before: StepTime) -> float:
        """Return this over another step for the same tokens: 1.3 takes thirty percent longer."""
        if not before.parts or not self.parts:
            return 1.0
        return self.seconds_per_token / before.seconds_per_token


def estimate_step_time(plan: LaunchPlan, model: ModelSpec, device: DeviceSpec | None) -> StepTime:
    """Return the time of one optimizer step; empty where batch, length or layers are not known."""
    if not num_tokens(plan) or not model.layers:
        return StepTime()
    speed = speed_of(device)
    work = work_of(plan, model, speed)
    links = link_times(plan, model, speed)
    micro_steps = plan.gradient_accumulation_steps
    backward = 2 * work.forward + work.recomputed
    exposed = max(0.0, links.forward - work.forward) + max(0.0, links.backward - backward)
    idle = work.forward + backward - min(links.host_hidden, work.forward + backward)
    parts = {
        "matrix products": micro_steps * work.products,
        "attention": micro_steps * work.attention,
        "elementwise": micro_steps * work.elementwise,
        "recomputation": micro_steps * work.recomputed,
        "unpacking 4-bit weights": micro_steps * work.unpacking,
        "loss": micro_steps * work.loss,
        "launching kernels": micro_steps * work.waiting,
        "communication not hidden": micro_steps * (exposed + links.blocking) + links.once,
        "copies to and from the host": micro_steps
        * (links.host_hidden - (work.forward + backward - idle))
        + links.host_once,
        "optimizer": _optimizer_seconds(plan, model, speed),
    }
    copies = plan.ranks_per_sequence
    total = num_tokens(plan) * copies * micro_steps * plan.data_parallel_degree
    return StepTime({name: seconds for name, seconds in parts.items() if seconds > 0}, total)


def _optimizer_seconds(plan: LaunchPlan, model: ModelSpec, speed: DeviceSpeed) -> float:
    degree = 1 if plan.engine in DIVIDES_NOTHING else plan.shard_degree
    degree *= plan.tensor_parallel_degree
    local = ceil_div(num_trainable_params(plan, model), degree)
    precision = precision_of(plan, model)
    weight = dtype_bytes(precision.master or precision.trainable)
    moved = 3 * weight + 4 * precision.bytes_of("optimizer_state")
    kernel = optimizer_kernel(plan)
    # FSDP's states live where its parameters do
    if plan.offload_optimizer != "none" or (plan.is_fsdp and plan.offload_params != "none"):
        # torch walks over tensors of the host one by one unless its fused kernel was asked for
        times = 1.0 if plan.zero_stage is not None or kernel == "fused" else HOST_LOOP_TIMES
        return times * local * plan.ranks_per_node * moved / HOST_STEP_BYTES
    return local * moved * KERNEL_PASSES[kernel] / (speed.memory_bytes * MEMORY_SHARE)
