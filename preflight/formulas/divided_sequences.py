"""What attention holds where ranks share a sequence: along a ring (context parallel), or by exchanging heads (Ulysses).

Elements of one rank's tokens: Q those of queries, K of keys and of values as the kernel reads them; c is the bytes
of the compute dtype, n the ranks that share a sequence.

**The ring** (torch/distributed/tensor/experimental/_context_parallel/_attention.py, 2.13, _templated_ring_attention):
keys and values of all n ranks are gathered once (2ncK), each part's output is merged in fp32.

    forward    output of the kernel and, in fp32, what is merged with it, their difference, product and sum
               Q(c + 16) + 2ncK
    backward   gradients of queries, keys and values are summed in fp32 (4Q + 8K), those of keys and values go around
               the ring (8K as they are put together, 8K as they arrive); the most is on one rank or another
      first part              4Q + 24K + (Q + 6K)c        beside copies of keys and values in their order
      kernel, second part     4Q + 24K + (2Q + 5K)c       of the last rank; (3Q / 2 + 6K)c of the first
      sums sent on, last rank 4Q + 32K + (Q + 3K)c        old and new of both; (Q + 4K)c between the two
      sums sent on, first     8Q + 24K + (Q / 2 + 4K)c    half of the queries, put together anew
               and 2ncK + cQ: gathered keys and values, the gradient of the output

What is merged of halves is in another order than queries, so that the output projection reads a copy of it: cQ more
are saved on every rank but the last.
Sending parts on instead (cp_comm_strategy alltoall) takes less, and is estimated as if it gathered.

**Ulysses** (deepspeed/runtime/sequence_parallel/ulysses_sp.py, 0.19.8): each rank has all of a sequence for its share
of the heads, as many bytes as before but where keys have fewer heads than there are ranks: they are repeated then.
The kernel's output and what the output projection reads are two tensors and not one.

tests/formulas/test_divided_steps.py counts both on gloo ranks.
"""

from __future__ import annotations

from preflight.formulas.layers.attention_tensors import repeats_keys
from preflight.formulas.layers.layer_bytes import LayerCosts
from preflight.launch import LaunchPlan
from preflight.model import LayerShape
from preflight.units import ceil_div
from preflight.values import replace


def with_divided_sequence(
    plan: LaunchPlan, costs: LayerCosts, shape: LayerShape, stream: int, c: int
) -> LayerCosts:
    """Return one rank's costs of a layer whose attention reads tokens of other ranks.

    `stream` is what norms and products save of the stream between layers, and `c` the bytes of the compute dtype; the
    costs and `stream` are in bytes per token of this rank's own.
    """
    tensor = plan.tensor_parallel_degree
    q = ceil_div(shape.query_size, tensor)
    k = q if repeats_keys(plan) else ceil_div(shape.kv_size, tensor)
    ordinary = 2 * c * (shape.query_size + shape.kv_size + shape.hidden_size)
    kept = max(0, costs.attention_backward - ordinary - stream // 2)
    """Of a layer when its attention's backward begins: what the MLP and its norm saved is gone."""
    if plan.sequence_parallel_degree > 1:
        shares = max(1, plan.sequence_parallel_degree // max(1, shape.num_kv_heads))
        more, forward, backward = _exchanging(q, k, shares * k, c)
    else:
        more = c * q
        forward, backward = _around_the_ring(plan.context_parallel_degree, q, k, c)
        forward += 12 * ceil_div(shape.num_heads, tensor)
    saved = costs.saved + more
    backward += kept + more - c * q + c * shape.hidden_size
    return replace(
        costs,
        saved=saved,
        selective=costs.selective + more,
        forward_transient=max(costs.forward_transient, kept + forward - saved),
        forward_checkpointed=max(
            costs.forward_checkpointed, c * (2 * shape.hidden_size + q + 2 * k) + forward
        ),
        backward_transient=max(costs.backward_transient, backward - saved),
        attention_backward=max(costs.attention_backward, backward),
        traced_forward_bytes=None,
        traced_backward_bytes=None,
    )


def _around_the_ring(degree: int, q: int, k: int, c: int) -> tuple[int, int]:
    """Return the most that ring attention needs in passing, in forward and in backward."""
    gathered = 2 * degree * c * k
    between = 4 if degree > 2 else 3
    backward = max(
        4 * q + 24 * k + (q + 6 * k) * c,
        4 * q + 24 * k + max(2 * q + 5 * k, 3 * q // 2 + 6 * k) * c,
        4 * q + 32 * k + (q + between * k) * c,
        8 * q + 24 * k + (q // 2 + 4 * k) * c,
    )
    return q * (c + 16) + gathered, c * q + gathered + backward


def _exchanging(q: int, k: int, repeated: int, c: int) -> tuple[int, int, int]:
    """Return what exchanging heads adds to what is saved, and the most that it needs in passing in both directions."""
    more = c * q + 2 * c * (repeated - k)
    return more, c * (4 * q + 2 * k), 3 * c * (q + repeated)
