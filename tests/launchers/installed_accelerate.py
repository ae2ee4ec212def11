"""What the installed accelerate, transformers and DeepSpeed make of a launch, asked without starting a worker.

Runs accelerate's own parser, validation, environment preparation and plugins in this process, in the
order of `accelerate launch`, then what every worker does before it builds a model.
"""

from __future__ import annotations

import contextlib
import copy
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

REFUSALS = (
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    RuntimeError,
    AssertionError,
    OSError,
    yaml.YAMLError,
)
"""How the libraries refuse a config: on purpose, or by tripping over it."""
WRAP_POLICIES = {
    "transformer_auto_wrap_policy": "transformer",
    "size_based_auto_wrap_policy": "size",
}
MODEL_HIDDEN_SIZE = 64


class Refused(Exception):
    """accelerate, or a worker, stops here."""


@contextlib.contextmanager
def environment(values: Mapping[str, str], folder: str) -> Iterator[None]:
    """Run with exactly this environment, in this folder."""
    before, where = dict(os.environ), os.getcwd()
    os.environ.clear()
    os.environ.update(values)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(where)
        os.environ.clear()
        os.environ.update(before)


def ask_accelerate(argv: Sequence[str], env: Mapping[str, str], folder: str) -> dict[str, Any]:
    """Return what this launch is to accelerate, in plan fields. Raises Refused where it stops."""
    # DeepSpeed looks for a GPU; a worker that computes on the CPU says so.
    base = {**os.environ, "DS_ACCELERATOR": "cpu", **env}
    with environment(base, folder):
        try:
            return _ask(argv)
        except (*REFUSALS, SystemExit) as error:
            raise Refused(f"{type(error).__name__}: {error}") from error


def _ask(argv: Sequence[str]) -> dict[str, Any]:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import launch

    args = launch_command_parser().parse_args(list(argv))
    args, defaults, from_config = _validate_launch_command(args)
    script_argv = args.training_script_args
    if args.use_deepspeed and not args.cpu:
        fields = list(defaults.deepspeed_config.keys()) if defaults else []
        fields += ["mixed_precision"] if from_config else []
        args.deepspeed_fields_from_accelerate_config = ",".join(fields)
        _, env = launch.prepare_deepspeed_cmd_env(copy.copy(args))
        mode = "deepspeed"
    elif (args.use_fsdp or args.multi_gpu) and not args.cpu:
        env = launch.prepare_multi_gpu_env(copy.copy(args))
        mode = "fsdp" if args.use_fsdp else "ddp"
    else:
        _, env = launch.prepare_simple_launcher_cmd_env(args)
        mode = "single"
    ranks = _ranks(args) if mode != "single" else (1, 1)
    with environment(env, os.getcwd()):
        return _worker(mode, ranks, script_argv if "hf" in args.training_script else None)


def _ranks(args: Any) -> tuple[int, int]:
    """Return (world size, nodes) as torchrun starts them."""
    from torch.distributed.run import determine_local_world_size

    nodes = args.num_machines
    per_node = args.num_processes // nodes if nodes > 1 else args.num_processes
    world_size = determine_local_world_size(str(per_node)) * nodes
    if world_size < 1:
        raise ValueError("no rank")
    if nodes > 1:
        int(args.machine_rank)
    return world_size, nodes


def _worker(mode: str, ranks: tuple[int, int], trainer_argv: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"world_size": ranks[0], "num_nodes": ranks[1], "engine": mode}
    arguments = None if trainer_argv is None else trainer_namespace(trainer_argv, ranks[0])
    precision = os.environ["ACCELERATE_MIXED_PRECISION"]
    if arguments is not None and (arguments.fp16 or arguments.bf16):
        precision = "fp16" if arguments.fp16 else "bf16"
    found["mixed_precision"] = precision
    found["torch_compile"] = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "NO") != "NO"
    deepspeed_file = getattr(arguments, "deepspeed", None)
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" or deepspeed_file:
        found.update(_deepspeed(precision, arguments, ranks[0]))
    elif mode in ("fsdp", "ddp"):
        explicit = _trainer_fsdp(arguments)
        if explicit or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
            found.update(_fsdp(ranks, explicit))
    found.setdefault("shard_degree", 1)
    found.update(_parallelism(found, ranks))
    return found


def _trainer_fsdp(arguments: Any) -> dict[str, Any]:
    from transformers import TrainingArguments

    if arguments is None:
        return {}
    arguments._apply_legacy_fsdp_to_config = TrainingArguments._apply_legacy_fsdp_to_config
    return TrainingArguments._process_fsdp_args(arguments) or {}


def _fsdp(ranks: tuple[int, int], explicit: dict[str, Any]) -> dict[str, Any]:
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import ShardingStrategy

    explicit = dict(explicit)
    loads = os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING", "false") == "true"
    if str(explicit.get("fsdp_version", os.environ.get("FSDP_VERSION", "1"))) == "1":
        # FSDP1 asks for the current GPU as soon as it is to broadcast weights; nothing else depends on these two.
        os.environ.update(FSDP_SYNC_MODULE_STATES="false", FSDP_CPU_RAM_EFFICIENT_LOADING="false")
        for name in ("sync_module_states", "cpu_ram_efficient_loading"):
            if name in explicit:
                explicit[name] = False
    plugin = FullyShardedDataParallelPlugin(**explicit)
    found: dict[str, Any] = {"engine": f"fsdp{plugin.fsdp_version}", "shard_degree": ranks[0]}
    policy = plugin.auto_wrap_policy
    found["wrap_policy"] = WRAP_POLICIES.get(getattr(policy, "__name__", ""), "none")
    if found["wrap_policy"] == "size" and plugin.min_num_params == 0:
        found["wrap_policy"] = "none"  # set_auto_wrap_policy drops it
    if found["wrap_policy"] == "transformer" and plugin.transformer_cls_names_to_wrap:
        found["wrap_classes"] = tuple(plugin.transformer_cls_names_to_wrap)
    found["cpu_ram_efficient_loading"] = loads
    # A local state dict gathers nothing, like a sharded one; the plan has no third word.
    found["state_dict_type"] = (
        "full" if plugin.state_dict_type.name.startswith("FULL") else "sharded"
    )
    found["activation_checkpointing"] = "full" if plugin.activation_checkpointing else "none"
    found["offload_activations"] = "cpu" if plugin.activation_checkpointing_offload else "none"
    offload = plugin.cpu_offload
    on = offload.offload_params if plugin.fsdp_version == 1 else hasattr(offload, "pin_memory")
    found["offload_params"] = "cpu" if on else "none"
    if plugin.fsdp_version == 2:
        found["reshard_after_forward"] = plugin.reshard_after_forward
        return found
    strategy = plugin.sharding_strategy
    found["reshard_after_forward"] = strategy in (
        ShardingStrategy.FULL_SHARD,
        ShardingStrategy.HYBRID_SHARD,
    )
    prefetch = plugin.backward_prefetch
    found["backward_prefetch"] = "none" if prefetch is None else prefetch.name.lower()
    if strategy is ShardingStrategy.NO_SHARD:
        found["shard_degree"] = 1
    elif strategy.name.startswith("HYBRID"):
        found.update(shard_degree=ranks[0] // ranks[1], replicate_degree=ranks[1])
    return found


def _deepspeed(precision: str, arguments: Any, world_size: int) -> dict[str, Any]:
    from accelerate.utils import DeepSpeedPlugin
    from deepspeed.runtime.config import DeepSpeedConfigError, _reject_removed_config_keys
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    trainer_config = None
    if arguments is not None and arguments.deepspeed:
        trainer_config = HfTrainerDeepSpeedConfig(arguments.deepspeed)
        trainer_config.trainer_config_process(arguments)
    plugin = DeepSpeedPlugin(hf_ds_config=trainer_config)
    plugin.set_mixed_precision(precision)
    if arguments is not None:
        if trainer_config is None:
            trainer_config = HfTrainerDeepSpeedConfig(plugin.hf_ds_config.config)
            trainer_config.trainer_config_process(arguments)
        model = types.SimpleNamespace(config=types.SimpleNamespace(hidden_size=MODEL_HIDDEN_SIZE))
        if not hasattr(arguments, "get_warmup_steps"):
            arguments.get_warmup_steps = lambda steps: 0
        trainer_config.trainer_config_finalize(arguments, model, 100)
        config = trainer_config.config
    else:
        config = plugin.deepspeed_config
    try:
        _reject_removed_config_keys(config)
    except DeepSpeedConfigError as error:
        raise ValueError(str(error)) from error
    section = config["zero_optimization"]
    hidden = {"reduce_bucket_size": MODEL_HIDDEN_SIZE**2}
    if section.get("stage") == 3:
        hidden["stage3_prefetch_bucket_size"] = int(0.9 * MODEL_HIDDEN_SIZE**2)
        hidden["stage3_param_persistence_threshold"] = 10 * MODEL_HIDDEN_SIZE
    filled = {
        key: hidden.get(key, value) if value == "auto" else value for key, value in section.items()
    }
    zero = DeepSpeedZeroConfig(**filled)
    if config["fp16"].get("enabled") and config["bf16"].get("enabled"):
        raise AssertionError("fp16 and bf16 are both enabled")
    found: dict[str, Any] = {"engine": f"zero{int(zero.stage)}"}
    found["mixed_precision"] = next(
        (kind for kind in ("fp16", "bf16") if config[kind]["enabled"]), "no"
    )
    found["shard_degree"] = world_size if zero.stage > 0 else 1

    def device(offload: Any) -> str:
        return "none" if offload is None else str(getattr(offload.device, "value", offload.device))

    found["offload_optimizer"] = device(zero.offload_optimizer) if zero.stage > 0 else "none"
    found["offload_params"] = device(zero.offload_param) if zero.stage == 3 else "none"
    found["deepspeed"] = {
        "reduce_bucket_size": zero.reduce_bucket_size,
        "allgather_bucket_size": zero.allgather_bucket_size,
        "stage3_prefetch_bucket_size": zero.prefetch_bucket_size,
        "stage3_param_persistence_threshold": zero.param_persistence_threshold,
        "stage3_max_live_parameters": zero.max_live_parameters,
        "stage3_max_reuse_distance": zero.max_reuse_distance,
        "sub_group_size": zero.sub_group_size,
        "zero_hpz_partition_size": zero.zero_hpz_partition_size,
        "contiguous_gradients": zero.contiguous_gradients,
        "overlap_comm": zero.overlap_comm,
        "stage3_gather_16bit_weights_on_model_save": zero.gather_16bit_weights_on_model_save,
    }
    return found


def _parallelism(found: Mapping[str, Any], ranks: tuple[int, int]) -> dict[str, Any]:
    if os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG") != "true":
        return {}
    from accelerate.parallelism_config import ParallelismConfig
    from accelerate.utils import DistributedType

    config = ParallelismConfig()
    engine = found["engine"]
    kinds = {"ddp": DistributedType.MULTI_GPU, "single": DistributedType.NO}
    kind = kinds.get(
        engine, DistributedType.FSDP if "fsdp" in engine else DistributedType.DEEPSPEED
    )
    # The four properties of an Accelerator that the check reads.
    config._validate_accelerator(
        types.SimpleNamespace(
            multi_device=engine == "ddp",
            num_processes=ranks[0],
            is_fsdp2=engine == "fsdp2",
            distributed_type=kind,
            is_main_process=True,
        )
    )
    if config.total_size == 1:
        return {}
    degrees = {
        "tensor_parallel_degree": config.tp_size,
        "context_parallel_degree": config.cp_size,
        "sequence_parallel_degree": config.sp_size,
    }
    if engine == "fsdp2":
        degrees["shard_degree"] = config.dp_shard_size * config.cp_size
        degrees["replicate_degree"] = config.dp_replicate_size
    return degrees


def trainer_namespace(argv: list[str], world_size: int) -> Any:
    """Return TrainingArguments' values without making one: that would start a process group."""
    from transformers import HfArgumentParser, TrainingArguments

    known, _ = HfArgumentParser(TrainingArguments).parse_known_args(argv)
    known.world_size = world_size
    return known
