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

from preflight.gpu_speeds import DeviceSpeed
from preflight.launch import LaunchPlan
from preflight.model import EXPERTS, LINEAR, ModelSpec, ModelUnit
from preflight.precision import is_quantized, num_trainable_params, precision_of
from preflight.sharding import num_tokens
from preflight.units import ceil_div
from preflight.values import dataclass

MATMUL_SHARE = 0.6
"""Of peak FLOPs that large products reach: whole training steps on A100 report 0.42 to 0.57 of peak
(Korthikanti et al. 2022, table 5), and their products are faster than the whole."""
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
LOSS_PASSES = 3
"""Times that an fp32 logit crosses device memory beside its product: softmax forward, gradient, cast."""


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
    touched = tokens * width * sum(_touched_width(unit) * unit.count for unit in model.layers)
    if plan.torch_compile:
        touched //= 2  # a chain of elementwise operations becomes one kernel
    elementwise_forward = touched / degree / memory
    share = SELECTIVE_SHARE[plan.activation_checkpointing]
    recomputed = share * (layers + elementwise_forward)
    if plan.activation_checkpointing != "selective_op":
        recomputed += share * attention_forward
    attention = (1 + ATTENTION_BACKWARD) * attention_forward
    elementwise = 3 * elementwise_forward
    packed = _packed_params(plan, model) / degree
    passes = 2 + (plan.activation_checkpointing == "full")
    moved = passes * packed * (0.5 + 2 * width)
    unpacking = moved / (speed.memory_bytes * UNPACKING_SHARE)
    loss = LOSS_PASSES * 4 * tokens * model.vocab_size / degree / memory
    if plan.loss == "chunked_linear":
        loss += head  # each chunk's logits are made again in its backward
    busy = products + attention + elementwise + recomputed + unpacking
    kernels = KERNELS_FORWARD * (1 + share) + KERNELS_BACKWARD
    launching = kernels * KERNEL_SECONDS * model.num_layers / (2 if plan.torch_compile else 1)
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


def _touched_width(unit: ModelUnit) -> int:
    """Return elements per token that elementwise kernels of one layer's forward read and write.

    Two norms and two additions touch the hidden state sixteen times, rotation the queries and keys
    four times, the gated activation the intermediate state five times (transformers LlamaDecoderLayer).
    """
    layer = unit.layer
    if layer is None:
        return 0
    experts = layer.experts_per_token * layer.moe_intermediate_size
    inner = layer.intermediate_size + experts + layer.shared_expert_intermediate_size
    return 16 * layer.hidden_size + 4 * (layer.query_size + layer.kv_size) + 5 * inner


def _packed_params(plan: LaunchPlan, model: ModelSpec) -> int:
    if plan.base_quantization is None:
        return 0
    return sum(
        tensor.num_params * unit.count
        for unit in model.layers
        for tensor in unit.tensors
        if is_quantized(unit, tensor)
    )
