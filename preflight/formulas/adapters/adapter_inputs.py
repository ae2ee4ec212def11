"""What adapters keep of a layer's inputs, and the copies that autocast makes for them."""

from __future__ import annotations

from preflight.formulas.adapters.adapter_kinds import (
    BRANCHES,
    branch_rank,
    keeps_input,
    kept_per_token,
)
from preflight.formulas.adapters.adapters import (
    adapter_targets,
    adapter_tensors,
    is_target,
    renamed_modules,
)
from preflight.formulas.adapters.linear_experts import FACT
from preflight.formulas.adapters.other_adapters import mode_of_adapter
from preflight.formulas.precision import Precision, uses_autocast
from preflight.launch import LaunchPlan
from preflight.model import LINEAR, ModelSpec, ModelUnit, ParameterTensor
from preflight.remembered import remembered


def adapter_inputs(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision
) -> int:
    """Return what LoRA's A and B keep of their inputs, per token, or an adapter of another kind.

    bf16 adapters share one input among q, k, v and among gate, up; fp32 adapters cast their own
    (peft/tuners/lora/layer.py, 0.21.2); dropout keeps a dropped copy and a bool mask per target. Frozen linear layers
    keep theirs too where they are ZeRO-3's own.
    """
    adapter = plan.adapter
    assert adapter is not None
    shape = unit.layer
    assert shape is not None
    targets = adapter_targets(adapter, model)
    c = precision.bytes_of("compute")
    copies = adapter_casts_inputs(plan, precision)
    is_wide = precision.trainable == "fp32" and plan.engine != "fsdp2"
    own = 4 if is_wide and not uses_autocast(plan) else c
    # a norm in fp32, or a packed expert behind one, hands fp32 on, which autocast narrows for each adapter that reads it
    is_cast = uses_autocast(plan) and has_fp32_residual(plan, model, precision)
    total, of_experts, shared = 0, 0, set()
    last = last_projection(unit)
    mode = None if adapter.kind in BRANCHES else mode_of_adapter(plan, precision)
    renamed = renamed_modules(plan, model, targets)
    frozen_too = keeps_every_input(plan, model)

    is_turned = mode is not None and bool(model.facts.get("conv1d"))

    def of_branch(
        tensor: ParameterTensor, input_group: str, out_features: int, in_features: int
    ) -> tuple[int, bool]:
        """Return the bytes that an adapter keeps of a token, and whether it reads its layer's input as that is."""
        kept = own * branch_rank(adapter)
        if mode is not None:
            kept += kept_per_token(adapter, tensor.module, out_features, in_features, mode)
            return kept, keeps_input(adapter, tensor.module, mode)
        if adapter.dropout > 0:
            return kept + own * in_features + in_features, False  # dropped copy and its bool mask
        if copies or (is_cast and (".experts." in tensor.name or input_group in OF_NORMS)):
            return kept + own * in_features, False
        return kept, True

    for tensor in unit.tensors:
        is_adapted = tensor.module not in renamed and is_target(tensor, targets)
        if not is_adapted and not (frozen_too and is_target(tensor, "all-linear")):
            continue
        path = tensor.name.rpartition(f".{tensor.module}.")[0]
        group = (path, input_group(tensor.module))
        out_features, in_features = tensor.shape[::-1] if is_turned else tensor.shape
        more, reads_bare = 0, True
        if is_adapted:
            more, reads_bare = of_branch(tensor, group[1], out_features, in_features)
        # what attention keeps of its output is its last projection's input
        if (reads_bare or frozen_too) and group not in shared and tensor is not last:
            shared.add(group)
            more += c * in_features
        if ".experts." in tensor.name:
            of_experts += more
        else:
            total += more
    # a token goes to some of the experts
    return total + of_experts * shape.experts_per_token // max(1, shape.num_experts)


def keeps_every_input(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether linear layers keep what they read although their weights are frozen: ZeRO-3 puts its own in the place of
    torch's, which saves the input of any (deepspeed/runtime/zero/linear.py LinearFunctionForZeroStage3, 0.15 to 0.19.8).

    Packed layers and GPT-2's do not call torch's.
    """
    if plan.engine != "zero3" or plan.base_quantization is not None or model.facts.get("conv1d"):
        return False
    return plan.deepspeed is None or plan.deepspeed.memory_efficient_linear


def keeps_packed_inputs(plan: LaunchPlan) -> bool:
    """Tell whether bitsandbytes' layers keep what they read (formulas/adapters/packed_inputs.py): 8-bit ones, and 4-bit ones of
    older releases. torchtune's are torchao's."""
    quantization, is_said = plan.base_quantization, "bitsandbytes" in plan.versions
    if quantization is None or plan.trainer == "torchtune":
        return False
    if quantization.scheme != "int8" and not is_said:
        return False  # a base that only may be packed, in a reading of the launch
    from preflight.versions.bitsandbytes import KEEPS_NO_INPUT  # few bases are packed

    return quantization.scheme == "int8" or not KEEPS_NO_INPUT.holds_in(plan.versions)


def _keeps_read(plan: LaunchPlan) -> bool:
    """Tell whether they keep it as it is, and not a copy in 8 bits alone."""
    if not keeps_packed_inputs(plan):
        return False
    from preflight.versions.bitsandbytes import KEEPS_EIGHT_BIT_INPUT

    return KEEPS_EIGHT_BIT_INPUT.holds_in(plan.versions)


def keeps_attention_output(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision
) -> bool:
    """Tell whether attention's last projection keeps its input as it is: where it trains, or where an adapter on it
    multiplies that very tensor, and not one that was cast or dropped from it."""
    adapter = plan.adapter
    if adapter is None or keeps_every_input(plan, model) or _keeps_read(plan):
        return True
    last = last_projection(unit)
    if last is None or not is_target(last, adapter_targets(adapter, model)):
        return False
    if adapter.kind not in BRANCHES:
        return keeps_input(adapter, last.module, mode_of_adapter(plan, precision))
    return adapter.dropout == 0 and not adapter_casts_inputs(plan, precision)


def last_projection(unit: ModelUnit) -> ParameterTensor | None:
    """Return the linear layer that reads what comes out of attention."""
    linears = [t for t in unit.tensors if t.kind == LINEAR and "att" in t.name.partition(".")[0]]
    return linears[-1] if linears else None


def adapter_casts_inputs(plan: LaunchPlan, precision: Precision) -> bool:
    """Tell whether an adapter multiplies a copy of its input in its own dtype.

    PEFT's bitsandbytes layers leave the cast to autocast, which casts nothing that is narrow already.
    """
    # FSDP1's sharded weight is fp32 too, and PEFT casts to its dtype before FSDP casts the weight
    is_wide = precision.trainable == "fp32" and precision.bytes_of("compute") == 2
    is_wide = is_wide and plan.engine != "fsdp2"
    return is_wide and not (uses_autocast(plan) and plan.base_quantization is not None)


def copied_of_experts(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision
) -> tuple[int, int]:
    """Return the bytes of autocast's copies of a layer's experts that are linear layers, and of adapters on them.

    No table has them: stacked experts are cast inside their product.
    """
    is_cast = uses_autocast(plan) and precision.compute != "fp32" and not plan.is_fsdp
    if not (model.facts.get(FACT) and is_cast):
        return 0, 0
    experts, adapters = 0, 0
    stored = precision.trainable if plan.adapter is None else precision.frozen
    if plan.base_quantization is None and stored == "fp32":
        experts = sum(t.num_params for t in unit.tensors if _is_expert(t))
    if plan.adapter is not None and precision.trainable == "fp32":
        adapters = sum(
            tensor.num_params
            for of_unit, tensor in adapter_tensors(plan, model)
            if of_unit is unit and _is_expert(tensor) and ".lora_" in tensor.name
        )
    return 2 * experts, 2 * adapters


def _is_expert(tensor: ParameterTensor) -> bool:
    return ".experts." in tensor.name and tensor.kind == LINEAR


def has_fp32_residual(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> bool:
    """Tell whether the stream between layers is fp32.

    Embeddings in fp32 make it so under autocast. Norms in fp32 (prepare_model_for_kbit_training,
    peft/utils/other.py:158) do, because RMSNorm multiplies by its weight last. And a 4-bit linear
    returns its input's dtype (bitsandbytes/nn/modules.py Linear4bit.forward), which after autocast's
    LayerNorm is fp32.
    """
    quantization = plan.base_quantization
    if trains_fp32_embedding(plan, model, precision):
        return True
    if quantization is not None:
        if quantization.upcast_unquantized_to_fp32 in ("norms", "all"):
            return True
        if model.facts.get("norm") == "layernorm" and uses_autocast(plan):
            return True
    return precision.autocast and precision.frozen == "fp32"


@remembered
def trains_fp32_embedding(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> bool:
    """Tell whether an embedding beside the adapters is trained in fp32 under autocast, which leaves its result alone."""
    if plan.adapter is None or not plan.adapter.modules_to_save or not uses_autocast(plan):
        return False
    return precision.trainable == "fp32" and any(
        unit.role == "embedding" and "lora_" not in tensor.name
        for unit, tensor in adapter_tensors(plan, model)
    )


ATTENTION_INPUTS = ("q_proj", "k_proj", "v_proj", "q_a_proj", "kv_a_proj_with_mqa")
OF_NORMS = ("attention_input", "mlp_input")


def input_group(module: str) -> str:
    if module in ATTENTION_INPUTS or module.startswith("in_proj_"):
        return "attention_input"
    if module in ("gate_proj", "up_proj"):
        return "mlp_input"
    return module
