"""Which dtype each model state has: the rule of engine, optimizer and version."""

from __future__ import annotations

from preflight.formulas.adapters.frozen_parts import AROUND, SEEING
from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.formulas.user_loop import has_own_model_code
from preflight.launch import LaunchPlan
from preflight.model import (
    ALL_PARAMETERS,
    BIAS,
    EXPERTS,
    LINEAR,
    ModelSpec,
    ModelUnit,
    ParameterTensor,
)
from preflight.remembered import first_of_equals, remembered
from preflight.units import dtype_bytes
from preflight.values import dataclass
from preflight.versions.accelerate import KEEPS_LOADED_DTYPE
from preflight.versions.transformers import LOADS_CHECKPOINTS_DTYPE, PACKS_PLAIN_LINEAR_ALONE


@dataclass(frozen=True)
class Precision:
    """Short dtype names of every model state of one plan."""

    frozen: str
    """Weights that do not train (and are not quantized)."""
    trainable: str
    """Weights that train, as they are stored between steps."""
    compute: str
    """The dtype matrix products run in, and of saved activations."""
    gradient: str
    optimizer_state: str
    master: str | None
    """A separate master copy of the trainable weights (ZeRO); None where `trainable` is the only copy."""
    autocast: bool
    """fp32 weights cast on the fly inside torch.autocast."""
    logits: str

    def bytes_of(self, name: str) -> int:
        """Return the bytes per element of one of the fields above."""
        return dtype_bytes(getattr(self, name))

    def whole_bytes(self, elements: int, trained: int) -> int:
        """Return the bytes of a module's weights, so many of whose elements train."""
        frozen = elements - trained
        return self.bytes_of("trainable") * trained + self.bytes_of("frozen") * frozen


@remembered
def precision_of(plan: LaunchPlan, model: ModelSpec) -> Precision:
    """Return the dtypes of a plan (semantics of accelerate 1.15, DeepSpeed 0.19, PEFT 0.21).

    single, ddp: weights stay as loaded, AdamW's states have the weights' dtype, no master copy
    (accelerate/accelerator.py:1824). FSDP with mixed precision: trainable shards are fp32
    (accelerate/utils/fsdp_utils.py:815, accelerator.py:1919), but for FSDP2 of accelerate 1.13; a script's own FSDP call
    leaves them as loaded. ZeRO: everything in the compute dtype and an fp32 master (deepspeed/runtime/engine.py:2080).
    """
    loaded = load_dtype(plan, model)
    mixed = plan.mixed_precision if plan.mixed_precision in ("bf16", "fp16") else None
    if plan.mixed_precision == "fp8":
        mixed = "bf16"
    trainable = _adapter_dtype(plan, loaded) if plan.adapter else loaded
    frozen, master = loaded, None
    asked = trainable if plan.master_dtype == "loaded" else plan.master_dtype
    if plan.zero_stage is not None:
        compute = mixed or "fp32"
        frozen = trainable = gradient = compute
        master = asked or "fp32"
        state = plan.optimizer_state_dtype or master
        if plan.deepspeed is not None and plan.deepspeed.grad_accum_dtype:
            gradient = plan.deepspeed.grad_accum_dtype
        autocast = False
    else:
        compute = mixed or loaded
        if plan.is_fsdp and mixed:
            is_kept = plan.engine == "fsdp2" and KEEPS_LOADED_DTYPE.holds_in(plan.versions)
            trainable = asked or (trainable if is_kept else "fp32")
        elif asked and not plan.adapter:
            trainable = asked
        gradient = trainable
        state = plan.optimizer_state_dtype or trainable
        autocast = not plan.is_fsdp and mixed is not None and "fp32" in (loaded, trainable)
    logits = plan.logits_dtype or compute
    found = Precision(frozen, trainable, compute, gradient, state, master, autocast, logits)
    return first_of_equals(found)


def load_dtype(plan: LaunchPlan, model: ModelSpec) -> str:
    """Return the dtype that the weights are loaded in."""
    if plan.load_dtype not in (None, "auto"):
        return plan.load_dtype
    if plan.load_dtype == "auto" or LOADS_CHECKPOINTS_DTYPE.holds_in(plan.versions):
        return model.config_dtype or "fp32"
    return "fp32"


def uses_autocast(plan: LaunchPlan) -> bool:
    """Tell whether the forward runs inside torch.autocast: mixed precision anywhere but FSDP2 and DeepSpeed
    (accelerate/accelerator.py:1672-1758, 1.15.0)."""
    return plan.mixed_precision != "no" and plan.engine in ("single", "ddp", "fsdp1")


def _adapter_dtype(plan: LaunchPlan, loaded: str) -> str:
    """fp32 for a 16-bit base unless asked otherwise (peft autocast_adapter_dtype, tuners_utils.py:2705)."""
    assert plan.adapter is not None
    return plan.adapter.dtype or "fp32"


def missing_inputs(plan: LaunchPlan, model: ModelSpec | None) -> tuple[str, ...]:
    """Return the plan fields without which no estimate is an answer."""
    names = []
    if model is None:
        names.append("model")
    elif not model.is_decoder_lm:
        what = model.facts.get("headless", model.model_type)
        names.append(f"an activation formula for {what}")
    unpriced = unpriced_objective(plan)
    if unpriced and not any(n.unpriced and n.takes != "less" for n in plan.notices):
        names.append(f"a formula for {unpriced}")
    for name in ("micro_batch_size", "seq_len"):
        if getattr(plan, name) is None:
            names.append(name)
    if model is not None and model.has_both_stacks and plan.target_len is None:
        names.append("target_len")
    return tuple(names)


def keeps_fp32(plan: LaunchPlan) -> bool:
    """Tell whether the engine leaves a weight that was loaded in fp32 among others as it is.

    FSDP's mixed precision casts what it gathers, DeepSpeed the parameters of the whole model
    (deepspeed/runtime/engine.py:2085, 0.19.8).
    """
    return plan.engine in ("single", "ddp")


def gradient_element_bytes(plan: LaunchPlan, precision: Precision, tensor: ParameterTensor) -> int:
    """Return the bytes per element of a tensor's gradient."""
    if tensor.stays_fp32 and keeps_fp32(plan):
        return 4
    return precision.bytes_of("gradient")


def frozen_element_bytes(
    plan: LaunchPlan, precision: Precision, unit: ModelUnit, tensor: ParameterTensor
) -> int:
    """Return the bytes per element of a tensor that neither trains nor is packed.

    prepare_model_for_kbit_training makes every such tensor fp32 (peft/utils/other.py:158, 0.21.2); `norms`
    is what has one dimension. A packed layer's first product makes its bias narrow for good (bitsandbytes/nn/
    modules.py Linear4bit.forward, 0.50.2). An adapter of what runs without gradients is as wide as the others.
    """
    if ".lora_" in tensor.name:
        return precision.bytes_of("trainable")
    if tensor.stays_fp32 and keeps_fp32(plan):
        return 4
    quantization = plan.base_quantization
    upcast = quantization.upcast_unquantized_to_fp32 if quantization is not None else None
    if upcast == "all" or (upcast == "norms" and len(tensor.shape) == 1):
        return _packed_bias_bytes(plan, unit, tensor) or 4
    return precision.bytes_of("frozen")


def _packed_bias_bytes(plan: LaunchPlan, unit: ModelUnit, tensor: ParameterTensor) -> int:
    """Return the bytes per element of a packed layer's bias, 0 for any other tensor."""
    quantization = plan.base_quantization
    if quantization is None or quantization.scheme == "int8" or tensor.kind != BIAS:
        return 0
    weight = tensor.name.removesuffix("bias") + "weight"
    packed = any(t.name == weight and is_quantized(plan, unit, t) for t in unit.tensors)
    return dtype_bytes(quantization.compute_dtype or "fp32") if packed else 0


STACKED = 3
"""Dimensions of a stack of experts."""


def is_quantized(plan: LaunchPlan, unit: ModelUnit, tensor: ParameterTensor) -> bool:
    """Tell whether bitsandbytes packs a tensor: linear weights of all but the head (transformers/quantizers/base.py:39),
    and stacks of experts where a launcher has it do so. litgpt's head is packed too: Fabric puts bitsandbytes' class in the
    place of torch's while the model is made (lightning/fabric/plugins/precision/bitsandbytes.py module_init_context).

    Of a model that is counted alone everything may be packed, which is the least that it takes.
    """
    if unit.name == ALL_PARAMETERS:
        return True
    if tensor.kind == EXPERTS and len(tensor.shape) == STACKED:
        return plan.base_quantization is not None and plan.base_quantization.experts
    is_own = tensor.is_of_subclass and not has_own_model_code(plan)
    is_head = unit.role == "lm_head" and plan.trainer == "litgpt"
    return (
        (unit.role in ("layer", *AROUND, *SEEING) or is_head)
        and not (is_own and PACKS_PLAIN_LINEAR_ALONE.holds_in(plan.versions))
        and tensor.kind == LINEAR
        and len(tensor.shape) == 2
        and tensor.name.endswith("weight")
    )
