"""Tells engine, degrees, wrapping, offload and dtypes from the wrapped modules themselves."""

from __future__ import annotations

from typing import Any


def find_wrapper(model: Any, class_name: str) -> Any:
    """Return the wrapper of this class around the model, or None."""
    while model is not None:
        if type(model).__name__ == class_name:
            return model
        model = getattr(model, "module", None)
    return None


def engine_of(model: Any) -> str:
    deepspeed = find_wrapper(model, "DeepSpeedEngine")
    if deepspeed is not None:
        return f"zero{deepspeed.zero_optimization_stage()}"
    if find_wrapper(model, "FullyShardedDataParallel") is not None:
        return "fsdp1"
    if find_wrapper(model, "DistributedDataParallel") is not None:
        return "ddp"
    from torch.distributed.fsdp import FSDPModule

    return "fsdp2" if isinstance(model, FSDPModule) else "single"


def fsdp_units(model: Any, engine: str) -> list[tuple[str, Any]]:
    """Return (class of the wrapped module, FSDP's own object) for every unit, the root first."""
    units = []
    for module in model.modules():
        if engine == "fsdp1" and type(module).__name__ == "FullyShardedDataParallel":
            inner = module._fsdp_wrapped_module
            inner = getattr(inner, "_checkpoint_wrapped_module", inner)
            units.append((type(inner).__name__, module))
        elif engine == "fsdp2" and hasattr(module, "_get_fsdp_state"):
            inner = getattr(module, "_checkpoint_wrapped_module", module)
            name = type(inner).__name__.removeprefix("FSDP")
            units.append((name, module._get_fsdp_state()._fsdp_param_group))
    return units


def degrees(model: Any, engine: str, units: list[tuple[str, Any]]) -> dict[str, int]:
    """Return the shard and replicate degrees from the meshes and groups in use."""
    import torch.distributed as dist

    if engine == "fsdp2":
        from torch.distributed.tensor import DTensor

        sharded = next(p for p in model.parameters() if isinstance(p, DTensor))
        shard = replicate = 1
        for dimension, placement in enumerate(sharded.placements):
            size = sharded.device_mesh.size(dimension)
            if placement.is_shard():
                shard *= size
            else:
                replicate *= size
        return {"shard_degree": shard, "replicate_degree": replicate}
    if engine == "fsdp1":
        root = units[0][1]
        if root.sharding_strategy.name == "NO_SHARD":
            return {"shard_degree": 1, "replicate_degree": dist.get_world_size()}
        shard = root.process_group.size()
        return {"shard_degree": shard, "replicate_degree": dist.get_world_size() // shard}
    if engine in ("zero1", "zero2", "zero3"):
        return {"shard_degree": find_wrapper(model, "DeepSpeedEngine").dp_world_size}
    return {"shard_degree": 1}


def reshard(model: Any) -> None:
    """Shard FSDP2's parameters again: an evaluation at the last step leaves the root's gathered."""
    for _, unit in fsdp_units(model, engine_of(model)) if engine_of(model) == "fsdp2" else ():
        if unit is not None:
            unit.reshard()


def _layer_unit(units: list[tuple[str, Any]]) -> Any:
    """Return the unit of a decoder layer, or the root where it is the only one.

    A checkpointed layer can be a unit twice, and its wrapper then holds no parameters of its own.
    """
    layers = [unit for name, unit in units if name.endswith("DecoderLayer") and unit is not None]
    return layers[0] if layers else units[0][1]


def reshards(units: list[tuple[str, Any]], engine: str) -> bool | None:
    """Tell whether a layer frees its parameters after forward; accelerate keeps the head's for backward."""
    if not units:
        return None
    unit = _layer_unit(units)
    if engine == "fsdp1":
        return unit.sharding_strategy.name in ("FULL_SHARD", "HYBRID_SHARD")
    return unit.post_forward_mesh_info is not None


def wrap_policy(units: list[tuple[str, Any]], num_layers: int) -> str | None:
    if not units:
        return None
    names = [name for name, _ in units]
    if len(names) == 1:
        return "none"
    num_wrapped_layers = sum(name.endswith("DecoderLayer") for name in names)
    return "transformer" if num_wrapped_layers == num_layers else "size"


def param_offload(units: list[tuple[str, Any]], deepspeed: Any) -> str:
    if deepspeed is not None:
        return _offload_device(deepspeed.zero_offload_param())
    return _fsdp_offload(units)


def optimizer_offload(units: list[tuple[str, Any]], deepspeed: Any) -> str:
    if deepspeed is not None:
        return _offload_device(deepspeed.zero_offload_optimizer())
    return _fsdp_offload(units)


def _offload_device(config: Any) -> str:
    device = None if config is None else config.device
    return "none" if device is None else getattr(device, "value", str(device))


def _fsdp_offload(units: list[tuple[str, Any]]) -> str:
    """FSDP offloads parameters, gradients and the optimizer together."""
    if not units:
        return "none"
    unit = _layer_unit(units)
    policy = getattr(unit, "offload_policy", None)
    if policy is not None:
        return "cpu" if type(policy).__name__ == "CPUOffloadPolicy" else "none"
    return "cpu" if unit.cpu_offload.offload_params else "none"


def mixed_precision(accelerator: Any, deepspeed: Any) -> str:
    if deepspeed is None:
        return str(accelerator.mixed_precision)
    config = deepspeed._config
    if config.bfloat16_config.enabled:
        return "bf16"
    return "fp16" if config.float16_config.enabled else "no"


def local_numel(tensor: Any) -> int:
    if hasattr(tensor, "to_local"):
        return int(tensor.to_local().numel())
    if hasattr(tensor, "ds_tensor"):
        return int(tensor.ds_tensor.numel())
    return int(tensor.numel())


def whole_numel(tensor: Any) -> int:
    """Return the elements over all ranks; FSDP1's flat parameters know their own shard only."""
    return int(getattr(tensor, "ds_numel", None) or tensor.numel())


def dtypes_of(model: Any, frozen_only: bool = False) -> list[str]:
    """Return the dtypes of the parameters; of an adapter's base alone with `frozen_only`."""
    parameters = (p for p in model.parameters() if not (frozen_only and p.requires_grad))
    return sorted({dtype_name(p.dtype) for p in parameters})


def dtype_name(dtype: Any) -> str:
    names = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
    return names.get(str(dtype).removeprefix("torch."), str(dtype))


def one_or_all(dtypes: list[str]) -> str:
    return dtypes[0] if len(dtypes) == 1 else ",".join(dtypes)


def count(names: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
