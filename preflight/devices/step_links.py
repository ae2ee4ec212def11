"""Seconds that one step's collectives and copies to the host take, before any of it is hidden.

FSDP, ZeRO-3   a unit is gathered for its forward and, where it was freed, for its backward; gradients are
               reduced and scattered (Rajbhandari et al. 2020, section 7.2: three times the parameters)
ZeRO-1 and 2   gradients are reduced and scattered, updated parameters gathered once a step
DDP            gradients are all-reduced: scattered and gathered, twice the bytes
HSDP           the shards' gradients are all-reduced over the copies
context parallel  keys and values of the whole sequence are gathered in each layer, forward and again backward,
               where their gradients are scattered (Dubey et al. 2024, Llama 3, section 3.3.2)
tensor parallel  four all-reduces of the hidden states a layer, in nobody's shadow (Shoeybi et al. 2019, section 3)
"""

from __future__ import annotations

from preflight.devices.gpu_speeds import DeviceSpeed
from preflight.formulas.adapters.adapters import num_trainable_params
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens, quantized_bytes
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.plan_choices import DIVIDES_NOTHING
from preflight.units import dtype_bytes
from preflight.values import dataclass

COLLECTIVE_SECONDS = 30e-6
"""To start one collective over a node, by host and device (NCCL's tests show 20 to 50 microseconds for
small messages). Assumed."""
LINK_SHARE = 0.75
"""Of a link's rate that NCCL's collectives reach on large messages (nccl-tests: 370 of 450 GB/s on H100 NVLink,
less over PCIe). Assumed for the others."""


@dataclass(frozen=True)
class LinkTimes:
    """Seconds over links, by when they are due."""

    forward: float = 0.0
    """A micro step's, hidden behind its forward as far as that lasts."""
    backward: float = 0.0
    blocking: float = 0.0
    """A micro step's, with nothing to hide behind."""
    once: float = 0.0
    """Once an optimizer step."""
    host_hidden: float = 0.0
    """A micro step's copies to and from the host, hidden like the rest."""
    host_once: float = 0.0


def link_times(plan: LaunchPlan, model: ModelSpec, speed: DeviceSpeed) -> LinkTimes:
    """Return what collectives and copies of one step take."""
    # tensor parallelism is innermost: it divides what the other groups move, and spreads them over nodes
    inner = plan.tensor_parallel_degree
    weight_bytes = _weight_bytes(plan, model) / inner
    reduced = num_trainable_params(plan, model) * dtype_bytes(_reduce_dtype(plan, model)) / inner
    over_group = _Group.of(plan, plan.shard_degree, inner, speed)
    over_copies = _Group.of(plan, plan.replicate_degree, plan.shard_degree * inner, speed)
    micro_steps = plan.gradient_accumulation_steps
    units = model.num_layers + 2
    forward = backward = once = 0.0
    if plan.is_fsdp or plan.engine == "zero3":
        gathered = over_group.seconds(weight_bytes, units)
        forward = gathered
        if plan.engine == "zero3" or plan.reshard_after_forward is not False:
            backward += gathered
        scattered = over_group.seconds(reduced, units)
        scattered += over_copies.seconds(2 * reduced / plan.shard_degree, units)
        # accelerate's no_sync leaves the other micro steps alone; DeepSpeed reduces in each
        is_each = plan.engine == "zero3" or plan.sync_each_batch
        backward += scattered if is_each else scattered / micro_steps
    elif plan.engine in ("zero1", "zero2"):
        scattered = over_group.seconds(reduced, units)
        backward = scattered if plan.engine == "zero2" else scattered / micro_steps
        once = over_group.seconds(reduced, units)
    elif plan.world_size > 1:
        everyone = _Group.of(plan, plan.data_parallel_degree, inner, speed)
        backward = everyone.seconds(2 * reduced, units) / micro_steps
    return LinkTimes(
        forward,
        backward,
        _tensor_parallel_seconds(plan, model, speed)
        + _context_parallel_seconds(plan, model, speed),
        once,
        *_host_seconds(plan, model, speed, weight_bytes, reduced),
    )


@dataclass(frozen=True)
class _Group:
    """Ranks of one collective."""

    degree: int
    link_bytes: float

    @classmethod
    def of(cls, plan: LaunchPlan, degree: int, stride: int, speed: DeviceSpeed) -> _Group:
        """Return a group of `degree` ranks, `stride` ranks apart."""
        crosses = degree * stride > plan.ranks_per_node
        return cls(degree, speed.network_bytes if crosses else speed.node_bytes)

    def seconds(self, num_bytes: float, num_calls: int) -> float:
        """Return the time of gathering or scattering so many bytes of the whole."""
        if self.degree <= 1 or not num_bytes:
            return 0.0
        moved = num_bytes * (self.degree - 1) / self.degree
        return moved / (self.link_bytes * LINK_SHARE) + num_calls * COLLECTIVE_SECONDS


def _weight_bytes(plan: LaunchPlan, model: ModelSpec) -> float:
    """Return the bytes of all weights as they are gathered."""
    compute = precision_of(plan, model).bytes_of("compute")
    if plan.base_quantization is None:
        return float(model.num_params * compute)
    layers = sum(unit.num_params * unit.count for unit in model.layers)
    return float(quantized_bytes(plan, layers) + (model.num_params - layers) * compute)


def _reduce_dtype(plan: LaunchPlan, model: ModelSpec) -> str:
    precision = precision_of(plan, model)
    if plan.reduce_dtype is not None:
        return plan.reduce_dtype
    return precision.compute if plan.is_fsdp else precision.gradient


def _tensor_parallel_seconds(plan: LaunchPlan, model: ModelSpec, speed: DeviceSpeed) -> float:
    degree = plan.tensor_parallel_degree
    if degree <= 1:
        return 0.0
    group = _Group.of(plan, degree, 1, speed)
    hidden = num_tokens(plan) * model.hidden_size * precision_of(plan, model).bytes_of("compute")
    return group.seconds(2 * 4 * hidden * model.num_layers, 4 * model.num_layers)


def _context_parallel_seconds(plan: LaunchPlan, model: ModelSpec, speed: DeviceSpeed) -> float:
    degree = plan.context_parallel_degree
    if degree <= 1:
        return 0.0
    group = _Group.of(plan, degree, 1, speed)
    width = precision_of(plan, model).bytes_of("compute")
    of_token = sum(u.count * 2 * u.layer.kv_size for u in model.layers if u.layer is not None)
    whole = degree * num_tokens(plan) * of_token * width
    return group.seconds(3 * whole, 3 * model.num_layers)


def _host_seconds(
    plan: LaunchPlan, model: ModelSpec, speed: DeviceSpeed, weight_bytes: float, reduced: float
) -> tuple[float, float]:
    """Return copies of a micro step, and those of the optimizer step, between device and host."""
    degree = 1 if plan.engine in DIVIDES_NOTHING else plan.shard_degree
    hidden = once = 0.0
    if plan.offload_params != "none":
        passes = 2 if plan.reshard_after_forward is not False else 1
        hidden += passes * weight_bytes / degree
        if plan.is_fsdp and plan.offload_optimizer == "none":
            hidden += reduced / degree  # gradients go down, to where the optimizer steps
    if plan.offload_optimizer != "none":
        hidden += reduced / degree  # gradients go down as they come
        once = reduced / degree
    if plan.offload_activations != "none":
        layer_inputs = num_tokens(plan) * model.hidden_size * model.num_layers
        hidden += 2 * layer_inputs * precision_of(plan, model).bytes_of("compute")
    return hidden / speed.host_bytes, once / speed.host_bytes
