"""What verl's FSDP workers are: sharding, dtypes, adapter and checkpointing, alike in both of its trainers.

Source: workers/fsdp_workers.py _build_model_optimizer and trainer/fsdp_sft_trainer.py of verl 0.2 to 0.7.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from preflight.formulas.objectives.actor_losses import ACTOR
from preflight.launch import Adapter, Origin
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.setting import Setting
from preflight.units import ceil_div
from preflight.unpriced_names import OTHERS_QAT
from preflight.versions.verl import KEEPS_TO_TOKENS, UNPADS_BY_DEFAULT

MANY = 1_000_000
"""More rows than any micro batch has."""
DTYPES = {
    **dict.fromkeys(("32", "fp32", "float32"), "fp32"),
    **dict.fromkeys(("16", "fp16", "float16"), "fp16"),
    **dict.fromkeys(("bf16", "bfloat16"), "bf16"),
}
"""verl/utils/torch_dtypes.py, 0.2.0 to 0.7.1: a number as well as a name."""
OF_MODEL = {
    "use_liger": NotModelled(
        "Liger's modules are estimated as the model's own: its loss is not used", "Liger's kernels", "less"
    ),
    "use_fused_kernels": NotModelled("logits are estimated as whole", "fused log-probabilities", "less"),
    "enable_activation_offload": NotModelled(
        "activations are estimated as kept on the card", "activations on the host", "less"
    ),
    "tiled_mlp.enabled": NotModelled("the MLP is estimated whole", "a tiled feed-forward", "less"),
    "lora_adapter_path": NotModelled(
        "the adapter is estimated as a new one", "an adapter that is loaded", "either"
    ),
}  # fmt: skip
"""Key of a section of models that is on -> what no formula holds of it."""
OF_ENGINE = {
    "forward_prefetch": NotModelled(
        "one layer is estimated to be gathered at a time", "layers gathered ahead", "more"
    ),
    "qat.enable": NotModelled("weights are estimated as they are", OTHERS_QAT, "either"),
    "wrap_policy.disable": NotModelled(
        "layers are estimated as gathered one by one", "a model that is gathered whole", "more"
    ),
    "wrap_policy.min_num_params": NotModelled(
        "layers are estimated as gathered one by one", "units by their size", "either"
    ),
}
"""Key of a section of FSDP that is on -> the same."""
SAME_MEMORY = ("dropout", "pdrop", "rope", "max_position", "token_id", "num_labels")
"""Parts of names that `override_config` may set, and that change no tensor of a step."""


def read_sharding(
    keys: FrameworkKeys, strategy: Setting | None, default: str, size_name: str, ranks: int
) -> None:
    """Set FSDP up: parameters sharded in the dtype that they are loaded in, gathered in bf16, gradients summed in fp32."""
    word = default if strategy is None else str(strategy.value)
    word = "fsdp" if word == "dp" else word
    at = strategy or keys.by_default(word)
    if word not in ("fsdp", "fsdp2"):
        message = f"the strategy {word!r} is not read: its workers are estimated as those of fsdp2"
        keys.leave_out(NotModelled(message, f"workers of verl's {word}", "either"), at)
        word = "fsdp2"
    size = keys.get(size_name)
    if size is not None and isinstance(size.value, int) and 0 < size.value < ranks:
        message = "ranks are estimated to share one copy of the parameters, whatever fsdp_size says"
        keys.leave_out(
            NotModelled(message, f"copies in groups of {size.value} ranks", "more"), size
        )
    values = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2" if word == "fsdp2" else "1",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_USE_ORIG_PARAMS": "false",
        "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    }
    if word == "fsdp2":
        values["FSDP_RESHARD_AFTER_FORWARD"] = "true"
    else:  # torch's own default, where accelerate's is none (fsdp_workers.py calls FSDP without it, 0.2.0 to 0.9.1)
        values["FSDP_BACKWARD_PREFETCH"] = "BACKWARD_PRE"
    for name, value in values.items():
        keys.environment[name] = Setting(value, at.place)
    keys.put("mixed_precision", "bf16", at)
    keys.put("reduce_dtype", "fp32", at)
    keys.put("sync_each_batch", True, at)  # no micro step runs under no_sync


def read_dtype(keys: FrameworkKeys, name: str) -> None:
    """Record the dtype of the weights that are trained."""
    setting = keys.get(name)
    dtype = "fp32" if setting is None else DTYPES.get(str(setting.value))
    if dtype is None and setting is not None:
        keys.refuse(f"{name} must be fp32, bf16 or fp16, not {setting.value!r}", setting)
    elif setting is not None:
        keys.put("load_dtype", dtype, setting)
    else:
        keys.assume("load_dtype", "fp32", f"no {name}")


def read_adapter(keys: FrameworkKeys, above: str) -> None:
    """Record LoRA, which is cast to the dtype of the base."""
    rank, alpha = keys.count(f"{above}.lora_rank", 0), keys.number(f"{above}.lora_alpha")
    targets = keys.get(f"{above}.target_modules")
    dtype = keys.settings.get("load_dtype")
    if rank is None or rank.value < 1:
        if dtype is not None:  # of shards: accelerate's are fp32, verl's as they were loaded
            keys.put("master_dtype", dtype.value, dtype)
        return
    names: Any = "all-linear" if targets is None else targets.value
    adapter = Adapter(
        rank=rank.value,
        alpha=int(alpha.value) if alpha is not None else 16,
        targets=tuple(map(str, names)) if isinstance(names, list) else str(names),
        dtype=None if dtype is None else str(dtype.value),
    )
    keys.put("adapter", adapter, rank, *(s for s in (alpha, targets) if s is not None))


def read_offload(keys: FrameworkKeys, name: str) -> None:
    """Record that FSDP2 keeps all states on the host; FSDP1's workers do not read the switch."""
    flag = keys.flag(name)
    if flag is None or not flag.value or keys.environment["FSDP_VERSION"].value != "2":
        return
    keys.environment["FSDP_OFFLOAD_PARAMS"] = Setting("true", flag.place)
    keys.put("offload_optimizer", "cpu", flag)


def read_checkpointing(keys: FrameworkKeys, name: str, by_default: bool) -> None:
    """Record what is recomputed, never by a backward of its own."""
    flag = keys.flag(name)
    is_on = by_default if flag is None else bool(flag.value)
    keys.decide("activation_checkpointing", "full" if is_on else "none", flag, reason=f"no {name}")
    if is_on:
        keys.assume("checkpointing_reentrant", False, "gradient_checkpointing_kwargs of its own")


def read_rest(keys: FrameworkKeys, model: str, engine: str, optim: str) -> None:
    """Read attention, optimizer and what stays gathered of a worker that trains, and name what else its sections say.

    What `override_config` says of attention is its own from 0.6 on (workers/fsdp_workers.py _build_model_optimizer, 0.2.0
    to 0.7.1; config/engine.py, 0.9.1).
    """
    said = keys.get(f"{model}.override_config.attn_implementation")
    if said is not None:
        keys.put("attention", str(said.value), said)
    else:
        keys.assume("attention", "flash_attention_2", "attn_implementation of its own")
    keys.assume("optimizer", "adamw_torch", "torch.optim.AdamW")
    gathered = keys.flag(f"{engine}.reshard_after_forward")
    is_read = keys.environment["FSDP_VERSION"].value == "2"
    if gathered is not None and not gathered.value and is_read:
        keys.environment["FSDP_RESHARD_AFTER_FORWARD"] = Setting("false", gathered.place)
    read = ("attn_implementation", "reshard_after_forward") if is_read else ("attn_implementation",)
    name_rest(keys, model, engine, optim, read)


def name_rest(
    keys: FrameworkKeys, model: str, engine: str, optim: str, read: Collection[str] = ()
) -> None:
    """Name what a worker's sections of model, FSDP and optimizer say that no formula holds, but for keys that are read."""
    above = f"{model}.override_config."
    for name, setting in keys.given.items():
        of_config = name.removeprefix(above)
        is_known = of_config in read or any(word in of_config for word in SAME_MEMORY)
        if name.startswith(above) and not is_known:
            message = f"the model is estimated as without its {of_config}"
            keys.leave_out(NotModelled(message, f"what {name} changes", "either"), setting)
    for name in ("optimizer", "optimizer_impl", "override_optimizer_config.amsgrad"):
        said = keys.get(f"{optim}.{name}")
        if said is not None and said.value not in ("AdamW", "Adam", "torch.optim", False):
            message = f"the states of {said.value} are estimated as AdamW's"
            keys.leave_out(NotModelled(message, f"the states of {said.value}", "either"), said)
    for name in ("dtype", "mixed_precision.param_dtype"):
        said = keys.get(f"{engine}.{name}")
        if said is not None and DTYPES.get(str(said.value)) not in ("bf16", "fp16"):
            what = f"layers that compute in {said.value}"
            message = f"layers are estimated to compute in bf16, not in {said.value}"
            keys.leave_out(NotModelled(message, what, "more"), said)
    gathered = keys.flag(f"{engine}.reshard_after_forward")
    if gathered is not None and not gathered.value and "reshard_after_forward" not in read:
        message = "layers are estimated as divided again behind their forward"
        keys.leave_out(NotModelled(message, "layers that stay gathered", "more"), gathered)
    for section, table in ((model, OF_MODEL), (engine, OF_ENGINE)):
        keys.leave_out_given({f"{section}.{name}": each for name, each in table.items()})


def counts_tokens(keys: FrameworkKeys, trainer: str) -> bool:
    """Tell whether a number of tokens fills the micro batch of an update; the SFT trainer on the engine's does unless told."""
    name = "data.use_dynamic_bsz" if trainer == "engine" else f"{ACTOR}.use_dynamic_bsz"
    flag = keys.flag(name)
    return trainer == "engine" if flag is None else bool(flag.value)


def rows_of(
    keys: FrameworkKeys, above: str, names: tuple[str, str, str, str], longest: int, ranks: int
) -> tuple[int, int, Setting] | None:
    """Return how many rows a forward has, at least and at most, and who says it; None where nobody does.

    `names` are of one GPU, of all, of the switch for as many rows as a number of tokens holds, and of that number. A
    global number is divided over ranks and takes the place of that of one GPU, which a configuration may have by
    default (fsdp_workers.py:160-180, 0.4.1); tokens fill a micro batch without padding, and the last row may be in part.
    """
    per_gpu, of_all, is_dynamic, most = (f"{above}.{name}" for name in names)
    dynamic = keys.flag(is_dynamic)
    if dynamic is None and above != ACTOR:
        dynamic = keys.flag(f"{ACTOR}.use_dynamic_bsz")
    if dynamic is not None and dynamic.value:
        tokens = keys.count(most) or keys.count(f"{ACTOR}.ppo_max_token_len_per_gpu")
        number = 16384 if tokens is None else int(tokens.value)
        return *rows_of_tokens(number, longest), tokens or dynamic
    whole = keys.count(of_all)
    rows = whole or keys.count(per_gpu)
    if rows is None:
        return None
    number = int(rows.value) if whole is None else max(1, int(whole.value) // ranks)
    return number, number, rows


def rows_of_tokens(number: int, longest: int) -> tuple[int, int]:
    """Return how many rows of the greatest length a number of tokens holds, whole ones and with the last in part."""
    return max(1, number // longest), max(1, ceil_div(number, longest))


def put_rows(keys: FrameworkKeys, least: int, most: int, at: Setting, beyond: int = 0) -> None:
    """Record the rows of a micro batch that tokens may fill, or go beyond."""
    keys.put("micro_batch_size", most, at)
    may_be = tuple(dict.fromkeys(each for each in (least, beyond) if each and each != most))
    if may_be:
        reason = "tokens fill it, of rows of any length"
        keys.origins["micro_batch_size"] = Origin(at.place.where, True, reason, may_be)


def rows_in_room(
    keys: FrameworkKeys, number: int, longest: int, of_rank: int, ring: int
) -> tuple[int, int, int]:
    """Return the rows of an update's micro batch that a number of tokens fills: at least, usually, and at most, if more.

    A rank has `of_rank` rows for an update in all, which may be half as long as the longest, and a `ring` of ranks
    those of all its ranks, which it divides.
    """
    whole, part = rows_of_tokens(number, longest)
    least, most = min(whole, max(1, of_rank // 2)), min(part, max(1, of_rank))
    return least, most, rows_beyond(keys, number, longest, of_rank * ring, ring)


def rows_beyond(keys: FrameworkKeys, number: int, longest: int, of_all: int, ring: int) -> int:
    """Return the rows of a micro batch that goes beyond its tokens, of so many; 0 where none does.

    Rows are divided evenly over as few micro batches as have room for all tokens together, whether or not any division
    keeps to it: one may have a row more than it has room for, which the ranks of a `ring` share. Where there are no
    more rows than that, there are micro batches of one row less.
    """
    keeps = keys.library.is_known and KEEPS_TO_TOKENS.holds_in(keys.library.versions)
    if keeps or of_all <= rows_of_tokens(number, longest)[1] + 1:
        return 0
    return ceil_div(number + longest // ring, longest)


def read_padding(keys: FrameworkKeys, above: str) -> None:
    """Record whether rows go through the model without their padding."""
    removes = keys.flag(f"{above}.use_remove_padding")
    versions = keys.library.versions
    if removes is not None:
        keys.put("sequence_kind", "packed" if removes.value else "padded", removes)
    elif keys.library.is_known:
        kind = "packed" if UNPADS_BY_DEFAULT.holds_in(versions) else "padded"
        keys.assume("sequence_kind", kind, "no use_remove_padding")
    else:
        keys.assume("sequence_kind", "padded", "no use_remove_padding")
        origin = keys.origins["sequence_kind"]
        keys.origins["sequence_kind"] = replace(origin, may_be=("packed",))
