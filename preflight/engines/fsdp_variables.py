"""The variables by which accelerate hands FSDP's options to its workers (accelerate/utils/launch.py, 1.15.0)."""

from __future__ import annotations

FSDP_ALWAYS = {
    # variable -> (option, lower-cased)
    "FSDP_VERSION": ("fsdp_version", False),
    "FSDP_SHARDING_STRATEGY": ("fsdp_sharding_strategy", False),
    "FSDP_RESHARD_AFTER_FORWARD": ("fsdp_reshard_after_forward", True),
    "FSDP_OFFLOAD_PARAMS": ("fsdp_offload_params", True),
    "FSDP_MIN_NUM_PARAMS": ("fsdp_min_num_params", False),
    "FSDP_FORWARD_PREFETCH": ("fsdp_forward_prefetch", True),
    "FSDP_USE_ORIG_PARAMS": ("fsdp_use_orig_params", True),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": ("fsdp_cpu_ram_efficient_loading", True),
    "FSDP_SYNC_MODULE_STATES": ("fsdp_sync_module_states", True),
    "FSDP_ACTIVATION_CHECKPOINTING": ("fsdp_activation_checkpointing", True),
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": ("fsdp_activation_checkpointing_offload", True),
}


FSDP_IF_GIVEN = {
    "FSDP_AUTO_WRAP_POLICY": "fsdp_auto_wrap_policy",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "fsdp_transformer_layer_cls_to_wrap",
    "FSDP_BACKWARD_PREFETCH": "fsdp_backward_prefetch",
    "FSDP_STATE_DICT_TYPE": "fsdp_state_dict_type",
    "FSDP_IGNORED_MODULES": "fsdp_ignored_modules",
}


FSDP_VARIABLES = {
    **{option: variable for variable, (option, _) in FSDP_ALWAYS.items()},
    **{option: variable for variable, option in FSDP_IF_GIVEN.items()},
}
"""Option of accelerate's launcher -> the variable that it writes."""
