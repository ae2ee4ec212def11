"""LLaMA-Factory's arguments of adapter, quantized base, checkpointing and attention as plan fields.

Source: LLaMA-Factory 0.9.5, model/adapter.py (what is trained, and in which dtype) and
model/model_utils/{quantization,checkpointing,attention}.py.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from preflight.bool_words import STRTOBOOL
from preflight.launch import Adapter, BaseQuantization, Vision
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.llamafactory.engine import EngineFacts
from preflight.setting import Setting
from preflight.versions.boundary import release

ATTENTIONS = {
    "auto": None,
    "disabled": "eager",
    "sdpa": "sdpa",
    "fa2": "flash_attention_2",
    "fa3": "flash_attention_3",
}
KINDS = ("lora", "oft", "freeze", "full")
OFT_BLOCK = 32
"""Inputs of a block of OFT where nobody says how many (hparams/finetuning_args.py oft_block_size)."""
BNB = ("bnb", "bitsandbytes")
LOADS_AS_STORED = (0, 9, 4)
"""The first release that loads weights as they are stored (model/loader.py:160 `torch_dtype = "auto"`); those before
load them in the dtype that they compute in (model/patcher.py:144 in 0.9.3, :76 in 0.8.0)."""


def finetuning_type(keys: FrameworkKeys) -> str:
    """Return what is trained; another word is refused."""
    setting = keys.get("finetuning_type")
    if setting is None:
        return "lora"
    if setting.value not in KINDS:
        wanted = ", ".join(KINDS)
        keys.refuse(f"finetuning_type must be one of {wanted}, not {setting.value!r}", setting)
        return "lora"
    return str(setting.value)


def read_quantization(keys: FrameworkKeys, kind: str, dtype: str) -> None:
    """Record the quantized base."""
    bits, norms = keys.count("quantization_bit"), keys.flag("upcast_layernorm")
    if bits is None:
        if norms is not None and norms.value:
            message = "norms are estimated in the dtype that the model is loaded in"
            keys.leave_out(NotModelled(message, "norms in fp32", "more"), norms)
        return
    if kind not in ("lora", "oft"):
        keys.refuse(
            f"quantization_bit works with LoRA and OFT only, not with finetuning_type: {kind}",
            bits,
            "finetuning_type: lora, or no quantization_bit",
        )
        return
    method = keys.get("quantization_method")
    is_bnb = method is None or str(method.value) in BNB
    if is_bnb and bits.value not in (4, 8):
        keys.refuse("bitsandbytes quantizes to 4 or 8 bits", bits, "quantization_bit: 4")
        return
    if not is_bnb and method is not None:
        as_bits = 8 if bits.value == 8 else 4
        message = f"{method.value} is estimated as bitsandbytes in {as_bits} bits"
        keys.leave_out(NotModelled(message, f"weights in {method.value}", "either"), method)
    double, scheme = keys.flag("double_quantization"), keys.get("quantization_type")
    upcast = "norms" if norms is not None and norms.value else "none"
    if bits.value == 8:
        quantization = BaseQuantization("int8", upcast_unquantized_to_fp32=upcast)
    else:
        quantization = BaseQuantization(
            scheme=str(scheme.value) if scheme is not None else "nf4",
            double_quant=double is None or bool(double.value),
            compute_dtype=dtype,
            storage_dtype=dtype,
            upcast_unquantized_to_fp32=upcast,
        )
    details = [s for s in (method, double, scheme, norms) if s is not None]
    keys.put("base_quantization", quantization, bits, *details)


def read_trained(keys: FrameworkKeys, kind: str, engine: EngineFacts, dtype: str | None) -> None:
    """Record the adapter and the dtype that the weights have when training starts; `dtype` is the one that it computes in,
    None where the checkpoint decides."""
    chosen = keys.get("finetuning_type")
    if release(keys.library.version) < LOADS_AS_STORED and dtype is not None:
        keys.assume("load_dtype", dtype, "the dtype that it computes in")
    else:
        keys.assume("load_dtype", "auto", "the checkpoint's own dtype")
    if kind in ("lora", "oft"):
        _adapter(keys, kind, chosen)
        return
    if kind == "freeze" and chosen is not None:
        message = "freeze trains a few layers: the estimate trains all of them"
        keys.leave_out(NotModelled(message, "frozen layers", "less"), chosen)
    keeps = keys.is_on("pure_bf16") or keys.is_on("use_badam") or engine.is_zero3
    if not keeps:
        keys.assume("load_dtype", "fp32", "what is trained is cast to fp32, unless pure_bf16")


FREEZES = {
    "freeze_vision_tower": ("tower", True),
    "freeze_multi_modal_projector": ("projector", True),
    "freeze_language_model": ("language_model", False),
}
"""Key -> the part of a vision-language model that it freezes, and whether it does so by default
(hparams/finetuning_args.py)."""
FREEZES_PROJECTOR = "0.9.2"
"""Release since which the projector is frozen by default; LLaVA's was trained before (model/model_utils/visual.py)."""
PROJECTOR_ALONE = "train_mm_proj_only"
"""Key of releases before 0.9.2 under which the projector trains and nothing else."""


def read_frozen(keys: FrameworkKeys, kind: str) -> None:
    """Record which parts of a vision-language model are left as they are, and get no adapter."""
    frozen, given = [], []
    for name, (part, by_default) in FREEZES.items():
        setting = keys.flag(name)
        if setting is not None:
            given.append(setting)
        if part == "projector" and keys.library.is_before(FREEZES_PROJECTOR):
            by_default = False
        # `all` never reaches the projector (model/model_utils/misc.py find_all_linear_modules)
        is_left = part == "projector" and kind != "full"
        if is_left or (by_default if setting is None else bool(setting.value)):
            frozen.append(part)
    alone = keys.given.get(PROJECTOR_ALONE)
    if alone is not None and STRTOBOOL.read(alone.value) is True:
        frozen, given = ["tower", "language_model"], [alone]
    vision = Vision(frozen=tuple(frozen))
    keys.decide("vision", vision, *given, reason="frozen unless freeze_vision_tower says no")


def _adapter(keys: FrameworkKeys, kind: str, chosen: Setting | None) -> None:
    rank, alpha = keys.count("lora_rank"), keys.get("lora_alpha")
    dropout, targets = keys.get("lora_dropout"), keys.get("lora_target")
    saved, dora = keys.get("additional_target"), keys.flag("use_dora")
    if kind == "oft":
        rank, targets = keys.count("oft_block_size"), keys.get("oft_target")
        alpha, dropout, dora = None, keys.number("module_dropout"), None
        blocks = keys.get("oft_rank")
        if blocks is not None and blocks.value:
            message = "OFT with so many blocks is estimated with blocks of 32"
            keys.leave_out(NotModelled(message, "a number of OFT's blocks", "either"), blocks)
    names = _split(targets)
    size = rank.value if rank is not None else OFT_BLOCK if kind == "oft" else Adapter.rank
    is_number = alpha is not None and isinstance(alpha.value, (int, float))
    given_alpha = alpha is not None and is_number and alpha.value and isfinite(alpha.value)
    adapter = Adapter(
        kind="dora" if dora is not None and dora.value else kind,
        rank=size,
        alpha=int(alpha.value) if alpha is not None and given_alpha else 2 * size,
        dropout=float(dropout.value)
        if dropout is not None and isinstance(dropout.value, (int, float))
        else 0.0,
        targets="all-linear" if names in (None, ("all",)) else names,
        # pure_bf16 keeps LLaMA-Factory from casting; PEFT has cast the adapter to fp32 before.
        modules_to_save=_split(saved),
    )
    details = [s for s in (rank, alpha, dropout, targets, saved, dora) if s is not None]
    if chosen is not None:
        keys.put("adapter", adapter, chosen, *details)
    elif not keys.is_unknown("finetuning_type"):
        keys.assume("adapter", adapter, "no finetuning_type: lora")
        keys.places["adapter"] = tuple(setting.place for setting in details)
    if keys.get("adapter_name_or_path") is not None:
        at = keys.given["adapter_name_or_path"]
        message = "the adapter of adapter_name_or_path is estimated with the rank and targets that stand here"
        keys.note("PF143", message, at, "", "info")


def _split(setting: Setting | None) -> tuple[str, ...] | None:
    if setting is None:
        return None
    items: Any = setting.value if isinstance(setting.value, list) else str(setting.value).split(",")
    return tuple(str(item).strip() for item in items if str(item).strip()) or None


def read_checkpointing(keys: FrameworkKeys, engine: EngineFacts) -> None:
    """Record what is recomputed: every layer, unless told not to."""
    off, trainers = keys.flag("disable_gradient_checkpointing"), keys.flag("gradient_checkpointing")
    is_off = off is not None and off.value is True
    by_trainer = trainers is not None and trainers.value is True
    # The model's own method is called, not the trainer's switch, unless that is on too.
    keys.argument("gradient_checkpointing", by_trainer, trainers)
    if off is not None and is_off and not by_trainer:
        keys.put("activation_checkpointing", "none", off)
        return
    if by_trainer and trainers is not None:
        keys.put("activation_checkpointing", "full", trainers)
    elif off is not None:
        keys.put("activation_checkpointing", "full", off)
    else:
        keys.assume("activation_checkpointing", "full", "on unless disable_gradient_checkpointing")
    reentrant = keys.flag("use_reentrant_gc")
    if engine.fsdp_version == 2:
        keys.assume("checkpointing_reentrant", False, "FSDP2 turns use_reentrant_gc off")
    elif reentrant is not None:
        keys.put("checkpointing_reentrant", bool(reentrant.value), reentrant)
    else:
        keys.assume("checkpointing_reentrant", True, "use_reentrant_gc is on by default")
    offloads = keys.flag("use_unsloth_gc")
    if offloads is not None and offloads.value:
        keys.put("offload_activations", "cpu", offloads)


def read_attention(keys: FrameworkKeys) -> str:
    """Record the attention and return its name."""
    setting = keys.get("flash_attn")
    word = "auto" if setting is None else str(setting.value).lower()
    if setting is not None and setting.value is False:
        word = "disabled"
    if setting is not None and word not in ATTENTIONS:
        wanted = ", ".join(ATTENTIONS)
        keys.refuse(f"flash_attn must be one of {wanted}, not {setting.value!r}", setting)
        word = "auto"
    is_gpt_oss = "gpt-oss" in str(keys.value("model_name_or_path", "")).lower()
    if setting is not None and word == "fa3" and not is_gpt_oss:
        # configure_attn_implementation takes it for gpt-oss alone
        keys.refuse("flash_attn: fa3 works with gpt-oss only", setting, "flash_attn: fa2")
    name = ATTENTIONS[word]
    if name is not None and setting is not None:
        keys.put("attention", name, setting)
        return name
    if not keys.is_unknown("flash_attn"):
        keys.assume("attention", "sdpa", "flash_attn: auto is transformers' own choice")
    return "sdpa"
