"""The variables by which accelerate hands options of FSDP and DeepSpeed to its workers, from which their plugins take their
defaults (accelerate/utils/launch.py and dataclasses.py, 1.15.0)."""

from __future__ import annotations

FSDP_ALWAYS = {
    # option of the launcher -> whether its value is written in lower case
    "fsdp_version": False,
    "fsdp_sharding_strategy": False,
    "fsdp_reshard_after_forward": True,
    "fsdp_offload_params": True,
    "fsdp_min_num_params": False,
    "fsdp_forward_prefetch": True,
    "fsdp_use_orig_params": True,
    "fsdp_cpu_ram_efficient_loading": True,
    "fsdp_sync_module_states": True,
    "fsdp_activation_checkpointing": True,
    "fsdp_activation_checkpointing_offload": True,
}
FSDP_IF_GIVEN = (
    "fsdp_auto_wrap_policy",
    "fsdp_transformer_layer_cls_to_wrap",
    "fsdp_backward_prefetch",
    "fsdp_state_dict_type",
    "fsdp_ignored_modules",
)
_OTHER_WORDS = {
    "cpu_offload": "offload_params",
    "transformer_layer_cls": "transformer_cls_to_wrap",
    "transformer_layer_cls_to_wrap": "transformer_cls_to_wrap",
    "transformer_cls_names_to_wrap": "transformer_cls_to_wrap",
}
"""What the plugin, the launcher or a framework calls an option whose variable has another name."""


def fsdp_variable(option: str) -> str:
    """Return the variable of an option, by the launcher's name, by that of a keyword of the plugin, or without `fsdp_`."""
    name = option.removeprefix("fsdp_")
    return f"FSDP_{_OTHER_WORDS.get(name, name).upper()}"


DEEPSPEED_IF_GIVEN = {
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "zero_stage",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "gradient_accumulation_steps",
    "ACCELERATE_GRADIENT_CLIPPING": "gradient_clipping",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "offload_optimizer_device",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "offload_param_device",
    "ACCELERATE_DEEPSPEED_ZERO3_INIT": "zero3_init_flag",
    "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "zero3_save_16bit_model",
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": "deepspeed_config_file",
}
"""Variable -> option of the launcher."""
_OF_PLUGIN = {"hf_ds_config": "deepspeed_config_file"}
"""Keyword of DeepSpeedPlugin that has another name than the launcher's option."""


def deepspeed_variable(keyword: str) -> str | None:
    """Return the variable that a keyword of DeepSpeedPlugin stands for; None where there is none."""
    option = _OF_PLUGIN.get(keyword, keyword)
    return next((name for name, known in DEEPSPEED_IF_GIVEN.items() if known == option), None)
