"""What FSDP holds in passing: gathered parameters, their buffers, unsharded gradients, reduce-scatter inputs.

Read from torch/distributed/fsdp (2.13) and from the allocations of `fully_shard` traced on fake
tensors; tests/formulas/test_sharding_transients.py traces it again. G is a decoder layer, H the tail
(final norm and head), E the embedding, c the bytes of the gathered dtype:

    FSDP2  forward           cG + 2cG     gathered layer; its buffer kept to the next copy-out, the prefetched one
           loss forward      cH + cH      the tail stays gathered; its buffer until the next gather
           loss backward     cH
           head backward     2cH + cG     weight gradient, reduce-scatter input; prefetched layer
           last layer        cH + 2cG     reduce-scatter input of the tail, gathered layer; prefetched one
           first layer       2cG + cE     gathered layer, reduce-scatter input; prefetched embedding
           embedding         2cE + cG     gathered embedding, its dense gradient, reduce-scatter input
    FSDP1  root unit (embedding, norm, head) gathered from the start of forward to the end of backward
           forward           cG           a second layer waits in the allocator for the compute stream
           loss backward     cG           prefetched by the root's pre-backward hook
           last layer        2cG + 2cG    gathered and prefetched; every gradient and the flat one
           embedding         2c(E + H)    the root's gradients and the flat one

tests/formulas/test_real_ranks.py counts FSDP1, FSDP2 and ZeRO on real processes.
In a layer's backward the gradients of its matrices appear while its activations go: what is counted
on top of all its activations is the larger of the last matrix's gradient and of what all gradients
exceed the freed activations by.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm
from preflight.model import ModelSpec


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the transients of FSDP."""
    if not plan.is_fsdp or (plan.shard_degree == 1 and plan.mixed_precision == "no"):
        return
    from preflight.formulas.engines.fsdp_step import fsdp_terms  # most launches have no FSDP

    yield from fsdp_terms(plan, model)
