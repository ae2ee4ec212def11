"""Count what torchao's fake-quantized linear layers keep and make: `python fake_quantized_linears.py` prints the rows.

Run it with torch and a torchao from 0.7 on; rows of releases that agree are one row in fake_quantized.jsonl.
"""

from __future__ import annotations

import gc
import json
from typing import Any

from allocations import Allocations

SHAPES = ((64, 1024, 1024), (4096, 256, 256), (64, 2048, 256), (1024, 1024, 256))
SCHEMES = {"8da4w": "Int8DynActInt4WeightQATQuantizer", "4w": "Int4WeightOnlyQATQuantizer"}


def counted(scheme: str, dtype: Any, tokens: int, inputs: int, outputs: int) -> dict[str, int]:
    """Return the bytes that one layer keeps for its backward, and its peaks."""
    import torch
    from torchao.quantization import qat

    model = torch.nn.Sequential(torch.nn.Linear(inputs, outputs, bias=False)).to(dtype)
    quantizer = getattr(qat, SCHEMES[scheme])(groupsize=256)
    quantizer.precision = dtype
    model = quantizer.prepare(model).to(dtype)
    given = torch.randn(1, tokens, inputs, dtype=dtype, requires_grad=True)
    with Allocations() as found:
        found.mark("forward")
        output = model(given)
        gc.collect()
        kept = found.now - output.untyped_storage().nbytes()
        found.mark("backward")
        output.backward(torch.ones_like(output))
    return {"kept": kept, **found.peaks}


if __name__ == "__main__":
    import torch
    import torchao

    for scheme in SCHEMES:
        for dtype in (torch.bfloat16, torch.float32):
            for tokens, inputs, outputs in SHAPES:
                row = {
                    "scheme": scheme,
                    "dtype": str(dtype).removeprefix("torch."),
                    "tokens": tokens,
                    "inputs": inputs,
                    "outputs": outputs,
                }
                print(
                    json.dumps(
                        {
                            "torchao": [torchao.__version__],
                            **row,
                            **counted(scheme, dtype, tokens, inputs, outputs),
                        }
                    )
                )
