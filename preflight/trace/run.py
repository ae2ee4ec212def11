"""One trace from job to levels: build, record forward and backward, record the optimizer, compose."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from preflight.trace.autocast import EmulatedAutocast
from preflight.trace.build import build
from preflight.trace.built import BuiltModel, torch_dtype
from preflight.trace.checkpointing import apply_checkpointing
from preflight.trace.compose import Depth, Level, compose
from preflight.trace.fused_head import add_fused_head, head_like_cuda
from preflight.trace.job import TraceJob
from preflight.trace.log import (
    BUCKETS,
    BUFFERS,
    GRADIENTS,
    PARAMETERS,
    START,
    AllocationLog,
    Bytes,
    PartBytes,
    add,
)
from preflight.trace.patches import like_cuda
from preflight.trace.quantized import PRODUCT, product_workspace
from preflight.trace.recorder import Recorder, local_of, quantization_tensors, recording
from preflight.trace.sharded import fake_ranks, like, local_like, shard, to_fake
from preflight.trace.step import (
    NUM_STEPS,
    clip,
    deep_parameters,
    forget_gradients,
    optimizer_alone,
    run_steps,
    step_in_backward,
    step_optimizer,
)
from preflight.values import dataclass

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Trace:
    """What was traced, and the levels of the whole model."""

    levels: tuple[Level, ...]
    depth: Depth
    log: AllocationLog
    """The shallow model's allocations in order; the whole model's where nothing was left out."""


def trace(
    job: TraceJob,
    progress: Progress = lambda text: None,
    device: str = "meta",
    num_steps: int = NUM_STEPS,
) -> Trace:
    """Trace one job. `device` cpu runs it for real, with data and with what the CPU itself decides."""
    with ExitStack() as stack:
        stack.enter_context(_without_collecting())
        progress("building the model")
        built = build(job, device)
        if job.kernels:
            from preflight.trace.liger import with_liger

            stack.enter_context(with_liger(built.model, job.kernels))
        if job.engine == "fsdp2":
            device = "cpu"
            _shard(built, job, stack, progress)
        recorder = Recorder(AllocationLog(), device)
        recorder.workspaces = {PRODUCT: product_workspace}
        autocast = EmulatedAutocast(torch_dtype(job.compute_dtype), recorder)
        if device == "meta" or job.engine == "fsdp2":
            text = built.model.config.get_text_config()
            num_experts = getattr(text, "num_local_experts", None)
            stack.enter_context(like_cuda(job.has_padding, autocast, num_experts))
            # whether all of a mask is ones, or any of it is not
            recorder.answers = {"all": not job.has_padding, "any": job.has_padding}
        head: AbstractContextManager[Any] = nullcontext()
        if job.loss == "chunked_linear":
            add_fused_head(built.model)
            head = head_like_cuda(autocast.current_dtype)
        if job.checkpointing:
            apply_checkpointing(built, job, autocast.for_recompute if job.autocast else None)
        recorder.hold_model(built.model, PARAMETERS, BUFFERS)
        region = autocast.region if job.autocast else nullcontext
        named = list(built.model.named_parameters())
        depth = built.depth
        trained: set[str] = set()
        if job.steps_in_backward:
            stepping = step_in_backward(job, named, recorder)
        elif depth.is_full:
            stepping = step_optimizer(job, named, recorder, built.embeddings)
        else:
            stepping = forget_gradients(built.model, recorder.log, trained, job.keeps_gradients)
        progress(f"{len(depth.kept)} of {depth.num_layers} layers, forward and backward")
        with head, recording(recorder):
            run_steps(
                job, built.model, built.layers, recorder, stepping, region, progress, num_steps
            )
        parts = recorder.log.parts()
        start = parts[0].at_end
        stepping_parts: dict[int, list[PartBytes]] = {}
        if not depth.is_full:
            progress("the optimizer over all layers")
            start = add(start, _missing(built))
            stepping_parts = _optimizer_parts(job, built, device, trained)
    if job.has_buckets:
        trainable = sum(
            p.nbytes
            for _, p in deep_parameters(named, built.prefix, depth.stand_ins)
            if p.requires_grad
        )
        start = add(start, {(BUCKETS, "DistributedDataParallel"): trainable})
    return Trace(tuple(compose(start, parts[1:], depth, stepping_parts)), depth, recorder.log)


def _shard(built: BuiltModel, job: TraceJob, stack: ExitStack, progress: Progress) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    progress(f"sharding over {job.shard_degree} ranks")
    mesh = stack.enter_context(fake_ranks(job))
    stack.enter_context(FakeTensorMode())
    to_fake(built.model)
    shard(built, job, mesh)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Keep the garbage collector from freeing at a moment that depends on everything else in the process."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _local_bytes(tensor: Any) -> int:
    return int(local_of(tensor).untyped_storage().nbytes())


def _missing(built: BuiltModel) -> Bytes:
    """Return the bytes of the layers that were left out: those of their stand-ins."""

    def of(layer: Any) -> Bytes:
        parameters = list(layer.parameters())
        scales = [scale for p in parameters for scale in quantization_tensors(p)]
        return {
            (category, category): sum(_local_bytes(tensor) for tensor in tensors)
            for category, tensors in ((PARAMETERS, parameters + scales), (BUFFERS, layer.buffers()))
        }

    each = [of(layer) for layer in built.layers]
    missing: Bytes = {}
    for stand_in in built.depth.stand_ins:
        missing = add(missing, each[stand_in])
    for own in each:
        missing = add(missing, {key: -num_bytes for key, num_bytes in own.items()})
    return missing


def _optimizer_parts(
    job: TraceJob, built: BuiltModel, device: str, trained: set[str]
) -> dict[int, list[PartBytes]]:
    """Trace clipping and stepping over the parameters of all layers that got gradients, by step."""
    named = [(n, p) for n, p in built.model.named_parameters() if n in trained]
    deep = list(deep_parameters(named, built.prefix, built.depth.stand_ins))
    if job.engine != "fsdp2":
        copies = [(name, like(parameter)) for name, parameter in deep]
        recorder = Recorder(AllocationLog(), device)
        return _stepped(copies, recorder, step_optimizer(job, copies, recorder, built.embeddings))
    found: dict[int, list[PartBytes]] = {}
    if job.clips:
        once = _clipped(deep, device)
        found = {step: _as_of(step, once) for step in range(NUM_STEPS)}
    # Optimizers work shard by shard, so plain shards step alike, and ten times as fast.
    with _real_meta():
        shards = [(name, local_like(parameter)) for name, parameter in deep]
        recorder = Recorder(AllocationLog(), "meta")
        stepped = _stepped(
            shards, recorder, optimizer_alone(job, shards, recorder, built.embeddings)
        )
    return {step: [*found.get(step, ()), *parts] for step, parts in stepped.items()}


def _clipped(deep: list[tuple[str, Any]], device: str) -> list[PartBytes]:
    """Return what clipping takes: of sharded tensors, since norms are combined across ranks.

    Layers that are alike share their gradients here: every one of them has a norm, and is scaled in place.
    """
    recorder = Recorder(AllocationLog(), device)
    for _, parameter in deep:
        if parameter.grad is None:
            parameter.grad = like(parameter).detach()
        recorder.hold(parameter.grad, GRADIENTS, "backward")
    with recording(recorder):
        clip(deep, recorder, 0)
    return recorder.log.parts()[1:]


def _real_meta() -> AbstractContextManager[Any]:
    """Make meta tensors that are not fake ones inside the block."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    context: AbstractContextManager[Any] = unset_fake_temporarily()
    return context


def _as_of(step: int, parts: list[PartBytes]) -> list[PartBytes]:
    """Return parts of one step as those of another, in which the same happens."""
    return [replace(each, part=replace(each.part, step=step)) for each in parts]


def _stepped(
    named: list[tuple[str, Any]],
    recorder: Recorder,
    stepping: Callable[[int], None],
) -> dict[int, list[PartBytes]]:
    """Run `stepping` in every step with new gradients; return the parts it marked, by step."""
    for _, parameter in named:
        recorder.hold(parameter, PARAMETERS)
    for step in range(NUM_STEPS):
        recorder.log.mark(START)
        for _, parameter in named:
            parameter.grad = like(parameter).detach()
            recorder.hold(parameter.grad, GRADIENTS, "backward")
        with recording(recorder):
            stepping(step)
    found: dict[int, list[PartBytes]] = {}
    for entry in recorder.log.parts():
        if entry.part != START:
            found.setdefault(entry.part.step, []).append(entry)
    return found
