"""Plan fields that TRL's model arguments decide: load dtype, loss, adapter, quantized base."""

from __future__ import annotations

from typing import Any

from preflight.errors import Problem
from preflight.formulas.layers.kernels import LIGER_BY_CALL, liger_kernels
from preflight.formulas.objective import COMPARED, ONLINE
from preflight.launch import BaseQuantization
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_spellings import DTYPES
from preflight.setting import Setting
from preflight.trainers.adapter import read_adapter
from preflight.trainers.default_dtype import default_dtype
from preflight.trainers.fields import FieldReader, PlanFields, joined
from preflight.trainers.generation import ligers_loss
from preflight.trainers.lookup import Given
from preflight.trainers.objective import FUSES_HEAD_FOR, read_objective
from preflight.trainers.ppo import has_own_loop
from preflight.trainers.prepared_base import prepared_base
from preflight.trainers.retrievers import read_retriever_model

LOADS = ("from_pretrained", "from_config")
"""Keys of places at which a script loads a model without a dtype."""


def read_model_fields(given: Given) -> Reading[PlanFields]:
    """Return load dtype, loss, adapter and base quantization."""
    problems = Problems()
    objective = problems.take(read_objective(given))
    loaded = problems.take(_load_dtype(given))
    loss = problems.take(_loss(given, objective.value("objective")))
    dtype = loaded.value("load_dtype")
    said = problems.take(given.find("dtype")).setting
    if dtype == "fp16" and (said is None or said.place.key in LOADS):
        dtype = "fp32"  # a config that is not told what to compute in takes torch's
    base = problems.take(_quantization(given, None if dtype == "auto" else dtype))
    adapter = problems.take(read_adapter(given, base.value("base_quantization")))
    of_module = problems.take(read_retriever_model(given))
    return Reading(joined(objective, loaded, loss, base, adapter, of_module), tuple(problems))


def _load_dtype(given: Given) -> Reading[PlanFields]:
    """Return the dtype the weights are loaded in; "auto" = the checkpoint's own, None = the library's default."""
    fields = FieldReader(given)
    setting = fields.get("dtype", "load_dtype")
    kwargs = fields.get("model_init_kwargs")
    if kwargs is not None and isinstance(kwargs.value, dict):
        # TRL's script lets these override ModelConfig.
        named = kwargs.value.get("dtype", kwargs.value.get("torch_dtype"))
        setting = Setting(named, kwargs.place) if named is not None else setting
        from preflight.scripts.settings.model_shape import OTHER_SHAPE, SHAPES

        shapes = ", ".join(sorted({*SHAPES} & {*kwargs.value}))
        if shapes:
            message = f"the model has another {shapes} than its checkpoint's config says"
            fields.problems.append(
                Problem.left_out(message, kwargs.place.where, OTHER_SHAPE, "either")
            )
    if setting is not None and setting.value is not None:
        is_stored = str(setting.value) == "auto"
        dtype = "auto" if is_stored else fields.dtype(setting, "load_dtype")
        if dtype is not None or not fields.problems:
            fields.put("load_dtype", dtype, setting)
        return fields.reading()
    if not given.has_trainer:
        return fields.reading()
    library, word = default_dtype(given, given.loads_as_trl)
    if word == "auto":
        fields.assume("load_dtype", None, "no dtype given: the checkpoint's own dtype", library)
        return fields.reading()
    fields.assume("load_dtype", DTYPES[word], "no dtype given", library)
    return fields.reading()


def _loss(given: Given, objective: str | None) -> Reading[PlanFields]:
    fields = FieldReader(given)
    if not given.has_trainer:
        return fields.reading()
    liger = fields.get("use_liger_kernel", "loss")
    # PPO's trainer never calls Trainer's own initialization, where Liger's modules are put in
    is_liger = liger is not None and liger.value is True and not has_own_loop(given)
    if is_liger and liger is not None:
        fields.put("kernels", liger_kernels(fields.value("liger_kernel_config")), liger)
    by_call = fields.get(LIGER_BY_CALL)
    if by_call is not None and not is_liger:
        fields.put("kernels", liger_kernels(by_call.value), by_call)
    smoothing = fields.get("label_smoothing_factor")
    is_smoothed = smoothing is not None and bool(smoothing.value)
    loss_type = fields.get("loss_type")
    default = given.versions.default("trl", "loss") if given.kind.trainer == "trl" else "model"
    objective = objective or given.kind.trl_script or "sft"
    is_fused = default == "fused_head" and objective in FUSES_HEAD_FOR
    if objective != "sft" and not is_fused:
        default = "model"
    if default == "fused_head":
        if is_smoothed and smoothing is not None:
            fields.put("loss", "full_logits", smoothing)
        elif loss_type is not None:
            fields.put("loss", "chunked_linear", loss_type)
        else:
            fields.assume("loss", "chunked_linear", "SFT's fused head", "trl")
        return fields.reading()
    of_answers = ligers_loss(fields) if objective in ("grpo", "dpo") else None
    if of_answers is not None:
        fields.put("loss", "fused_linear", of_answers)
    elif is_liger and liger is not None and objective not in (*COMPARED, *ONLINE):
        fields.put("loss", _liger_loss(fields.value("liger_kernel_config")), liger)
    elif by_call is not None and default == "model" and objective not in (*COMPARED, *ONLINE):
        # TRL's trainers of pairs and of answers ask for logits; SFT's head, where it has one, is put over Liger's
        fields.put("loss", _liger_loss(by_call.value), by_call)
    elif loss_type is not None and given.kind.trainer == "trl" and objective == "sft":
        chunked = loss_type.value == "chunked_nll"
        fields.put("loss", "chunked_linear" if chunked else "full_logits", loss_type)
    elif is_smoothed and smoothing is not None:
        fields.put("loss", "full_logits", smoothing)
    elif default == "chunked_unless_liger":
        fields.assume("loss", "chunked_linear", "no --loss_type", "trl")
    else:
        fields.assume("loss", "full_logits", "the model's own loss", "transformers")
    return fields.reading()


def _liger_loss(config: Any) -> str:
    if isinstance(config, dict) and config.get("fused_linear_cross_entropy") is False:
        return "fused_ce" if config.get("cross_entropy") else "full_logits"
    return "fused_linear"


def _quantization(given: Given, load_dtype: str | None) -> Reading[PlanFields]:
    fields = FieldReader(given)
    four, eight = fields.get("load_in_4bit"), fields.get("load_in_8bit")
    is_four = four is not None and four.value is True
    is_eight = eight is not None and eight.value is True
    said = next((given.others[name] for name in _OF_BITS if name in given.others), None)
    is_packed_somehow = is_four and four is not None and _is_qlora(given, four)
    if is_packed_somehow and said is not None and str(said.value) == "8":
        is_four, is_eight, eight = False, True, said
    elif is_packed_somehow and is_eight:
        is_four = False
    if is_four and is_eight and four is not None and eight is not None:
        fields.problems.append(
            Problem(
                "load_in_4bit and load_in_8bit are both on; a base is quantized one way",
                f"{four.place.where}, {eight.place.where}",
                "remove one of them",
                "PF415",
            )
        )
        return fields.reading()
    preparation = prepared_base(given, is_four).upcast
    bits = given.others.get("quantization_bit")
    if bits is not None and str(bits.value) == "4" and not is_four:
        compute = load_dtype or ("fp16" if fields.value("fp16") is True else "bf16")
        how = f"read as base_quantization from {bits.place.key}"
        fields.inferred["base_quantization"] = how
        fields.put("base_quantization", _llama_factory_bits(given, compute), bits)
        return fields.reading()
    if is_eight and eight is not None:
        fields.get("load_in_8bit", "base_quantization")
        quantization = BaseQuantization("int8", upcast_unquantized_to_fp32=preparation)
        fields.put("base_quantization", quantization, eight)
        return fields.reading()
    if not is_four or four is None:
        return fields.reading()
    fields.get("load_in_4bit", "base_quantization")
    stated = fields.get("bnb_4bit_compute_dtype")
    storage = fields.problems.take(_storage(given, load_dtype))
    quantization = BaseQuantization(
        scheme=str(fields.value("bnb_4bit_quant_type", "nf4")),
        double_quant=bool(fields.value("use_bnb_nested_quant", False)),
        # TRL computes in the dtype that the model is loaded in.
        compute_dtype=fields.dtype(stated) if stated is not None else load_dtype,
        storage_dtype=storage,
        upcast_unquantized_to_fp32=preparation,
    )
    details = [
        setting
        for name in ("bnb_4bit_quant_type", "use_bnb_nested_quant", "bnb_4bit_quant_storage")
        if (setting := fields.get(name)) is not None
    ]
    fields.put("base_quantization", quantization, four, *details)
    if is_packed_somehow and said is None:
        eight_bits = BaseQuantization("int8", upcast_unquantized_to_fp32=preparation)
        how = f"read as base_quantization from {four.place.key}, and the script says its bits"
        fields.leave_open("base_quantization", (eight_bits,), how)
    return fields.reading()


_OF_BITS = ("bits", "quant_bit", "quant_bits", "quantization_bit", "num_bits", "n_bits")
"""Flags of scripts' own beside `--use_qlora`: the switch says that the base is packed, and they how."""


def _is_qlora(given: Given, four: Setting) -> bool:
    """Tell whether 4 bits were read from a switch for QLoRA, which names none."""
    said = (given.others.get(name) for name in ("qlora", "use_qlora"))
    return any(each is not None and each.place == four.place for each in said)


def _llama_factory_bits(given: Given, compute: str) -> BaseQuantization:
    """Read LLaMA-Factory's `quantization_bit: 4` (llamafactory/model/model_utils/quantization.py).

    Packed bits pretend to be the compute dtype, and double quantization is on unless turned off.
    """
    double = given.others.get("double_quantization")
    return BaseQuantization(
        scheme="nf4",
        double_quant=double is None or str(double.value).lower() != "false",
        compute_dtype=compute,
        storage_dtype=compute,
    )


def _storage(given: Given, load_dtype: str | None) -> Reading[str | None]:
    """Return the dtype that the packed bits pretend to be; None = uint8."""
    fields = FieldReader(given)
    storage: str | None = None
    setting = fields.get("bnb_4bit_quant_storage")
    if setting is not None and setting.value is not None:
        storage = None if str(setting.value) == "uint8" else fields.dtype(setting)
    elif (
        given.kind.trainer == "trl"
        and given.versions.default("trl", "quant_storage") == "model_dtype"
    ):
        storage = load_dtype if fields.get("dtype") is not None else None
    return Reading(storage, tuple(fields.problems))
