"""The keys of an accelerate config file: top level, sections, and the ones people write by mistake.

Source: ClusterConfig and the launch parser of accelerate 1.15.0 (accelerate/commands/config/config_args.py,
accelerate/commands/launch.py); a test compares the top-level keys with the installed class.
"""

from __future__ import annotations

from preflight.launchers.accelerate.argv import BY_KEY

TOP_LEVEL_KEYS = (
    "compute_environment", "distributed_type", "mixed_precision", "use_cpu", "debug", "num_processes", "machine_rank",
    "num_machines", "gpu_ids", "main_process_ip", "main_process_port", "rdzv_backend", "same_network",
    "main_training_function", "enable_cpu_affinity", "fp8_config", "deepspeed_config", "fsdp_config",
    "parallelism_config", "megatron_lm_config", "mpirun_config", "downcast_bf16", "tpu_name", "tpu_zone",
    "tpu_use_cluster", "tpu_use_sudo", "command_file", "commands", "tpu_vm", "tpu_env", "dynamo_config",
)  # fmt: skip
LEGACY_KEYS = ("fp16", "dynamo_backend")
"""Still taken at top level and converted: `fp16: true` and `dynamo_backend: X`."""

NEVER_APPLIED_KEYS = {"same_network": False, "rdzv_backend": "static", "enable_cpu_affinity": False}
"""Top-level keys whose option has a default that is not None, so the file's value never reaches it."""

DISTRIBUTED_TYPES = (
    "NO", "MULTI_CPU", "MULTI_GPU", "MULTI_NPU", "MULTI_MLU", "MULTI_SDAA", "MULTI_MUSA", "MULTI_XPU", "DEEPSPEED",
    "FSDP", "XLA", "MEGATRON_LM", "MULTI_HPU", "MULTI_NEURON",
)  # fmt: skip
MULTI_DEVICE_TYPES = tuple(
    name for name in DISTRIBUTED_TYPES if name.startswith("MULTI_") and name != "MULTI_CPU"
)

DYNAMO_BACKENDS = (
    "EAGER", "AOT_EAGER", "INDUCTOR", "AOT_TS_NVFUSER", "NVPRIMS_NVFUSER", "CUDAGRAPHS", "OFI", "FX2TRT", "ONNXRT",
    "TENSORRT", "AOT_TORCHXLA_TRACE_ONCE", "TORCHXLA_TRACE_ONCE", "TVM", "HPU_BACKEND", "NEURON",
)  # fmt: skip
"""What a config file may say of torch.compile, beside NO; the flag has another list, with a misspelling of its own."""

SECTIONS = (
    "fp8_config",
    "deepspeed_config",
    "fsdp_config",
    "parallelism_config",
    "megatron_lm_config",
    "mpirun_config",
    "dynamo_config",
)

_PREFIXES = {"fsdp_config": "fsdp", "fp8_config": "fp8", "dynamo_config": "dynamo_"}
"""Section -> a key without this prefix gets it. The other sections get none."""

_DEEPSPEED_KEYS = (
    "deepspeed_config_file", "zero_stage", "offload_optimizer_device", "offload_param_device",
    "offload_optimizer_nvme_path", "offload_param_nvme_path", "gradient_accumulation_steps", "gradient_clipping",
    "zero3_init_flag", "zero3_save_16bit_model", "deepspeed_hostfile", "deepspeed_exclusion_filter",
    "deepspeed_inclusion_filter", "deepspeed_multinode_launcher", "deepspeed_moe_layer_cls_names",
)  # fmt: skip

LOOK_ALIKES = {
    "fsdp_config": {
        "fsdp_cpu_offload": "fsdp_offload_params",
        "cpu_offload": "fsdp_offload_params",
        "fsdp_offload": "fsdp_offload_params",
        "fsdp_backward_prefetch_policy": "fsdp_backward_prefetch",
        "fsdp_transformer_cls_to_wrap": "fsdp_transformer_layer_cls_to_wrap",
        "fsdp_transformer_layer_cls": "fsdp_transformer_layer_cls_to_wrap",
        "fsdp_gradient_checkpointing": "fsdp_activation_checkpointing",
    },
    "deepspeed_config": {
        "stage": "zero_stage",
        "offload_optimizer": "offload_optimizer_device",
        "offload_param": "offload_param_device",
        "zero3_save_16bit": "zero3_save_16bit_model",
        "config_file": "deepspeed_config_file",
    },
    "parallelism_config": {
        "cp_comm_strategy": "parallelism_config_cp_comm_strategy",
        "parallelism_config_cp_rotate_method": "parallelism_config_cp_comm_strategy",
    },
}
"""Section -> a spelling that is seen in the wild -> the one that works."""


def with_prefix(section: str, key: str) -> str:
    """Return the option that a section's key sets."""
    prefix = _PREFIXES.get(section, "")
    if not prefix or key.startswith(prefix):
        return key
    return prefix + key if prefix.endswith("_") else f"{prefix}_{key}"


def known_keys(section: str) -> tuple[str, ...]:
    """Return the keys that mean something in a section, in the spelling that always works."""
    if section == "deepspeed_config":
        return _DEEPSPEED_KEYS
    if section == "mpirun_config":
        return ("mpirun_hostfile",)
    start = section[: -len("config")] if section != "parallelism_config" else "parallelism_config_"
    keys = tuple(key for key in BY_KEY if key.startswith(start))
    return (*keys, "fsdp_ignored_modules") if section == "fsdp_config" else keys


def key_fix(section: str, key: str) -> str:
    """Return what to write instead of a key that accelerate does not know, or an empty string."""
    from preflight.near_names import nearest_fix

    known = known_keys(section)
    bare = LOOK_ALIKES.get(section, {})
    for spelling in (key, with_prefix(section, key)):
        if spelling in bare:
            return f"did you mean {bare[spelling]}"
    if section == "parallelism_config" and f"parallelism_config_{key}" in known:
        return f"write parallelism_config_{key}: this section gets no prefix"
    return nearest_fix(with_prefix(section, key), known)
