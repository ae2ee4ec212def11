"""What bitsandbytes' frozen layers keep of what they read, which autograd would not.

    release        4 bits                       8 bits
    to 0.38        -                            a copy in 8 bits
    0.39, 0.40     what it reads, cast          what it reads, and a copy in 8 bits
    0.41 to 0.43.1 what it reads                the same
    0.43.2, 0.44   nothing                      the same
    from 0.45      nothing                      what it reads

All of it hangs on the layers' nodes and is no saved tensor (`ctx.tensors`, preflight/versions/bitsandbytes.py): offloading does
not move it, and of a checkpoint that is not reentrant the nodes of the first forward stay. 4-bit layers before 0.41, and all
that read fp16, cast to their compute dtype first, each for itself.
"""

from __future__ import annotations

from preflight.formulas.adapters.adapter_inputs import (
    OF_NORMS,
    adapter_casts_inputs,
    has_fp32_residual,
    input_group,
    last_projection,
)
from preflight.formulas.adapters.adapter_kinds import BRANCHES, keeps_input
from preflight.formulas.adapters.adapters import adapter_targets, is_target
from preflight.formulas.adapters.other_adapters import mode_of_adapter
from preflight.formulas.precision import Precision, is_quantized, uses_autocast
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit, ParameterTensor
from preflight.units import dtype_bytes
from preflight.values import NamedTuple
from preflight.versions.bitsandbytes import (
    COMPUTES_AS_GIVEN,
    KEEPS_EIGHT_BIT_INPUT,
    KEEPS_NO_EIGHT_BIT_COPY,
)


class PackedInputs(NamedTuple):
    """Bytes per token that the packed layers of one decoder layer keep."""

    beside: int
    """What adapters and attention do not keep already, attention's output apart."""
    whole: int
    """All of it, where nothing else of the layer is kept."""


def packed_inputs(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision
) -> PackedInputs:
    """Return what the packed layers of a decoder layer keep, where their release has them keep what they read."""
    quantization, shape = plan.base_quantization, unit.layer
    assert quantization is not None and shape is not None
    is_wide, last = has_fp32_residual(plan, model, precision), last_projection(unit)
    is_int8 = quantization.scheme == "int8"
    keeps_read = not is_int8 or KEEPS_EIGHT_BIT_INPUT.holds_in(plan.versions)
    has_copy = is_int8 and not KEEPS_NO_EIGHT_BIT_COPY.holds_in(plan.versions)
    beside, whole, seen = 0.0, 0.0, set[tuple[str, str]]()
    packed = [tensor for tensor in unit.tensors if is_quantized(plan, unit, tensor)]
    kept = {
        _source(model, unit, tensor)
        for tensor in packed
        if tensor is last
        or _is_kept_by_adapter(plan, model, tensor, precision, is_wide)
        or _reads_rectified(model, unit, tensor)
    }
    for tensor in packed:
        num_tokens, source = 1.0, _source(model, unit, tensor)
        if ".experts." in tensor.name:
            num_tokens = shape.experts_per_token / max(1, shape.num_experts)
        numbers = num_tokens * _inputs(model, tensor)
        is_narrow = not is_wide or (tensor is last and uses_autocast(plan))
        cast = 0 if is_int8 else _cast_bytes(plan, precision, not is_narrow)
        own = numbers * (has_copy + cast)
        beside, whole = beside + own, whole + own
        if keeps_read and not cast and source not in seen:
            seen.add(source)
            read = numbers * (precision.bytes_of("compute") if is_narrow else 4)
            beside, whole = beside + (0 if source in kept else read), whole + read
    return PackedInputs(round(beside), round(whole))


def _cast_bytes(plan: LaunchPlan, precision: Precision, is_wide: bool) -> int:
    """Return the bytes per number of the copy that each 4-bit layer makes of what it reads, 0 where it reads it as it is."""
    assert plan.base_quantization is not None
    read = "fp32" if is_wide else precision.compute
    compute = plan.base_quantization.compute_dtype or "fp32"
    if compute == read or (read != "fp16" and COMPUTES_AS_GIVEN.holds_in(plan.versions)):
        return 0
    return dtype_bytes(compute)


def _source(model: ModelSpec, unit: ModelUnit, tensor: ParameterTensor) -> tuple[str, str]:
    """Return what a linear layer reads: what others of its source read too is one tensor."""
    path = tensor.name.rpartition(f".{tensor.module}.")[0] if ".experts." in tensor.name else ""
    group = input_group(tensor.module)
    assert unit.layer is not None
    if group not in OF_NORMS and tensor is not last_projection(unit):
        reads_norm = _inputs(model, tensor) == unit.layer.hidden_size
        is_attention = "att" in tensor.name.partition(".")[0]
        group = OF_NORMS[0 if is_attention else 1] if reads_norm else group
    if group in OF_NORMS and model.facts.get("parallel_block") and not model.facts.get("two_norms"):
        group = OF_NORMS[0]
    return path, group


def _inputs(model: ModelSpec, tensor: ParameterTensor) -> int:
    """Return the numbers of a token that a linear layer reads; GPT-2's have them first."""
    return tensor.shape[0 if model.facts.get("conv1d") else 1]


def _reads_rectified(model: ModelSpec, unit: ModelUnit, tensor: ParameterTensor) -> bool:
    """Tell whether a layer reads what a ReLU returns, which is what that keeps."""
    is_rectified = model.facts.get("activation") == "relu" and model.facts.get("mlp") != "gated"
    assert unit.layer is not None
    return is_rectified and _inputs(model, tensor) == unit.layer.intermediate_size


def _is_kept_by_adapter(
    plan: LaunchPlan,
    model: ModelSpec,
    tensor: ParameterTensor,
    precision: Precision,
    is_wide: bool,
) -> bool:
    """Tell whether an adapter on a layer keeps what that reads, as it is: what was not dropped, nor cast to another dtype."""
    adapter = plan.adapter
    if adapter is None or not is_target(tensor, adapter_targets(adapter, model)):
        return False
    if adapter.kind not in BRANCHES:
        mode = mode_of_adapter(plan, precision)
        return not is_wide and keeps_input(adapter, tensor.module, mode)
    if adapter.dropout:
        return False
    if is_wide:
        return precision.trainable == "fp32" and not uses_autocast(plan)
    return not adapter_casts_inputs(plan, precision)
