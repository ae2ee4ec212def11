"""Every option of `accelerate launch`, as data.

Source: `launch_command_parser` of accelerate 1.15.0 (accelerate/commands/launch.py); a test compares
this table with the installed parser. accelerate sets `allow_abbrev=False`, so a prefix of an option
is not that option, and it takes `--num-processes` for every `--num_processes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from preflight.values import dataclass

DYNAMO_BACKENDS = (
    "EAGER",
    "AOT_EAGER",
    "INDUCTOR",
    "AOT_TS_NVFUSER",
    "NVPRIMS_NVFUSER",
    "CUDAGRAPHS",
    "OFI",
    "FX2TRT",
    "ONNXRT",
    "TENSORRT",
    "AOT_TORCHXLA_TRACE_ONCE",
    "TORCHXLA_TRACE_ONCE",
    "TVM",
    "HPU_BACKEND",
    "NEURON",
)
"""What a config file may say, beside NO."""

_DYNAMO_FLAG_VALUES = (
    "no",
    "eager",
    "aot_eager",
    "inductor",
    "aot_ts_nvfuser",
    "nvprims_nvfuser",
    "cudagraphs",
    "ofi",
    "fx2trt",
    "onnxrt",
    "tensorrt",
    "aot_torchxla_trace_once",
    "torhchxla_trace_once",
    "tvm",
)
"""What the flag may say: another list, with accelerate's own misspelling."""


@dataclass(frozen=True)
class Option:
    """One option: how it is spelled, what it takes, what it is when nobody gives it."""

    name: str
    """The spelling after `--`, with underscores."""
    kind: str = "value"
    """value (takes one), flag (present = True), unset (present = False), append (may come again)."""
    type: str = "str"
    """str, int, float, bool (yes/no words), truthy (argparse's `type=bool`: any text but an empty one is true), bools."""
    default: Any = None
    choices: tuple[str, ...] = ()
    short: str = ""
    dest: str = ""

    @property
    def key(self) -> str:
        """Return the name that the launcher keeps the value under."""
        return self.dest or self.name


OPTIONS: tuple[Option, ...] = (
    Option("config_file"),
    Option("quiet", kind="flag", short="-q"),
    Option("cpu", kind="flag", default=False),
    Option("multi_gpu", kind="flag", default=False),
    Option("tpu", kind="flag", default=False),
    Option("mixed_precision", choices=("no", "fp16", "bf16", "fp8")),
    Option("num_processes", type="int"),
    Option("num_machines", type="int"),
    Option("num_cpu_threads_per_process", type="int"),
    Option("enable_cpu_affinity", kind="flag", default=False),
    Option("dynamo_backend", choices=_DYNAMO_FLAG_VALUES),
    Option(
        "dynamo_mode", default="default", choices=("default", "reduce-overhead", "max-autotune")
    ),
    Option("dynamo_use_fullgraph", kind="flag", default=False),
    Option("dynamo_use_dynamic", kind="flag", default=False),
    Option("dynamo_use_regional_compilation", kind="flag", default=False),
    Option("use_deepspeed", kind="flag", default=False),
    Option("use_fsdp", kind="flag", default=False),
    Option("use_parallelism_config", kind="flag", default=False),
    Option("use_megatron_lm", kind="flag", default=False),
    Option("gpu_ids"),
    Option("same_network", kind="flag", default=False),
    Option("machine_rank", type="int"),
    Option("main_process_ip"),
    Option("main_process_port", type="int"),
    Option("tee", default="0", short="-t"),
    Option("log_dir"),
    Option("role", default="default"),
    Option("rdzv_backend", default="static"),
    Option("rdzv_conf", default=""),
    Option("max_restarts", type="int", default=0),
    Option("monitor_interval", type="float", default=0.1),
    Option("module", kind="flag", short="-m"),
    Option("no_python", kind="flag"),
    Option("tpu_cluster", kind="flag", default=False, dest="tpu_use_cluster"),
    Option("no_tpu_cluster", kind="unset", dest="tpu_use_cluster"),
    Option("tpu_use_sudo", kind="flag", default=False),
    Option("vm", kind="append"),
    Option("env", kind="append"),
    Option("main_training_function"),
    Option("downcast_bf16", kind="flag", default=False),
    Option("deepspeed_config_file"),
    Option("zero_stage", type="int"),
    Option("offload_optimizer_device"),
    Option("offload_param_device"),
    Option("offload_optimizer_nvme_path"),
    Option("offload_param_nvme_path"),
    Option("gradient_accumulation_steps", type="int"),
    Option("gradient_clipping", type="float"),
    Option("zero3_init_flag"),
    Option("zero3_save_16bit_model"),
    Option("deepspeed_hostfile"),
    Option("deepspeed_exclusion_filter"),
    Option("deepspeed_inclusion_filter"),
    Option("deepspeed_multinode_launcher"),
    Option("deepspeed_moe_layer_cls_names"),
    Option("fsdp_version", default="1", choices=("1", "2")),
    Option("fsdp_offload_params", default="false"),
    Option("fsdp_min_num_params", type="int", default=100000000),
    Option("fsdp_sharding_strategy", default="FULL_SHARD"),
    Option("fsdp_reshard_after_forward", default="true"),
    Option("fsdp_auto_wrap_policy"),
    Option("fsdp_transformer_layer_cls_to_wrap"),
    Option("fsdp_backward_prefetch"),
    Option("fsdp_state_dict_type"),
    Option("fsdp_forward_prefetch", default="false"),
    Option("fsdp_use_orig_params", default="true"),
    Option("fsdp_cpu_ram_efficient_loading", default="true"),
    Option("fsdp_sync_module_states", default="true"),
    Option("fsdp_activation_checkpointing", default="false"),
    Option("fsdp_activation_checkpointing_offload", default="false"),
    Option("megatron_lm_tp_degree", type="int", default=1),
    Option("megatron_lm_use_custom_fsdp", type="truthy", default=False),
    Option("megatron_lm_no_load_optim", type="truthy", default=False),
    Option("megatron_lm_eod_mask_loss", type="truthy", default=False),
    Option("megatron_lm_overlap_cpu_optimizer_d2h_h2d", type="truthy", default=False),
    Option("megatron_lm_no_save_optim", type="truthy", default=False),
    Option("megatron_lm_optimizer_cpu_offload", type="truthy", default=False),
    Option("megatron_lm_use_precision_aware_optimizer", type="truthy", default=False),
    Option("megatron_lm_decoder_last_pipeline_num_layers", type="int"),
    Option("megatron_lm_pp_degree", type="int", default=1),
    Option("megatron_lm_num_micro_batches", type="int"),
    Option("megatron_lm_sequence_parallelism"),
    Option("megatron_lm_recompute_activations"),
    Option("megatron_lm_use_distributed_optimizer"),
    Option("megatron_lm_gradient_clipping", type="float", default=1.0),
    Option("megatron_lm_recompute_granularity"),
    Option("megatron_lm_recompute_method"),
    Option("megatron_lm_recompute_num_layers", type="int"),
    Option("megatron_lm_attention_backend"),
    Option("megatron_lm_expert_model_parallel_size", type="int"),
    Option("megatron_lm_context_parallel_size", type="int"),
    Option("megatron_lm_attention_dropout", type="float"),
    Option("megatron_lm_hidden_dropout", type="float"),
    Option("megatron_lm_attention_softmax_in_fp32"),
    Option("megatron_lm_expert_tensor_parallel_size", type="int"),
    Option("megatron_lm_calculate_per_token_loss"),
    Option("megatron_lm_use_rotary_position_embeddings"),
    Option("fp8_backend", choices=("ao", "te", "msamp")),
    Option("fp8_use_autocast_during_eval", kind="flag", default=False),
    Option("fp8_margin", type="int", default=0),
    Option("fp8_interval", type="int", default=1),
    Option("fp8_format", default="HYBRID", choices=("HYBRID", "E4M3", "E5M2")),
    Option("fp8_amax_history_len", type="int", default=1024),
    Option("fp8_amax_compute_algo", default="most_recent", choices=("max", "most_recent")),
    Option("fp8_override_linear_precision", type="bools", default=(False, False, False)),
    Option("fp8_opt_level", default="O2", choices=("O1", "O2")),
    Option("fp8_enable_fsdp_float8_all_gather", type="bool", default="true"),
    Option("fp8_pad_inner_dim", type="bool", default="true"),
    Option("aws_access_key_id"),
    Option("aws_secret_access_key"),
    Option("debug", kind="flag"),
    Option("mpirun_hostfile"),
    Option("parallelism_config_dp_replicate_size", type="int", default=1),
    Option("parallelism_config_dp_shard_size", type="int", default=1),
    Option("parallelism_config_tp_size", type="int", default=1),
    Option("parallelism_config_cp_size", type="int", default=1),
    Option("parallelism_config_cp_backend", default="torch", choices=("torch",)),
    Option("parallelism_config_cp_comm_strategy", default="allgather"),
    Option("parallelism_config_sp_size", type="int", default=1),
    Option("parallelism_config_sp_backend", default="deepspeed", choices=("deepspeed",)),
    Option("parallelism_config_sp_seq_length"),
    Option("parallelism_config_sp_seq_length_is_variable", type="truthy", default=True),
    Option("parallelism_config_sp_attn_implementation", default="sdpa"),
)

BY_KEY: dict[str, Option] = {option.key: option for option in OPTIONS if option.kind != "unset"}


@lru_cache(maxsize=1)
def options_by_flag() -> Mapping[str, Option]:
    """Return every spelling on the command line -> its option."""
    flags: dict[str, Option] = {}
    for option in OPTIONS:
        flags[f"--{option.name}"] = option
        if option.kind != "append" and option.name not in ("vm", "env"):
            flags[f"--{option.name.replace('_', '-')}"] = option
        if option.short:
            flags[option.short] = option
    return flags
