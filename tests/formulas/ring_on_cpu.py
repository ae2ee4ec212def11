"""Let torch's ring attention call the kernel of a CPU, which its table of kernels does not have.

The ring itself is torch's (torch/distributed/tensor/experimental/_context_parallel/_attention.py, 2.13): its gathers,
its sums in fp32 and what it sends back in backward are counted as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.experimental._context_parallel import _attention

aten = torch.ops.aten
FORWARD = aten._scaled_dot_product_flash_attention_for_cpu.default
BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def _forward(mesh: Any, query: Any, key: Any, value: Any, dropout: float = 0.0, is_causal: bool = False, *, attn_mask: Any = None, scale: Any = None) -> Any:  # fmt: skip
    ring = _attention._templated_ring_attention
    return ring(mesh.get_group(), 2, FORWARD, query, key, value, is_causal, scale=scale)


def _backward(mesh: Any, grad: Any, query: Any, key: Any, value: Any, out: Any, lse: Any, dropout: float, is_causal: bool, *, attn_mask: Any = None, scale: Any = None) -> Any:  # fmt: skip
    def kernel(**named: Any) -> Any:
        order = ("grad_out", "query", "key", "value", "out", "logsumexp")
        return BACKWARD(*(named[name] for name in order), 0.0, named["is_causal"], scale=scale)

    ring = _attention._templated_ring_attention_backward
    return ring(mesh.get_group(), 2, kernel, grad, "grad_out", query, key, value, out, lse, is_causal)  # fmt: skip


def _handle(op: Any, args: Any, kwargs: Any) -> Any:
    """Run an op on what each rank has of its operands, along the ring, as _sdpa_handler does for a GPU's."""
    mesh = next(each.device_mesh for each in args if isinstance(each, DTensor))
    placements = next(each.placements for each in args if isinstance(each, DTensor))
    mine = [each.to_local() if isinstance(each, DTensor) else each for each in args]
    made = (_forward if op is FORWARD else _backward)(mesh, *mine, **kwargs)
    return tuple(DTensor.from_local(each, mesh, placements, run_check=False) for each in made)


def install() -> None:
    """Add a CPU's kernel to those that torch runs along the ring."""
    _attention.custom_ops.update({FORWARD: _handle, BACKWARD: _handle})
