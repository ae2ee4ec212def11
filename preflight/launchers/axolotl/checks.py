"""What axolotl's schema refuses beside the keys of one field, as far as the config alone tells.

Source: utils/schemas/validation.py, config.py, deprecated.py of axolotl 0.19.0; each rule names its validator.
"""

from __future__ import annotations

from collections.abc import Callable

from preflight.bool_words import STRTOBOOL, is_true
from preflight.launchers.axolotl.activations import ATTENTION_FLAGS, asks_for_reentrant
from preflight.launchers.axolotl.keys import axolotl_table
from preflight.launchers.axolotl.lora_kernels import check_lora_kernels
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.setting import Setting

KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
CHECKED_WHERE_READ = (
    "micro_batch_size",
    "gradient_accumulation_steps",
    "sequence_len",
    "eval_batch_size",
    "lora_r",
    "lora_alpha",
    "context_parallel_size",
    "tensor_parallel_size",
    "load_in_4bit",
    "load_in_8bit",
    "sample_packing",
    "pad_to_sequence_len",
    "lora_target_linear",
    "peft_use_dora",
    "peft_autocast_adapter_dtype",
    "dp_shard_size",
    "dp_replicate_size",
    "expert_parallel_size",
    *ATTENTION_FLAGS,
)
"""Keys whose kind is checked where their plan field is read."""
REQUIRED = ("base_model", "learning_rate")
REMOVED_WHEN_ON = {
    # check_deprecated_unsloth_fields and the validators of DeprecatedParameters
    **{
        f"unsloth_{name}": "lora_mlp_kernel, lora_qkv_kernel and lora_o_kernel"
        for name in ("cross_entropy_loss", "lora_mlp", "lora_qkv", "lora_o", "rms_norm", "rope")
    },
    "max_packed_sequence_len": "sequence_len",
    "rope_scaling": "rope_scaling below model_config",
    "s2_attention": "",
    "flash_attn_rms_norm": "",
}
REMOVED_WHEN_GIVEN = (
    "dpo_use_logits_to_keep",
    "dpo_generate_during_eval",
    "dpo_norm_loss",
    "rpo_alpha",
)
FLASH_OPTIMIZERS = ("flash_adamw", "flash_adam", "flash_sgd", "flash_sgdw", "flash_lion")
NO_FSDP2 = ("adamw_8bit", "adamw_bnb_8bit")
NO_TENSOR_PARALLEL = ("paged_adamw_8bit", "adamw_8bit", "adamw_bnb_8bit")
VARLEN = ("flash_attention", "flex_attention", "xformers", "sage", "kernels-community/")
"""How the names of attentions with packing begin (ATTN_IMPLS_SUPPORTING_PACKING)."""


def check_axolotl(keys: FrameworkKeys) -> None:
    """Say everything that the schema refuses."""
    for check in CHECKS:
        check(keys)


def _required(keys: FrameworkKeys) -> None:
    first = next(iter(keys.given.values()))
    for name in REQUIRED:
        if keys.given.get(name) is None or keys.given[name].value is None:
            keys.refuse(f"{name} is missing", first)
    sources = ("datasets", "pretraining_dataset")
    if not any(keys.given.get(name) and keys.given[name].value for name in sources):
        keys.refuse("neither datasets nor pretraining_dataset is given", first)


def _types(keys: FrameworkKeys) -> None:
    """Refuse what is no number, switch or text where the schema takes nothing else."""
    entries = {**axolotl_table()["fsdp_keys"], **axolotl_table()["keys"]}
    for name, setting in keys.given.items():
        kind = entries.get(name, ("any",))[0]
        value = setting.value
        if value is None or name in CHECKED_WHERE_READ or keys.is_unknown(name):
            continue
        if not _is_of_kind(value, kind):
            keys.refuse(f"{name} must be {KINDS[kind]}, not {value!r}", setting)


def _is_of_kind(value: object, kind: str) -> bool:
    """Tell whether pydantic takes a value, in its lax mode."""
    if kind == "str":
        return isinstance(value, str)
    if kind == "bool":
        is_number = isinstance(value, (int, float)) and value in (0, 1)
        return is_number or STRTOBOOL.read(value) is not None
    if kind in ("int", "float"):
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return False
        return kind == "float" or number.is_integer()
    return True


def _removed(keys: FrameworkKeys) -> None:
    for name, instead in REMOVED_WHEN_ON.items():
        setting = keys.get(name)
        if setting is not None and setting.value:
            keys.refuse(f"{name} was removed", setting, instead or "remove it")
    for name in REMOVED_WHEN_GIVEN:
        setting = keys.get(name)
        if setting is not None:
            keys.refuse(f"{name} was removed", setting, "remove it")


def _batch(keys: FrameworkKeys) -> None:
    # check_gas_bsz, check_batch_size_fields
    total = keys.get("batch_size")
    if total is None or not total.value:
        return
    if keys.value("gradient_accumulation_steps"):
        keys.refuse(
            "gradient_accumulation_steps and batch_size are both given", total, "remove batch_size"
        )
    elif not keys.value("micro_batch_size"):
        keys.refuse("batch_size alone is not enough", total, "micro_batch_size beside it")
    else:
        # The schema's default of 1 stands where normalize_config would divide.
        keys.note(
            "PF140",
            "batch_size has no effect: gradient_accumulation_steps is 1 by default",
            total,
            "gradient_accumulation_steps in its place",
        )


def _attention(keys: FrameworkKeys) -> None:
    # check_sample_packing_w_rl, check_batch_flattening_fa, check_context_parallel_size
    packing, rl = keys.flag("sample_packing"), keys.get("rl")
    if packing is not None and packing.value and rl is not None:
        keys.refuse("sample_packing does not work with rl", packing, "sample_packing: false")
    attention = keys.settings.get("attention")
    name = str(keys.value("attn_implementation", attention.value if attention else ""))
    flattens = keys.get("batch_flattening")
    if flattens is not None and flattens.value is True:
        if not name.startswith(VARLEN):
            fix = "attn_implementation: flash_attention_2"
            keys.refuse("batch_flattening needs an attention for packed rows", flattens, fix)
        elif packing is not None and packing.value:
            keys.refuse("batch_flattening and sample_packing are both on", flattens, "remove one")
    size = keys.count("context_parallel_size") or keys.count("sequence_parallel_degree")
    if size is None or size.value == 1 or keys.is_unknown("attn_implementation"):
        return
    if not name.startswith("flash_attention_2") and not keys.is_on("use_glm_dsa_kernels"):
        keys.refuse(
            "context_parallel_size needs flash attention 2",
            size,
            "attn_implementation: flash_attention_2",
        )
    elif packing is not None and packing.value and keys.value("micro_batch_size", 1) != 1:
        keys.refuse(
            "context_parallel_size with sample_packing takes micro_batch_size: 1",
            keys.given["micro_batch_size"],
            "micro_batch_size: 1",
        )


def _selective(keys: FrameworkKeys) -> None:
    # check_selective_checkpointing
    selective = keys.get("selective_checkpointing")
    if selective is not None and selective.value:
        if not keys.value("gradient_checkpointing"):
            keys.refuse(
                "selective_checkpointing requires gradient_checkpointing",
                selective,
                "gradient_checkpointing: true",
            )
        elif asks_for_reentrant(keys):
            keys.refuse(
                "selective_checkpointing does not work with use_reentrant: true",
                selective,
                "use_reentrant: false in gradient_checkpointing_kwargs",
            )


def _fsdp(keys: FrameworkKeys) -> None:
    # check_fsdp2_w_8bit_optimizer, check_fsdp_offload_w_8bit_optimizer, check_fsdp2_cpu_ram_efficient_loading_w_4bit
    version = keys.environment.get("FSDP_VERSION")
    if version is None:
        return
    is_v2, optimizer = version.value == "2", keys.get("optimizer")
    name = str(optimizer.value) if optimizer is not None else ""
    offload = keys.environment.get("FSDP_OFFLOAD_PARAMS")
    if optimizer is not None and is_v2 and name in NO_FSDP2:
        keys.refuse(f"{name} does not work with FSDP2", optimizer, "optimizer: adamw_torch_8bit")
    if optimizer is not None and not is_v2 and "8bit" in name and _is_true(offload):
        keys.refuse(
            f"{name} does not work with FSDP1's offload_params", optimizer, "fsdp_version: 2"
        )
    efficient = keys.environment.get("FSDP_CPU_RAM_EFFICIENT_LOADING")
    if is_v2 and efficient is not None and _is_true(efficient) and keys.is_on("load_in_4bit"):
        keys.refuse(
            "cpu_ram_efficient_loading does not work with load_in_4bit under FSDP2",
            efficient,
            "cpu_ram_efficient_loading: false",
        )
    preference = keys.value("rl") in ("dpo", "kto", "orpo", "ipo")
    for bits in ("load_in_4bit", "load_in_8bit"):
        setting = keys.flag(bits)
        if preference and is_v2 and setting is not None and setting.value:
            keys.refuse(f"{bits} does not work with rl under FSDP2", setting, "fsdp_version: 1")
    norms = keys.flag("fp32_norms")
    if norms is not None and norms.value and not is_v2:
        keys.refuse("fp32_norms needs FSDP2", norms, "fsdp_version: 2")


def _is_true(setting: Setting | None) -> bool:
    return setting is not None and is_true(setting.value)


def _optimizers(keys: FrameworkKeys) -> None:
    # check_muon_deepspeed_fsdp, check_flashoptim_deepspeed_fsdp, check_tensor_parallel_optimizer
    setting = keys.get("optimizer")
    if setting is None:
        return
    name = str(setting.value)
    version = keys.environment.get("FSDP_VERSION")
    if name == "muon" or name in FLASH_OPTIMIZERS:
        if "deepspeed" in keys.arguments:
            keys.refuse(f"{name} does not work with DeepSpeed", setting)
        elif version is not None and version.value != "2":
            keys.refuse(f"{name} works with FSDP2 only", setting, "fsdp_version: 2")
    parallel = keys.count("tensor_parallel_size", 0)
    if parallel is not None and parallel.value > 1 and name in NO_TENSOR_PARALLEL:
        keys.refuse(f"{name} does not work with tensor_parallel_size", setting)


def _saving(keys: FrameworkKeys) -> None:
    # check_early_stopping, check_save_strategy_best_requires_metric
    patience = keys.get("early_stopping_patience")
    steps = (keys.value("save_steps"), keys.value("eval_steps"))
    if patience is not None and patience.value and not all(steps):
        keys.refuse("early_stopping_patience needs save_steps and eval_steps", patience)
    strategy = keys.get("save_strategy")
    is_best = strategy is not None and strategy.value == "best"
    if strategy is not None and is_best and not keys.get("metric_for_best_model"):
        fix = "metric_for_best_model: eval_loss"
        keys.refuse("save_strategy: best needs metric_for_best_model", strategy, fix)


def _relora(keys: FrameworkKeys) -> None:
    setting = keys.flag("relora")
    if setting is None or not setting.value:
        return
    if "FSDP_VERSION" in keys.environment or "deepspeed" in keys.arguments:
        keys.refuse("relora works without FSDP and DeepSpeed only", setting, "relora: false")


def _kept_in_fp32(keys: FrameworkKeys) -> None:
    """Say that embeddings and head stay in fp32 where no attention asks for 16 bits (_configure_embedding_dtypes)."""
    attention, dtype = keys.settings.get("attention"), keys.settings.get("load_dtype")
    if attention is None or dtype is None or dtype.value == "fp32" or keys.get("adapter"):
        return
    is_alone = "FSDP_VERSION" not in keys.environment and "deepspeed" not in keys.arguments
    has_cut = keys.value("cut_cross_entropy") is True
    if is_alone and attention.value in ("eager", "sdpa") and not has_cut:
        at = keys.get("attn_implementation") or keys.get("base_model") or attention
        keys.note(
            "PF143",
            f"with {attention.value} attention axolotl trains embeddings, head and norms in fp32: they are estimated in {dtype.value}",
            at,
            "attn_implementation: flash_attention_2",
        )


CHECKS: tuple[Callable[[FrameworkKeys], None], ...] = (
    _required,
    _types,
    _removed,
    _batch,
    _attention,
    check_lora_kernels,
    _selective,
    _fsdp,
    _optimizers,
    _saving,
    _relora,
    _kept_in_fp32,
)
