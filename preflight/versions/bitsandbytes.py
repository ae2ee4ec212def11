"""What changed in which release of bitsandbytes, of which 37 from 0.35.4 to 0.50.2 were read, of 62.

What never changed from the release that brought 4-bit layers on, 0.39.0: blocks of 64 weights and of 256 of their scales, and
optimizers that keep states of fewer than 4,096 numbers, and of embeddings that are registered, in fp32 and page none of fewer
than 100,000 (functional.py, optim/optimizer.py). Blocks of 8-bit states had 2,048 numbers before 0.44 and have 256 since: a
scale takes 0.2 % of them, or 1.6 %.
"""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "bitsandbytes")

KEEPS_EIGHT_BIT_INPUT = _since(
    "0.39",
    "an 8-bit layer keeps what it reads, on its node; before, a copy of it in 8 bits alone",
    "autograd/_functions.py MatMul8bitLt.forward: `ctx.tensors = (CAt, subA)` in 0.35.4 to 0.38.1, `(CAt, subA, A)` in 0.39.0"
    " to 0.50.2",
    "0.50.2",
)
COMPUTES_AS_GIVEN = _since(
    "0.41",
    "a 4-bit layer computes in the dtype of the first that it reads, where that is fp32 or bf16; before, in that of its config",
    "nn/modules.py Linear4bit.set_compute_type: 0.41.0 has it, 0.40.2 casts to compute_dtype",
    "0.50.2",
)
KEEPS_NO_INPUT = _since(
    "0.43.2",
    "a 4-bit layer keeps nothing of what it reads; before, all of it, on its node and not among autograd's saved tensors,"
    " where no hook and no checkpoint but a reentrant one lets go of it",
    "autograd/_functions.py MatMul4Bit.forward: `ctx.tensors = (A, B)` in 0.39.0 to 0.43.1, `(None, B)` in 0.43.2 to 0.50.2;"
    " 0.43.1 and 0.43.2 counted (tests/formulas/packed_inputs.jsonl)",
    "0.50.2",
)
KEEPS_NO_EIGHT_BIT_COPY = _since(
    "0.45",
    "an 8-bit layer whose weight is frozen makes no copy of what it reads in 8 bits to keep; before, one for each layer",
    "autograd/_functions.py MatMul8bitLt.forward: 0.44.1 calls double_quant whatever asks for gradients, 0.45.0 has CAt = None;"
    " 0.44.1 and 0.45.0 counted (tests/formulas/packed_inputs.jsonl)",
    "0.50.2",
)
