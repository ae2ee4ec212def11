"""Activation checkpointing as trainers switch it on: every layer, every second one, or all but attention."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from preflight.trace.job import TraceJob

if TYPE_CHECKING:
    from preflight.trace.built import BuiltModel

Contexts = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]
ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)
"""What TRL keeps (trl/models/selective_activation_checkpointing.py, 1.16.0)."""


def mark_every_second(model: Any) -> None:
    """Choose the layers to recompute while all are there: they are counted from the first, towers included."""
    model.gradient_checkpointing_enable({"use_reentrant": False}, every_n_layers=2)


def apply_checkpointing(
    built: BuiltModel, job: TraceJob, for_recompute: Callable[[], Contexts] | None
) -> None:
    """Recompute layers in backward, without reentering autograd; `for_recompute` gives contexts to do so in."""
    marks = [getattr(layer, "gradient_checkpointing", True) for layer in built.layers]
    arguments: dict[str, Any] = {"use_reentrant": False}
    if job.checkpointing_mode == "selective_op":
        arguments["context_fn"] = partial(_keeping_attention, for_recompute)
    elif for_recompute is not None:
        arguments["context_fn"] = for_recompute
    built.model.gradient_checkpointing_enable(arguments)
    if job.checkpointing_mode == "selective_every_2":
        for layer, is_marked in zip(built.layers, marks, strict=True):
            layer.gradient_checkpointing = is_marked


def _keeping_attention(for_recompute: Callable[[], Contexts] | None) -> Contexts:
    import torch
    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

    kept = {getattr(torch.ops.aten, name).default for name in ATTENTION}

    def policy(context: Any, operation: Any, *_: Any, **__: Any) -> Any:
        if operation in kept:
            return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE

    forward, again = create_selective_checkpoint_contexts(policy)  # type: ignore[no-untyped-call]
    if for_recompute is None:
        return forward, again
    outer_forward, outer_again = for_recompute()
    return _both(outer_forward, forward), _both(outer_again, again)


@contextmanager
def _both(*contexts: AbstractContextManager[Any]) -> Any:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield
