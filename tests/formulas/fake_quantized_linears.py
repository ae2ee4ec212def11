"""Count what torchao's fake-quantized linear layers keep and make: `python fake_quantized_linears.py` prints the rows.

Run it with torch and a torchao from 0.7 on; rows of releases that agree are one row in fake_quantized.jsonl. From 0.17 on it
prints the formats of axolotl's `qat` too, as its prepare_model_for_qat asks for them (utils/quantization.py, 0.19.0).
"""

from __future__ import annotations

import gc
import importlib.util
import json
from typing import Any

from allocations import Allocations

SHAPES = ((64, 1024, 1024), (4096, 256, 256), (64, 2048, 256), (1024, 1024, 256))
SCHEMES = {"8da4w": "Int8DynActInt4WeightQATQuantizer", "4w": "Int4WeightOnlyQATQuantizer"}


WIDER = ("int8/int4", "none/int4", "fp8/fp8", "fp8/int4", "mxfp4/mxfp4")
"""Formats of inputs and weights that axolotl's `qat` takes, of which each row has groups of 32."""


def prepared_as_axolotl(model: Any, scheme: str) -> Any:
    """Return a model with the layers of one format."""
    import torch
    from torchao.prototype.qat import MXFakeQuantizeConfig
    from torchao.quantization import quantize_
    from torchao.quantization.granularity import PerRow
    from torchao.quantization.qat import QATConfig
    from torchao.quantization.qat.fake_quantize_config import (
        Float8FakeQuantizeConfig,
        Int4WeightFakeQuantizeConfig,
        IntxFakeQuantizeConfig,
    )

    of_inputs, of_weights = scheme.split("/")
    float8 = torch.float8_e4m3fn
    inputs = {
        "none": None,
        "int8": IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False),
        "fp8": Float8FakeQuantizeConfig(float8, PerRow()),
        "mxfp4": MXFakeQuantizeConfig(torch.float4_e2m1fn_x2, 32),
    }
    around = float8 if of_inputs == "fp8" else torch.bfloat16
    weights = {
        "int4": Int4WeightFakeQuantizeConfig(group_size=32, activation_dtype=around),
        "fp8": Float8FakeQuantizeConfig(float8, PerRow()),
        "mxfp4": inputs["mxfp4"],
    }
    asked = QATConfig(activation_config=inputs[of_inputs], weight_config=weights[of_weights])
    quantize_(model, asked)
    return model


def counted_beside_adapter(dtype: Any, tokens: int, inputs: int, outputs: int) -> dict[str, int]:
    """Return what torchtune's layer with an adapter keeps beyond its own weights and the input that it is given."""
    import torch
    from torchtune.modules.peft.lora import LoRALinear, QATLoRALinear
    from torchtune.training.quantization import Int8DynActInt4WeightQATQuantizer

    quantizer = Int8DynActInt4WeightQATQuantizer(groupsize=256)
    quantizer.precision = dtype
    configs = (
        quantizer.get_activation_fake_quantize_config(),
        quantizer.get_weight_fake_quantize_config(),
    )
    torch.set_default_dtype(dtype)
    layer = QATLoRALinear.from_lora_linear(LoRALinear(inputs, outputs, 8, 16.0), *configs)
    torch.set_default_dtype(torch.float32)
    layer.weight.requires_grad_(False)
    given = torch.randn(1, tokens, inputs, dtype=dtype, requires_grad=True)
    with Allocations() as found:
        for tensor in (given, *layer.parameters()):
            found.track(tensor)
        before = found.now
        found.mark("forward")
        output = layer(given)
        gc.collect()
        kept = found.now - before - output.untyped_storage().nbytes()
        found.mark("backward")
        output.backward(torch.ones_like(output))
    return {"kept": kept, **{part: found.peaks[part] - before for part in ("forward", "backward")}}


def counted(scheme: str, dtype: Any, tokens: int, inputs: int, outputs: int) -> dict[str, int]:
    """Return the bytes that one layer keeps for its backward, and its peaks."""
    import torch
    from torchao.quantization import qat

    model = torch.nn.Sequential(torch.nn.Linear(inputs, outputs, bias=False)).to(dtype)
    if scheme in WIDER:
        model = prepared_as_axolotl(model, scheme)
    else:
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

    if importlib.util.find_spec("torchtune"):  # of 0.6.1, whose layers stand on torchao's
        for dtype in (torch.bfloat16, torch.float32):
            for tokens, inputs, outputs in SHAPES:
                row = {
                    "scheme": "8da4w, adapted",
                    "dtype": str(dtype).removeprefix("torch."),
                    "tokens": tokens,
                    "inputs": inputs,
                    "outputs": outputs,
                }
                found = counted_beside_adapter(dtype, tokens, inputs, outputs)
                print(json.dumps({"torchao": [torchao.__version__], **row, **found}))
    is_newer = tuple(map(int, torchao.__version__.split("+")[0].split(".")[:2])) >= (0, 17)
    for scheme in (*SCHEMES, *(WIDER if is_newer else ())):
        for dtype in (torch.bfloat16,) if scheme in WIDER else (torch.bfloat16, torch.float32):
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
