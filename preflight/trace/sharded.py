"""FSDP2 over a process group that is not there: accelerate's wrapping, on fake tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from preflight.trace.built import BuiltModel, torch_dtype
from preflight.trace.job import TraceJob
from preflight.trace.patches import replaced
from preflight.trace.recorder import local_of


@contextmanager
def fake_ranks(job: TraceJob) -> Iterator[Any]:
    """Be rank 0 of the job's ranks; give the mesh they form."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    shape: tuple[int, ...] = (job.shard_degree,)
    names: tuple[str, ...] = ("shard",)
    if job.replicate_degree > 1:
        shape = (job.replicate_degree, job.shard_degree)
        names = ("replicate", "shard")
    world = job.shard_degree * job.replicate_degree
    dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
    try:
        with _no_strides():
            yield init_device_mesh("cpu", shape, mesh_dim_names=names)
    finally:
        dist.destroy_process_group()


@contextmanager
def _no_strides() -> Iterator[None]:
    """Look for strided shards nowhere: this mesh shards once. torch looks through a list's tensors for each of them,
    which for the gradients of 80 layers takes longer than a step (distributed/tensor/_sharding_prop.py:48, 2.13).
    """
    from torch.distributed.tensor import _sharding_prop

    name = "_propagate_use_strided_shard_flag"
    if not hasattr(_sharding_prop, name):  # releases before it
        yield
        return
    with replaced(_sharding_prop, name, lambda *_: None):
        yield


def to_fake(model: Any) -> None:
    """Give a meta model fake CPU tensors, tied ones staying tied: fully_shard refuses meta ones it must shard."""
    import torch

    moved: dict[int, Any] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in moved:
                    fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
                    if isinstance(tensor, torch.nn.Parameter):
                        fake = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
                    moved[id(tensor)] = (tensor, fake)
                tensors[name] = moved[id(tensor)][1]


def shard(built: BuiltModel, job: TraceJob, mesh: Any) -> None:
    """Wrap as accelerate does (utils/fsdp_utils.py:700-840, 1.15.0): layers, embedding, norm with head, root."""
    import torch
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    model = built.model
    policy = MixedPrecisionPolicy()
    if job.mixed:
        compute = torch_dtype(job.compute_dtype)
        policy = MixedPrecisionPolicy(compute, torch_dtype(job.reduce_dtype), compute)
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.dtype != torch.float32:
                parameter.data = parameter.data.to(torch.float32)
    arguments: dict[str, Any] = {"mesh": mesh, "mp_policy": policy}
    reshard = job.reshard_after_forward
    classes = set(job.wrap_classes or getattr(model, "_no_split_modules", None) or ())
    classes = classes or {type(built.layers[0]).__name__}
    for module in _bottom_up(model):
        if type(module).__name__ in classes:
            fully_shard(module, reshard_after_forward=reshard, **arguments)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head is not None and embedding.weight is head.weight
    if not is_tied and not isinstance(embedding, FSDPModule):
        fully_shard(embedding, reshard_after_forward=reshard, **arguments)
    norm = _final_norm(model)
    tail = (norm, embedding, head) if is_tied else (norm, head)
    units = [m for m in tail if m is not None and not isinstance(m, FSDPModule)]
    if units:
        fully_shard(units, reshard_after_forward=False, **arguments)
    fully_shard(model, **arguments)


def _bottom_up(model: Any) -> Iterator[Any]:
    for child in model.children():
        yield from _bottom_up(child)
        yield child


def _final_norm(model: Any) -> Any:
    """Return the last norm among the direct children of the base model, as accelerate finds it; None with PEFT."""
    import torch

    prefix = getattr(model, "base_model_prefix", "")
    base = getattr(model, prefix, None) if prefix else model
    if not isinstance(base, torch.nn.Module):
        return None
    norms = [module for module in base.children() if "Norm" in type(module).__name__]
    return norms[-1] if norms else None


def like(parameter: Any) -> Any:
    """Return a parameter of the same shape, dtype and sharding with a storage of its own."""
    import torch
    from torch.distributed.tensor import DTensor

    with torch.no_grad():
        if isinstance(parameter, DTensor):  # past the search for a sharding, which is known
            make: Any = DTensor
            local = torch.empty_like(local_of(parameter))
            empty = make(local, parameter._spec, requires_grad=False)
        else:
            empty = torch.empty_like(parameter)
        return torch.nn.Parameter(empty, requires_grad=parameter.requires_grad)


def local_like(parameter: Any) -> Any:
    """Return a meta parameter of the shape and dtype of this rank's shard."""
    import torch

    local = local_of(parameter)
    empty = torch.empty_strided(local.shape, local.stride(), dtype=local.dtype, device="meta")
    return torch.nn.Parameter(empty, requires_grad=parameter.requires_grad)
