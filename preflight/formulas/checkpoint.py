"""What a checkpoint decides of a plan: how its weights are packed, and the dtype that they are stored in.

transformers packs a model whose config has a `quantization_config` whatever the script says (auto_factory.py and
quantizers/auto.py, 5.24), and from version 5 on it loads weights in the dtype that they are stored in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import Problem
from preflight.formulas.user_loop import OF_HUB_CODE, has_own_model_code
from preflight.launch import BaseQuantization, LaunchPlan, Origin
from preflight.memory import ALWAYS, MemoryTerm
from preflight.model import EXPERTS, LINEAR, ModelSpec
from preflight.units import ceil_div
from preflight.unpriced_names import GPTQ_OR_AWQ, LEFT_WHOLE
from preflight.values import replace
from preflight.versions.transformers import LOADS_CHECKPOINTS_DTYPE

UNPACKED = ("mxfp4",)
"""Methods whose weights are unpacked before training: `Mxfp4HfQuantizer.is_trainable` is False otherwise (5.24)."""
USUALLY_LEFT = ("lm_head", "embed", "vision", "visual", "projector", "merger", "audio", "score")
"""Parts of the names of modules that no 4-bit copy packs: what stands around the decoder."""
AQLM = "weights stored in aqlm"
BOUNDED = ("weights stored in gptq", "weights stored in awq", AQLM)
BY_BITS = ("weights stored in int4", "weights stored in int8")
WIDEST_BITS, NARROWEST_GROUP = 8, 32
CODEBOOKS = 2 * 65536 * 16 * 2
"""Bytes of a matrix's codebooks at most: two of 16 bits for 16 numbers, in fp16 (AQLM's published copies have no more)."""
UNPACKING = 20
"""Bytes of a number while its matrix is unpacked: int32 before and after the mask, zeros and their difference, scales."""
OF_CHECKPOINT = "quantization_config of "
"""How the origin of a packing begins that the model's own config gives."""


def with_checkpoint(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return the plan with what the model's checkpoint decides, and what it leaves open."""
    if has_own_model_code(plan):
        return plan
    return _with_stored_dtype(_with_own_dtype(_with_packing(plan, model), model), model)


def bits_and_bytes(values: Mapping[str, Any]) -> BaseQuantization | None:
    """Return what a `quantization_config` of bitsandbytes says; None for another library's."""
    if values.get("load_in_8bit") or values.get("_load_in_8bit"):
        return BaseQuantization("int8")
    if not values.get("load_in_4bit") and not values.get("_load_in_4bit"):
        return None
    return BaseQuantization(
        scheme=str(values.get("bnb_4bit_quant_type", "fp4")),
        double_quant=bool(values.get("bnb_4bit_use_double_quant", False)),
        compute_dtype=dtype_name(values.get("bnb_4bit_compute_dtype")),
        storage_dtype=dtype_name(values.get("bnb_4bit_quant_storage")),
    )


DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def dtype_name(value: object) -> str | None:
    """Return torch.bfloat16, or its name, as bf16; None for what holds no weights, such as packed bits."""
    return DTYPES.get(str(value).removeprefix("torch."))


def _with_packing(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    values = model.config.get("quantization_config")
    origin = plan.origins.get("base_quantization")
    is_said = origin is not None and not origin.assumed
    if not isinstance(values, Mapping) or is_said:
        return plan
    packing = bits_and_bytes(values)
    if packing is None:
        method = str(values.get("quant_method", "an unknown way"))
        return plan if method in UNPACKED else _noticed(plan, _not_priced(plan, model, method))
    settled = Origin(f"{OF_CHECKPOINT}{model.name}")
    origins = {**plan.origins, "base_quantization": settled}
    plan = replace(plan, base_quantization=packing, origins=origins)
    left = values.get("llm_int8_skip_modules")
    names = [str(name) for name in left] if isinstance(left, (list, tuple)) else []
    if all(any(part in name for part in USUALLY_LEFT) for name in names):
        return plan
    return _noticed(plan, _layers_left(plan, model))


def _with_own_dtype(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return the plan with the dtype that a type's own code makes its parameters in where nobody says another: that of
    its config, in every release (modeling_chatglm.py: `dtype=config.torch_dtype`, and half of the first)."""
    origin = plan.origins.get("load_dtype", Origin("", True))
    is_settled = not origin.assumed or bool(origin.may_be)
    if model.model_type not in OF_HUB_CODE or model.config_dtype is None or is_settled:
        return plan
    settled = Origin(
        f"the code of {model.name}", True, "it makes its weights in its config's dtype"
    )
    origins = {**plan.origins, "load_dtype": settled}
    return replace(plan, load_dtype=model.config_dtype, origins=origins)


def _with_stored_dtype(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return the plan with its load dtype open, where the weights are loaded as they are stored and nobody says how."""
    is_open = bool(plan.origins.get("load_dtype", Origin("")).may_be)
    is_stored = plan.load_dtype == "auto" or (
        plan.load_dtype is None and LOADS_CHECKPOINTS_DTYPE.holds_in(plan.versions)
    )
    if is_open or not (model.stored_dtypes and is_stored):
        return plan
    likely, *others = model.stored_dtypes
    reason = f"nobody says what the weights of {model.name} are stored in"
    settled = Origin("the checkpoint", True, reason, tuple(others))
    return replace(plan, load_dtype=likely, origins={**plan.origins, "load_dtype": settled})


def _noticed(plan: LaunchPlan, problem: Problem) -> LaunchPlan:
    return plan if problem in plan.notices else replace(plan, notices=(*plan.notices, problem))


def _not_priced(plan: LaunchPlan, model: ModelSpec, method: str) -> Problem:
    return Problem.left_out(
        f"the weights of {model.name} are stored in {method}, and counted as if they were not",
        _where(plan),
        f"weights stored in {method}",
        "either",
        "the model that it is a copy of, or a bitsandbytes copy of it",
        "PF124",
    )


def bounded(plan: LaunchPlan) -> frozenset[str]:
    """Return what of a plan's notices `packed_at_most` bounds: a base that GPTQ, AWQ or AQLM packed, under an adapter.

    A copy that says its bits alone is one of these where the script loads it as that; a model that is no packed copy
    would be packed as it is loaded, which is not bounded here.
    """
    named = {notice.unpriced for notice in plan.notices}
    stored = named & {*BOUNDED, *(BY_BITS if GPTQ_OR_AWQ in named else ())}
    return frozenset(stored | (named & {GPTQ_OR_AWQ})) if plan.adapter and stored else frozenset()


def packed_at_most(plan: LaunchPlan, model: ModelSpec) -> MemoryTerm:
    """Return the most that a base of GPTQ, AWQ or AQLM takes beside the same weights in 16 bits.

    A kernel without a backward of its own unpacks a matrix, which the graph then keeps whole: 16-bit weights, as they are
    counted, and the packed ones beside them (TorchLinear._forward_eager, gptqmodel/nn_modules/qlinear/torch.py 7.7.0).
    Those are buffers, which no engine shards: the bits, zeros in as many bits and fp16 scales for at least 32 numbers.
    One matrix is unpacked in whole numbers; PEFT has what is not packed in fp32 (prepare_model_for_kbit_training, 0.21).
    AQLM's layers keep codes of fewer bits and codebooks for the backward, and unpack a matrix for one product, forward or
    backward (aqlm/inference.py:76-124 and inference_kernels/dequantization.py, 1.1.7).
    """
    values = model.config.get("quantization_config")
    said = values.get("bits", values.get("w_bit")) if isinstance(values, Mapping) else None
    bits = said if isinstance(said, int) and 0 < said < WIDEST_BITS else WIDEST_BITS
    sizes = [
        (tensor.num_params, unit.count)
        for unit, tensor in model.tensors()
        if unit.role == "layer" and tensor.kind in (LINEAR, EXPERTS)
    ]
    packed = sum(size * count for size, count in sizes)
    groups = ceil_div(packed, NARROWEST_GROUP)
    kept = ceil_div((packed + groups) * bits, 8) + 2 * groups
    is_sharded = plan.is_fsdp or plan.engine == "zero3"
    unpacked = 2 * packed if is_sharded else 0
    passing = UNPACKING * max((size for size, _ in sizes), default=0)
    is_coded = any(notice.unpriced == AQLM for notice in plan.notices)
    codebooks = CODEBOOKS * sum(count for _, count in sizes) if is_coded else 0
    return MemoryTerm(
        name="packed weights and their unpacking, at most",
        num_bytes=kept + codebooks + unpacked + passing + 2 * (model.num_params - packed),
        moments=ALWAYS,
        formula=f"{packed:,} numbers in {bits} bits, scales for each {NARROWEST_GROUP}",
        source="gptqmodel 7.7.0: nn_modules/qlinear/torch.py",
    )


def _layers_left(plan: LaunchPlan, model: ModelSpec) -> Problem:
    return Problem.left_out(
        f"{model.name} leaves some of its layers in 16 bits, and they are counted as packed",
        _where(plan),
        LEFT_WHOLE,
        "more",
        id="PF124",
    )


def _where(plan: LaunchPlan) -> str:
    origin = plan.origins.get("model")
    return origin.where if origin is not None else ""
