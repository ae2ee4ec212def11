"""Every option of `accelerate launch`, as data.

Source: `launch_command_parser` of accelerate 1.15.0 (accelerate/commands/launch.py); a test compares
this table with the installed parser. accelerate sets `allow_abbrev=False`, so a prefix of an option
is not that option, and it takes `--num-processes` for every `--num_processes`.
"""

from __future__ import annotations

from typing import Any

from preflight.shell.starters.launcher_options import LauncherOption

DYNAMO_BACKENDS = (
    "EAGER", "AOT_EAGER", "INDUCTOR", "AOT_TS_NVFUSER", "NVPRIMS_NVFUSER", "CUDAGRAPHS", "OFI", "FX2TRT", "ONNXRT",
    "TENSORRT", "AOT_TORCHXLA_TRACE_ONCE", "TORCHXLA_TRACE_ONCE", "TVM", "HPU_BACKEND", "NEURON",
)  # fmt: skip
"""What a config file may say, beside NO."""

_DYNAMO_FLAG_VALUES = (
    "no", "eager", "aot_eager", "inductor", "aot_ts_nvfuser", "nvprims_nvfuser", "cudagraphs", "ofi", "fx2trt",
    "onnxrt", "tensorrt", "aot_torchxla_trace_once", "torhchxla_trace_once", "tvm",
)  # fmt: skip
"""What the flag may say: another list, with accelerate's own misspelling."""


def _option(
    name: str,
    kind: str = "str",
    short: str = "",
    default: Any = None,
    choices: tuple[str, ...] = (),
    dest: str = "",
) -> LauncherOption:
    """Return the option whose spelling behind `--` is `name`, with underscores or dashes."""
    spellings = (f"--{name}", f"--{name.replace('_', '-')}", short)
    flags = tuple(dict.fromkeys(filter(None, spellings)))
    return LauncherOption(dest or name, flags, kind, choices, default)


OPTIONS: tuple[LauncherOption, ...] = (
    _option("config_file"),
    _option("quiet", "flag", short="-q"),
    _option("cpu", "flag", default=False),
    _option("multi_gpu", "flag", default=False),
    _option("tpu", "flag", default=False),
    _option("mixed_precision", choices=("no", "fp16", "bf16", "fp8")),
    _option("num_processes", "int"),
    _option("num_machines", "int"),
    _option("num_cpu_threads_per_process", "int"),
    _option("enable_cpu_affinity", "flag", default=False),
    _option("dynamo_backend", choices=_DYNAMO_FLAG_VALUES),
    _option(
        "dynamo_mode", default="default", choices=("default", "reduce-overhead", "max-autotune")
    ),
    _option("dynamo_use_fullgraph", "flag", default=False),
    _option("dynamo_use_dynamic", "flag", default=False),
    _option("dynamo_use_regional_compilation", "flag", default=False),
    _option("use_deepspeed", "flag", default=False),
    _option("use_fsdp", "flag", default=False),
    _option("use_parallelism_config", "flag", default=False),
    _option("use_megatron_lm", "flag", default=False),
    _option("gpu_ids"),
    _option("same_network", "flag", default=False),
    _option("machine_rank", "int"),
    _option("main_process_ip"),
    _option("main_process_port", "int"),
    _option("tee", default="0", short="-t"),
    _option("log_dir"),
    _option("role", default="default"),
    _option("rdzv_backend", default="static"),
    _option("rdzv_conf", default=""),
    _option("max_restarts", "int", default=0),
    _option("monitor_interval", "float", default=0.1),
    _option("module", "flag", short="-m"),
    _option("no_python", "flag"),
    _option("tpu_cluster", "flag", default=False, dest="tpu_use_cluster"),
    _option("no_tpu_cluster", "unset", dest="tpu_use_cluster"),
    _option("tpu_use_sudo", "flag", default=False),
    _option("vm", "append"),
    _option("env", "append"),
    _option("main_training_function"),
    _option("downcast_bf16", "flag", default=False),
    _option("deepspeed_config_file"),
    _option("zero_stage", "int"),
    _option("offload_optimizer_device"),
    _option("offload_param_device"),
    _option("offload_optimizer_nvme_path"),
    _option("offload_param_nvme_path"),
    _option("gradient_accumulation_steps", "int"),
    _option("gradient_clipping", "float"),
    _option("zero3_init_flag"),
    _option("zero3_save_16bit_model"),
    _option("deepspeed_hostfile"),
    _option("deepspeed_exclusion_filter"),
    _option("deepspeed_inclusion_filter"),
    _option("deepspeed_multinode_launcher"),
    _option("deepspeed_moe_layer_cls_names"),
    _option("fsdp_version", default="1", choices=("1", "2")),
    _option("fsdp_offload_params", default="false"),
    _option("fsdp_min_num_params", "int", default=100000000),
    _option("fsdp_sharding_strategy", default="FULL_SHARD"),
    _option("fsdp_reshard_after_forward", default="true"),
    _option("fsdp_auto_wrap_policy"),
    _option("fsdp_transformer_layer_cls_to_wrap"),
    _option("fsdp_backward_prefetch"),
    _option("fsdp_state_dict_type"),
    _option("fsdp_forward_prefetch", default="false"),
    _option("fsdp_use_orig_params", default="true"),
    _option("fsdp_cpu_ram_efficient_loading", default="true"),
    _option("fsdp_sync_module_states", default="true"),
    _option("fsdp_activation_checkpointing", default="false"),
    _option("fsdp_activation_checkpointing_offload", default="false"),
    _option("megatron_lm_tp_degree", "int", default=1),
    _option("megatron_lm_use_custom_fsdp", "truthy", default=False),
    _option("megatron_lm_no_load_optim", "truthy", default=False),
    _option("megatron_lm_eod_mask_loss", "truthy", default=False),
    _option("megatron_lm_overlap_cpu_optimizer_d2h_h2d", "truthy", default=False),
    _option("megatron_lm_no_save_optim", "truthy", default=False),
    _option("megatron_lm_optimizer_cpu_offload", "truthy", default=False),
    _option("megatron_lm_use_precision_aware_optimizer", "truthy", default=False),
    _option("megatron_lm_decoder_last_pipeline_num_layers", "int"),
    _option("megatron_lm_pp_degree", "int", default=1),
    _option("megatron_lm_num_micro_batches", "int"),
    _option("megatron_lm_sequence_parallelism"),
    _option("megatron_lm_recompute_activations"),
    _option("megatron_lm_use_distributed_optimizer"),
    _option("megatron_lm_gradient_clipping", "float", default=1.0),
    _option("megatron_lm_recompute_granularity"),
    _option("megatron_lm_recompute_method"),
    _option("megatron_lm_recompute_num_layers", "int"),
    _option("megatron_lm_attention_backend"),
    _option("megatron_lm_expert_model_parallel_size", "int"),
    _option("megatron_lm_context_parallel_size", "int"),
    _option("megatron_lm_attention_dropout", "float"),
    _option("megatron_lm_hidden_dropout", "float"),
    _option("megatron_lm_attention_softmax_in_fp32"),
    _option("megatron_lm_expert_tensor_parallel_size", "int"),
    _option("megatron_lm_calculate_per_token_loss"),
    _option("megatron_lm_use_rotary_position_embeddings"),
    _option("fp8_backend", choices=("ao", "te", "msamp")),
    _option("fp8_use_autocast_during_eval", "flag", default=False),
    _option("fp8_margin", "int", default=0),
    _option("fp8_interval", "int", default=1),
    _option("fp8_format", default="HYBRID", choices=("HYBRID", "E4M3", "E5M2")),
    _option("fp8_amax_history_len", "int", default=1024),
    _option("fp8_amax_compute_algo", default="most_recent", choices=("max", "most_recent")),
    _option("fp8_override_linear_precision", "bools", default=(False, False, False)),
    _option("fp8_opt_level", default="O2", choices=("O1", "O2")),
    _option("fp8_enable_fsdp_float8_all_gather", "bool", default="true"),
    _option("fp8_pad_inner_dim", "bool", default="true"),
    _option("aws_access_key_id"),
    _option("aws_secret_access_key"),
    _option("debug", "flag"),
    _option("mpirun_hostfile"),
    _option("parallelism_config_dp_replicate_size", "int", default=1),
    _option("parallelism_config_dp_shard_size", "int", default=1),
    _option("parallelism_config_tp_size", "int", default=1),
    _option("parallelism_config_cp_size", "int", default=1),
    _option("parallelism_config_cp_backend", default="torch", choices=("torch",)),
    _option("parallelism_config_cp_comm_strategy", default="allgather"),
    _option("parallelism_config_sp_size", "int", default=1),
    _option("parallelism_config_sp_backend", default="deepspeed", choices=("deepspeed",)),
    _option("parallelism_config_sp_seq_length"),
    _option("parallelism_config_sp_seq_length_is_variable", "truthy", default=True),
    _option("parallelism_config_sp_attn_implementation", default="sdpa"),
)

BY_KEY = {option.key: option for option in OPTIONS if option.kind != "unset"}
