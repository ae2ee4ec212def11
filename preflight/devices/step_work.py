"""Seconds of one micro step's own work on one rank: products, attention, elementwise kernels, the loss.

products      2 x parameters x tokens forward, as much again for gradients of inputs and once more for
              those of weights that train (Kaplan et al. 2020, section 2.1)
recomputation one more forward of what is checkpointed (Chen et al. 2016, section 4.1)
attention     4 x query width x visible length a token forward, 2.5 times that backward
              (Dao 2023, section 3.1: five products in place of two); eager attention moves its scores
              through device memory instead
unpacking     4 bits read, 16 written and read again, in every pass over a packed weight
"""

from __future__ import annotations

from preflight.devices.gpu_speeds import DeviceSpeed
from preflight.formulas.adapters.adapters import adapter_tensors, num_trainable_params
from preflight.formulas.precision import is_quantized, precision_of
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.model import EXPERTS, LINEAR, ModelSpec, ModelUnit
from preflight.units import ceil_div
from preflight.values import dataclass

MATMUL_SHARE = 0.7
"""Of peak FLOPs that a layer's products reach: less than large square ones alone (790 of 989 TFLOP/s measured on
an H200, 2026), more than whole training steps (0.42 to 0.57 on A100, Korthikanti et al. 2022, table 5)."""
HALF_SPEED_TOKENS = 256
"""Rows at which a product reaches half of that: with tiles of 128 x 256 fewer do not fill a hundred
multiprocessors. Assumed in its shape, not measured (November 2026)."""
ATTENTION_SHARE = 0.4
"""Of peak FLOPs that fused attention reaches, both passes together (Dao 2023, figures 4 to 6, A100: 0.3 to 0.6)."""
UNPACKING_SHARE = 0.35
"""Of peak bandwidth that bitsandbytes' kernel reaches with nested scales and one launch a weight. Chosen so that
QLoRA takes 10 to 40 percent more than LoRA at 1,000 to 4,000 tokens, which is the range that users report."""
MEMORY_SHARE = 0.8
"""Of peak bandwidth that elementwise kernels reach on large tensors. Assumed (November 2026)."""
KERNEL_SECONDS = 5e-6
"""To launch one kernel from Python (PyTorch's own profiler recipes show 4 to 10 microseconds). Assumed."""
KERNELS_FORWARD, KERNELS_BACKWARD = 40, 80
"""Of one decoder layer, counted in a trace of Llama 3 (transformers 5.24)."""
ATTENTION_BACKWARD = 2.5
EAGER_SCORE_PASSES = 6
"""Times that scores cross device memory in a forward: scaled, masked, cast up, normalised, cast down, dropped
(transformers eager_attention_forward, 5.24); twice that backward."""
SELECTIVE_SHARE = {"none": 0.0, "full": 1.0, "selective_op": 0.5, "selective_every_2": 0.5}
"""Of the layers' forward that is done twice: torchtitan's selective_op keeps every second product and
attention, every_n_layers 2 leaves out half of the layers (torchtitan/distributed/activation_checkpoint.py)."""
LOSS_BYTES, FUSED_LOSS_BYTES = 36, 12
"""That cross device memory for one logit beside its product. Of single operations: cast up 6, log_softmax 8,
its gradient's zeros 4, log_softmax backward 12, cast down 6; of one kernel, or a compiled chain: three passes
over 16 bits each way."""
FUSED_LOSSES = ("fused_ce", "compiled_ce", "fused_linear")
NORM_PASSES, ROTARY_PASSES, GATE_PASSES = 18, 10, 5
"""Elements read and written for each that goes in, forward, by single operations of transformers 5.24:
LlamaRMSNorm casts up (3), squares (4), averages (2), scales (4), casts down (3), multiplies (3), of which fp32
counts twice, one read saved by the cache; rotate_half and its two products and sum 10; silu and product 5."""
RESIDUAL_PASSES = 3
COMPILED_NORM_PASSES, COMPILED_ROTARY_PASSES, COMPILED_GATE_PASSES = 4, 2, 3
"""The same in one kernel each; a residual addition and the norm after it read two and write two."""
ADAPTER_OUTPUT_PASSES, COMPILED_ADAPTER_OUTPUT_PASSES = (6, 4), (4, 3)
"""Forward and backward, of a LoRA branch's output: written, scaled (2), added to the base's (3); its gradient scaled
(2) and read twice (peft/tuners/lora/layer.py Linear.forward, 0.21.2). A compiled scale needs no pass of its own."""
ADAPTER_INPUT_PASSES = 1, 5
"""Of its input: read; read for A's gradient, its gradient written and added to the base's (3)."""
ADAPTER_CAST_PASSES = 6, 6
"""Of its input beside that: cast up to an fp32 adapter (3) and back down by autocast (3)."""
ADAPTER_KERNELS = 15
"""Of one adapted weight, both passes: two products, scale and sum forward, twice that and two sums backward."""


@dataclass(frozen=True)
class Work:
    """Seconds of one micro step on one rank."""

    products: float
    attention: float
    elementwise: float
    recomputed: float
    unpacking: float
    loss: float
    waiting: float
    """For kernels to be launched, where the device is faster than Python."""

    @property
    def forward(self) -> float:
        """What a first forward takes: a third of all that is not recomputed."""
        return (self.products + self.attention + self.elementwise + self.waiting) / 3


def work_of(plan: LaunchPlan, model: ModelSpec, speed: DeviceSpeed) -> Work:
    """Return the work of one micro step; batch, length and layers must be known."""
    tokens = num_tokens(plan)
    matmul = speed.flops * MATMUL_SHARE * tokens / (tokens + HALF_SPEED_TOKENS)
    memory = speed.memory_bytes * MEMORY_SHARE
    precision = precision_of(plan, model)
    width = precision.bytes_of("compute")
    if width == 4:
        matmul /= 2  # TF32 runs at half the 16-bit rate (NVIDIA A100 whitepaper 2020, table 3)
    degree = plan.tensor_parallel_degree
    active = sum(_active_params(unit) * unit.count for unit in model.layers)
    layers = 2 * active * tokens / degree / matmul
    head = 2 * model.vocab_size * model.hidden_size * tokens / degree / matmul
    products = (layers + head) * (3 if plan.adapter is None else 2)
    if plan.adapter is not None:
        products += 6 * num_trainable_params(plan, model) * tokens / matmul
    scores, moved_scores = _attention(plan, model)
    attention_forward = scores / (speed.flops * ATTENTION_SHARE) + moved_scores / memory
    compiled = plan.torch_compile
    touched = sum(_touched_width(unit, compiled) * unit.count for unit in model.layers)
    branches = _branches(plan, model)
    elementwise_forward = tokens * width * (touched + branches.forward) / degree / memory
    share = SELECTIVE_SHARE[plan.activation_checkpointing]
    recomputed = share * (layers + elementwise_forward)
    if plan.activation_checkpointing != "selective_op":
        recomputed += share * attention_forward
    attention = (1 + ATTENTION_BACKWARD) * attention_forward
    elementwise = elementwise_forward
    elementwise += tokens * width * (2 * touched + branches.backward) / degree / memory
    packed = _packed_params(plan, model) / degree
    passes = 2 + (plan.activation_checkpointing == "full")
    moved = passes * packed * (0.5 + 2 * width)
    unpacking = moved / (speed.memory_bytes * UNPACKING_SHARE)
    one_kernel = compiled or plan.loss in FUSED_LOSSES
    logit_bytes = FUSED_LOSS_BYTES if one_kernel else LOSS_BYTES
    loss = logit_bytes * tokens * model.vocab_size / degree / memory
    if plan.loss == "chunked_linear":
        loss += head  # each chunk's logits are made again in its backward
    busy = products + attention + elementwise + recomputed + unpacking
    kernels = KERNELS_FORWARD * (1 + share) + KERNELS_BACKWARD
    launched = kernels * model.num_layers + ADAPTER_KERNELS * branches.count
    launching = launched * KERNEL_SECONDS / (2 if compiled else 1)
    waiting = max(0.0, launching - busy)
    return Work(products, attention, elementwise, recomputed, unpacking, loss, waiting)


def _active_params(unit: ModelUnit) -> int:
    """Return the weights of one layer that a token is multiplied with."""
    dense = sum(tensor.num_params for tensor in unit.tensors if tensor.kind == LINEAR)
    experts = sum(tensor.num_params for tensor in unit.tensors if tensor.kind == EXPERTS)
    layer = unit.layer
    if layer is None or not layer.num_experts:
        return dense + experts
    return dense + ceil_div(experts * layer.experts_per_token, layer.num_experts)


def _attention(plan: LaunchPlan, model: ModelSpec) -> tuple[float, float]:
    """Return FLOPs of fused attention and bytes of eager scores in one forward of all layers."""
    tokens, length = num_tokens(plan), plan.seq_len or 0
    flops = moved = 0.0
    for unit in model.layers:
        layer = unit.layer
        if layer is None or layer.attention_kind in ("linear", "none"):
            continue
        seen = length / 2 if plan.attention != "eager" else length
        if layer.sliding_window is not None:
            seen = min(seen, layer.sliding_window)
        flops += unit.count * 4 * layer.query_size * seen * tokens
        if plan.attention == "eager":
            moved += unit.count * EAGER_SCORE_PASSES * 4 * layer.num_heads * length * tokens
    degree = plan.tensor_parallel_degree
    return flops / degree, moved / degree


def _touched_width(unit: ModelUnit, compiled: bool) -> int:
    """Return elements per token that elementwise kernels of one layer's forward read and write."""
    layer = unit.layer
    if layer is None:
        return 0
    experts = layer.experts_per_token * layer.moe_intermediate_size
    inner = layer.intermediate_size + experts + layer.shared_expert_intermediate_size
    norm, rotary, gate = NORM_PASSES + RESIDUAL_PASSES, ROTARY_PASSES, GATE_PASSES
    if compiled:
        norm, rotary, gate = COMPILED_NORM_PASSES, COMPILED_ROTARY_PASSES, COMPILED_GATE_PASSES
    rotated = layer.query_size + layer.kv_size
    return 2 * norm * layer.hidden_size + rotary * rotated + gate * inner


@dataclass(frozen=True)
class _Branches:
    """The adapters' branches beside the base: elements per token that they read and write, and their number."""

    forward: int = 0
    backward: int = 0
    count: int = 0


def _branches(plan: LaunchPlan, model: ModelSpec) -> _Branches:
    if plan.adapter is None:
        return _Branches()
    precision = precision_of(plan, model)
    # FSDP and DeepSpeed compute in one dtype; elsewhere PEFT casts the input to the adapter's
    is_cast = not plan.is_fsdp and precision.trainable != precision.compute
    casts = ADAPTER_CAST_PASSES if is_cast else (0, 0)
    outputs = COMPILED_ADAPTER_OUTPUT_PASSES if plan.torch_compile else ADAPTER_OUTPUT_PASSES
    inputs = tuple(map(sum, zip(ADAPTER_INPUT_PASSES, casts, strict=True)))
    num_inputs = num_outputs = count = 0
    for unit, tensor in adapter_tensors(plan, model):
        if tensor.name.endswith("lora_A") and len(tensor.shape) == 2:
            num_inputs += unit.count * tensor.shape[1]
            count += unit.count
        elif tensor.name.endswith("lora_B") and len(tensor.shape) == 2:
            num_outputs += unit.count * tensor.shape[0]
    forward, backward = (num_inputs * inputs[way] + num_outputs * outputs[way] for way in (0, 1))
    return _Branches(forward, backward, count)


def _packed_params(plan: LaunchPlan, model: ModelSpec) -> int:
    if plan.base_quantization is None:
        return 0
    return sum(
        tensor.num_params * unit.count
        for unit in model.layers
        for tensor in unit.tensors
        if is_quantized(plan, unit, tensor)
    )
