"""Count what bitsandbytes' layers keep on their nodes: `python packed_inputs.py` prints a row for each case, of its release.

Each case is a small model whose linear layers are the release's own, adapted by PEFT and run forward on the CPU; then every node
of theirs lets go of its `tensors`, and the bytes that die with them are what nothing else keeps. Releases before 0.46 have no
kernels for a CPU: what those return is made of zeros here, of the same shapes and dtypes; the layers and their autograd functions
are the release's. Run it with torch, transformers, peft and a bitsandbytes from 0.37 on:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/packed_inputs.py >> packed_inputs.jsonl
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
from importlib.metadata import version
from itertools import product
from typing import Any

import torch
from allocations import Allocations

HIDDEN, INNER, HEADS, LAYERS, ROWS, LENGTH = 128, 384, 4, 2, 2, 64
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "gpt_neox": {"use_parallel_residual": True},
    "phi": {},
    "opt": {"ffn_dim": INNER, "word_embed_proj_dim": HIDDEN, "dropout": 0.0},
}
SHAPE = {
    "hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
    "vocab_size": 256, "max_position_embeddings": 128,
}  # fmt: skip
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
TARGETS = {
    "llama": ["q_proj", "v_proj"],
    "gpt_neox": ["query_key_value"],
    "phi": ["q_proj", "v_proj"],
    "opt": ["q_proj", "v_proj"],
}


def release() -> tuple[int, ...]:
    """Return the release whose layers are counted."""
    return tuple(int(part) for part in version("bitsandbytes").split(".")[:2])


def without_kernels() -> None:
    """Have the kernels of a release that has none for a CPU return zeros."""
    functional = importlib.import_module("bitsandbytes.functional")

    def unpacked(packed: Any, state: Any) -> torch.Tensor:
        return torch.zeros(
            state.shape, dtype=state.dtype
        ).t()  # as a packed weight that is handed over transposed

    def quantized(rows: torch.Tensor, *_: Any, **__: Any) -> tuple[Any, ...]:
        scales = torch.zeros(rows.shape[0]), torch.zeros(rows.shape[1])
        return torch.zeros_like(rows, dtype=torch.int8), torch.zeros_like(rows, dtype=torch.int8), *scales, None  # fmt: skip

    def multiplied(rows: Any, weight: Any, *_: Any) -> Any:
        return torch.zeros(rows.shape[0], weight.shape[0], dtype=torch.int32)

    def dequantized(product: Any, *_: Any, **__: Any) -> torch.Tensor:
        return torch.zeros(product.shape, dtype=torch.float16)

    functional.dequantize_4bit = functional.dequantize_fp4 = unpacked
    functional.double_quant = functional.int8_double_quant = quantized
    functional.int8_vectorwise_quant = lambda rows, *_, **__: (*quantized(rows)[::2], None)[:3]
    functional.transform = lambda weight, *_, **__: (weight.clone(), (weight.shape, "row"))
    functional.igemmlt = lambda *args: (multiplied(*args), None)
    functional.int8_linear_matmul = multiplied
    functional.mm_dequant = functional.int8_mm_dequant = dequantized
    torch.cuda.get_device_capability = lambda *_, **__: (8, 0)  # type: ignore[assignment]
    torch.cuda.get_device_name = lambda *_, **__: "A100"  # type: ignore[assignment]


class State:
    """The scales of a 4-bit weight, of which a layer reads what it is the packing of."""

    def __init__(self, linear: Any) -> None:
        self.shape, self.dtype, self.blocksize = linear.weight.shape, linear.weight.dtype, 64


def packed(linear: Any, scheme: str, compute: Any) -> Any:
    """Return the release's layer in the place of a linear one."""
    layers = importlib.import_module("bitsandbytes.nn")
    rows, columns = linear.weight.shape
    has_bias = linear.bias is not None
    if scheme == "int8":
        layer = layers.Linear8bitLt(columns, rows, has_bias, has_fp16_weights=False, threshold=6.0)
        weight = torch.zeros(rows, columns, dtype=torch.int8)
        layer.weight = layers.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
        layer.weight.CB, layer.weight.SCB = weight, torch.ones(rows)
    else:
        layer = layers.Linear4bit(columns, rows, has_bias, compute_dtype=compute, quant_type="nf4")
        if release() >= (0, 46):
            functional = importlib.import_module("bitsandbytes.functional")
            bits, state = functional.quantize_4bit(linear.weight.data, quant_type="nf4")
            layer.weight = layers.Params4bit(bits, requires_grad=False, quant_state=state)
            layer.weight.bnb_quantized = True
        else:
            bits = torch.zeros(rows * columns // 2, 1, dtype=torch.uint8)
            layer.weight = layers.Params4bit(bits, requires_grad=False)
            layer.weight.quant_state = State(linear)
        layer.quant_state = layer.weight.quant_state
    if has_bias:
        layer.bias = torch.nn.Parameter(linear.bias.data, requires_grad=False)
    return layer


def built(family: str, scheme: str, dtype: str, compute: str, upcast: bool, wide: bool, targets: Any) -> Any:  # fmt: skip
    """Return a small model with packed layers and adapters."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **{**SHAPE, **FAMILIES[family]})
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype])
    head = model.get_output_embeddings()
    for owner in list(model.modules()):
        for name, module in list(owner.named_children()):
            if module is not head and isinstance(module, torch.nn.Linear):
                setattr(owner, name, packed(module, scheme, DTYPES[compute]))
    setattr(model, "is_loaded_in_8bit" if scheme == "int8" else "is_loaded_in_4bit", True)
    model.is_quantized = True
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if upcast and parameter.is_floating_point():
            parameter.data = parameter.data.float()
    asked = LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(model, asked)
    for name, parameter in model.named_parameters():  # PEFT's are fp32 beside a packed weight
        if "lora_" in name and not wide:
            parameter.data = parameter.data.to(DTYPES[dtype])
    model.enable_input_require_grads()
    model.train()
    for module in model.modules():  # a CPU has another function for 8 bits, where a layer trains
        if type(module).__name__ == "Linear8bitLt" and not hasattr(module, "base_layer"):
            module.train(False)
    return model


def let_go(output: Any) -> int:
    """Take from every node of a packed layer what it holds; return how many there were."""
    seen, waiting, count = set(), [output.grad_fn], 0
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [each for each, _ in node.next_functions]
        if type(node).__name__ in ("MatMul4BitBackward", "MatMul8bitLtBackward"):
            node.tensors = node.tensor_states = None
            count += 1
    return count


def counted(model: Any, recomputes: str, mixed: str) -> int:
    """Return the bytes that packed layers alone keep of one forward."""
    if recomputes != "none":
        kwargs = {"use_reentrant": recomputes == "reentrant"}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
    ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    autocast = torch.autocast("cpu", DTYPES.get(mixed, torch.bfloat16), enabled=mixed != "no")
    with Allocations() as allocations, autocast:
        output = model(input_ids=ids, use_cache=False).logits
        gc.collect()
        before = allocations.now
        let_go(output)
        gc.collect()
        return before - allocations.now


CASES = [
    *product(("llama", "gpt_neox", "phi", "opt"), ("nf4", "int8"), (("bf16", "bf16", False, False, "no"),), ("some", "all"),
             ("none", "not reentrant")),
    *product(("llama",), ("nf4", "int8"), (
        ("bf16", "bf16", False, True, "no"), ("bf16", "bf16", False, True, "bf16"), ("bf16", "bf16", True, True, "bf16"),
        ("bf16", "bf16", True, True, "no"), ("fp16", "bf16", False, False, "no"), ("fp16", "fp16", False, False, "no"),
    ), ("some", "all"), ("none", "not reentrant")),
    *product(("llama",), ("nf4", "int8"), (("bf16", "bf16", False, False, "no"),), ("all",), ("reentrant",)),
]  # fmt: skip
"""Family, scheme, (dtype, compute dtype, all upcast, adapters in fp32, mixed precision), targets, checkpointing."""


def main() -> None:
    """Print a row for each case of the release that is here."""
    bitsandbytes, is_enabled = importlib.import_module("bitsandbytes"), torch.is_autocast_enabled
    torch.is_autocast_enabled = lambda *_: is_enabled("cpu")  # PEFT asks for CUDA's
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if release() < (0, 46):
        without_kernels()
    for family, scheme, (dtype, compute, upcast, wide, mixed), targets, recomputes in CASES:
        if scheme == "nf4" and not hasattr(bitsandbytes.nn, "Linear4bit"):
            continue
        on = "all-linear" if targets == "all" else TARGETS[family]
        model = built(family, scheme, dtype, compute, upcast, wide, on)
        row = {
            "bitsandbytes": version("bitsandbytes"), "family": family, "scheme": scheme, "dtype": dtype, "compute": compute,
            "upcast": upcast, "wide": wide, "mixed": mixed, "targets": targets, "recomputes": recomputes,
        }  # fmt: skip
        print(json.dumps({**row, "kept": counted(model, recomputes, mixed)}), flush=True)


if __name__ == "__main__":
    main()
