"""The variables by which accelerate hands FSDP's options to its workers (accelerate/utils/launch.py and dataclasses.py, 1.15.0)."""

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
