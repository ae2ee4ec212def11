"""LLaMA-Factory's arguments in plan fields: model, batch, precision, optimizer, length, loss; the rest is in llamafactory_model.

Source: LLaMA-Factory 0.9.5, hparams/*.py, data/processor, model/model_utils/liger_kernel.py, train/tuner.py.
"""

from __future__ import annotations

from preflight.formulas.layers.kernels import LIGER_KERNELS
from preflight.formulas.optimizers import MUON
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled, read_accumulation
from preflight.launchers.llamafactory.engine import EngineFacts
from preflight.launchers.llamafactory.keys import is_before
from preflight.launchers.llamafactory.low_rank import reads_low_rank
from preflight.launchers.llamafactory.model import (
    finetuning_type,
    read_attention,
    read_checkpointing,
    read_frozen,
    read_quantization,
    read_trained,
)
from preflight.near_names import nearest_fix
from preflight.scripts.arguments.trainer_tables import argument_table
from preflight.unpriced_names import FLOAT8, FP8, IN_TURNS, MIXTURE_OF_DEPTHS, OWN_LOSS, UNSLOTH

DECIDES = {
    "model_name_or_path": "model",
    "cutoff_len": "seq_len",
    "per_device_train_batch_size": "micro_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "finetuning_type": "adapter",
    "quantization_bit": "base_quantization",
    "deepspeed": "engine",
    "optim": "optimizer",
    "flash_attn": "attention",
    "bf16": "mixed_precision",
}
"""Key -> the plan field that is not known while a placeholder stands there."""
NOT_MODELLED: dict[str, NotModelled] = {
    "use_unsloth": NotModelled(
        "Unsloth's own kernels need less than the estimate says", UNSLOTH, "less"
    ),
    "use_kt": NotModelled(
        "KTransformers keeps experts in host memory: the estimate holds them on the GPU",
        "KTransformers",
        "less",
    ),
    "use_adam_mini": NotModelled("Adam-mini is estimated as AdamW", "Adam-mini", "less"),
    "use_llama_pro": NotModelled(
        "LLaMA Pro trains a few layers: the estimate trains all of them", "frozen layers", "less"
    ),
    "shift_attn": NotModelled(
        "shifted sparse attention is estimated as whole attention",
        "shifted sparse attention",
        "either",
    ),
    "use_mca": NotModelled(
        "Megatron's trainer is estimated as transformers' trainer", "Megatron's trainer", "either"
    ),
    "use_hyper_parallel": NotModelled(
        "HyperParallel's sharding is not estimated", "HyperParallel", "either"
    ),
    "use_asft_loss": NotModelled(
        "the reference model of use_asft_loss is not counted", "a reference model", "more"
    ),
    "use_dft_loss": NotModelled(
        "DFT's loss is estimated as the language model's", OWN_LOSS, "either"
    ),
    "use_eaft_loss": NotModelled(
        "EAFT's loss is estimated as the language model's", OWN_LOSS, "either"
    ),
    "upcast_lmhead_output": NotModelled(
        "the fp32 copy of the logits is counted by the loss's own rule"
    ),
    "resize_vocab": NotModelled("the vocabulary is estimated as the checkpoint has it"),
}
"""Arguments whose effect on memory the plan cannot hold -> what the estimate does instead."""
OBJECTIVES = {
    "pt": "pretrain", "sft": "sft", "rm": "reward", "ppo": "ppo", "dpo": "dpo", "kto": "kto",
}  # fmt: skip
"""`stage` -> what it trains for."""
STAGES = tuple(OBJECTIVES)


def read_llamafactory_plan(keys: FrameworkKeys, engine: EngineFacts) -> None:
    """Fill in every plan field that LLaMA-Factory's arguments decide, and TrainingArguments."""
    for name in keys.given:
        setting = keys.get(name)
        if setting is not None:
            keys.argument(name, setting.value, setting)
    keys.put_text("model", "model_name_or_path")
    stage = _stage(keys)
    _batch(keys)
    dtype = _precision(keys)
    _optimizer(keys)
    kind = finetuning_type(keys)
    read_quantization(keys, kind, dtype)
    read_trained(keys, kind, engine, _compute_dtype(keys))
    read_frozen(keys, kind)
    read_checkpointing(keys, engine)
    attention = read_attention(keys)
    _length(keys, stage, attention)
    _loss(keys, stage)
    keys.leave_out_given(NOT_MODELLED)
    _badam(keys, engine)
    _mixture_of_depths(keys)
    own = (
        keys.value("fp8_backend", "auto") != "te"
    )  # torchao's otherwise (train/fp8_utils.py, 0.9.5)
    message = "fp8 matrices are estimated as the 16-bit ones that they are made from"
    keys.leave_out_given({"fp8": NotModelled(message, FLOAT8 if own else FP8, "either")})


BADAM = NotModelled(
    "BAdam trains a block at a time: the estimate trains all of them", "BAdam", "less"
)


OF_LAYERS = NotModelled(
    "BAdam's layers take turns: activations are estimated as if the lowest one trained, and the head had a gradient",
    IN_TURNS,
    "less",
)


def _badam(keys: FrameworkKeys, engine: EngineFacts) -> None:
    """Record that layers take turns, one by one, on one rank; by a share of each matrix, or under ZeRO-3, it is named."""
    setting = keys.get("use_badam")
    if setting is None or not keys.is_on("use_badam"):
        return
    if keys.value("badam_mode", "layer") != "layer" or engine.is_distributed:
        keys.leave_out(BADAM, setting)
        return
    keys.leave_out(OF_LAYERS, setting)
    keys.put("layers_at_a_time", 1, setting)
    keys.put("optimizer_state_dtype", "fp32", setting)


def _mixture_of_depths(keys: FrameworkKeys) -> None:
    """Name a mixture of depths: layers that are converted are bounded, those of a checkpoint run other code."""
    setting = keys.get("mixture_of_depths")
    if setting is not None and setting.value is not None:
        is_converted = setting.value == "convert"
        message = "mixture of depths is estimated as the model without it"
        named = MIXTURE_OF_DEPTHS if is_converted else f"a checkpoint with a {MIXTURE_OF_DEPTHS}"
        keys.leave_out(NotModelled(message, named, "either"), setting)


def _stage(keys: FrameworkKeys) -> str:
    setting = keys.get("stage")
    if setting is None:
        return "sft"
    if setting.value == "orpo" and is_before(keys, "0.8.0"):  # a stage of its own in 0.6.2 to 0.7.1
        keys.put("objective", "orpo", setting)
        return "dpo"
    if setting.value not in STAGES:
        wanted = ", ".join(STAGES)
        keys.refuse(f"stage must be one of {wanted}, not {setting.value!r}", setting)
        return "sft"
    stage = str(setting.value)
    preference = keys.get("pref_loss")
    objective = OBJECTIVES[stage]
    if stage == "dpo" and preference is not None and preference.value in ("orpo", "simpo", "ipo"):
        keys.put("objective", str(preference.value), preference, setting)
    else:
        keys.put("objective", objective, setting)
    reference = keys.get("ref_model")
    if stage in ("dpo", "kto") and reference is not None and reference.value:
        model = keys.get("model_name_or_path")
        is_same = model is not None and model.value == reference.value
        keys.put("reference_model", "same" if is_same else str(reference.value), reference)
    if stage == "ppo":
        message = "stage ppo is estimated in part: generation, its reference and its reward model are not counted"
        keys.leave_out(
            NotModelled(message, "generation, and the models that score", "more"), setting
        )
    return stage


def _batch(keys: FrameworkKeys) -> None:
    for name, plan_field, default in (
        ("per_device_train_batch_size", "micro_batch_size", 8),
        ("gradient_accumulation_steps", "gradient_accumulation_steps", 1),
    ):
        setting = keys.count(name)
        if setting is not None:
            keys.put(plan_field, setting.value, setting)
            keys.argument(name, setting.value, setting)
        elif not keys.is_unknown(name):
            keys.assume(plan_field, default, f"no {name}")
            keys.argument(name, default, None)
    strategy = keys.value("eval_strategy", "no")
    evaluates = strategy not in ("no", False) or keys.is_on("do_eval")
    setting = keys.count("per_device_eval_batch_size")
    if evaluates and setting is not None:
        keys.put("eval_micro_batch_size", setting.value, setting)
    elif evaluates:
        keys.assume("eval_micro_batch_size", 8, "no per_device_eval_batch_size")
    norm = keys.get("max_grad_norm")
    if norm is not None and isinstance(norm.value, (int, float)):
        keys.put("max_grad_norm", float(norm.value), norm)
    else:
        keys.assume("max_grad_norm", 1.0, "no max_grad_norm")
    read_accumulation(keys)
    compiled = keys.flag("torch_compile")
    if compiled is not None and compiled.value:
        keys.put("torch_compile", True, compiled)


def _precision(keys: FrameworkKeys) -> str:
    """Record mixed precision; return the dtype that a quantized base computes in."""
    bf16, fp16, pure = keys.flag("bf16"), keys.flag("fp16"), keys.flag("pure_bf16")
    is_bf16, is_fp16 = bf16 is not None and bf16.value, fp16 is not None and fp16.value
    if is_bf16 and is_fp16 and fp16 is not None:
        keys.refuse("bf16 and fp16 are both on; the trainer takes one of them", fp16, "remove fp16")
    elif is_bf16 and bf16 is not None:
        keys.put("mixed_precision", "bf16", bf16)
    elif is_fp16 and fp16 is not None:
        keys.put("mixed_precision", "fp16", fp16)
    elif not keys.is_unknown("bf16"):
        keys.assume("mixed_precision", "no", "neither bf16 nor fp16")
    is_pure = pure is not None and pure.value
    return "fp16" if is_fp16 and not is_bf16 and not is_pure else "bf16"


def _compute_dtype(keys: FrameworkKeys) -> str | None:
    """Return the dtype that precision or pure_bf16 says; None where the checkpoint's decides (model/patcher.py:117)."""
    if keys.is_on("pure_bf16") or keys.is_on("bf16"):
        return "bf16"
    return "fp16" if keys.is_on("fp16") else None


def _optimizer(keys: FrameworkKeys) -> None:
    setting, muon = keys.get("optim"), keys.get("use_muon")
    if muon is not None and keys.is_on("use_muon"):
        keys.put("optimizer", MUON, muon)
        return
    if reads_low_rank(keys) or setting is None:
        return  # without either the Trainer's own
    known = tuple(str(name) for name in argument_table(None).arguments["optim"].choices or ())
    if setting.value not in known:
        near = nearest_fix(str(setting.value), known)
        keys.refuse(f"there is no optimizer {setting.value!r}", setting, near)
        return
    keys.put("optimizer", str(setting.value), setting)


def _length(keys: FrameworkKeys, stage: str, attention: str) -> None:
    keys.put_count("seq_len", "cutoff_len", 2048)
    packing, neat = keys.flag("packing"), keys.flag("neat_packing")
    if neat is not None and neat.value:
        # Without flash attention a block mask keeps the packed sequences apart (collator.py).
        is_flash = attention == "flash_attention_2"
        keys.put("sequence_kind", "packed" if is_flash else "padded", neat)
    elif packing is not None and packing.value:
        keys.put("sequence_kind", "fixed", packing)
    elif packing is None and stage == "pt":
        keys.assume("sequence_kind", "fixed", "stage pt packs")
    else:
        keys.assume("sequence_kind", "padded", "no packing")


def _loss(keys: FrameworkKeys, stage: str) -> None:
    liger = keys.flag("enable_liger_kernel")
    by_trainer = keys.flag("use_liger_kernel")
    if liger is not None and liger.value:
        # Stages that look at the logits get liger's plain loss (apply_liger_kernel, require_logits).
        keys.put("loss", "fused_linear" if stage in ("pt", "sft") else "fused_ce", liger)
        keys.put("kernels", LIGER_KERNELS, liger)
    elif by_trainer is not None and by_trainer.value:
        keys.put("loss", "fused_linear", by_trainer)
        keys.put("kernels", LIGER_KERNELS, by_trainer)
    else:
        keys.assume("loss", "full_logits", "no enable_liger_kernel")
