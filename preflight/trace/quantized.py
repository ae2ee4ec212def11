"""A frozen base in bitsandbytes' 4-bit layers, built from its sizes: no weight is ever quantized.

Packed weights, scales and code books have the shapes that quantizing would give them
(bitsandbytes/functional.py quantize_4bit, 0.50.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.formulas.layers.layer_sizes import BLOCK, LARGEST_FUSED_TOKENS
from preflight.formulas.precision import STACKED
from preflight.units import ceil_div
from preflight.versions.installed import installed_versions
from preflight.versions.transformers import PACKS_PLAIN_LINEAR_ALONE

ABSMAX_BLOCK = 256
NUM_CODES = 16
NUM_ABSMAX_CODES = 256
PRODUCT = "gemm_4bit"


def pack_linears(model: Any, quantization: Mapping[str, Any]) -> None:
    """Replace the linear layers that transformers packs, GPT-2's own among them: all but the output embedding."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    plain_alone = PACKS_PLAIN_LINEAR_ALONE.holds_in(installed_versions(("transformers",)))
    for owner in list(model.modules()):
        for name, module in list(owner.named_children()):
            is_own = plain_alone and type(module) is not torch.nn.Linear
            if module is not head and (
                isinstance(module, Conv1D) or (isinstance(module, torch.nn.Linear) and not is_own)
            ):
                setattr(owner, name, _packed(module, quantization))
    if quantization.get("experts"):
        _pack_experts(model, quantization)
    model.is_loaded_in_4bit = model.is_quantized = True
    for (
        module
    ) in model.modules():  # quantizers/base.py _assign_is_quantized, 5.24.0: Jamba asks its config
        if hasattr(module, "config"):
            module.config._is_quantized = True
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        upcast = quantization["upcast"]
        is_norm = parameter.ndim == 1
        if parameter.is_floating_point() and (upcast == "all" or (upcast == "norms" and is_norm)):
            parameter.data = parameter.data.to(torch.float32)


def _packed(linear: Any, quantization: Mapping[str, Any]) -> Any:
    from importlib import import_module

    import torch

    from preflight.trace.built import torch_dtype

    layers = import_module("bitsandbytes.nn")
    rows, columns = linear.weight.shape
    if hasattr(linear, "nf"):
        rows, columns = columns, rows  # Conv1D keeps it the other way round
    is_double, kind = quantization["double_quant"], quantization["scheme"]
    state = _state((rows, columns), linear.weight.dtype, quantization)
    with torch.device("meta"):
        packed = layers.Linear4bit(
            columns,
            rows,
            bias=linear.bias is not None,
            compute_dtype=torch_dtype(quantization["compute_dtype"]),
            compress_statistics=is_double,
            quant_type=kind,
        )
        packed.weight = layers.Params4bit(
            torch.empty((ceil_div(rows * columns, 2), 1), dtype=torch.uint8),
            requires_grad=False,
            quant_state=state,
            blocksize=BLOCK,
            compress_statistics=is_double,
            quant_type=kind,
            module=packed,
            bnb_quantized=True,
        )
    packed.quant_state = state
    if linear.bias is not None:
        packed.bias = linear.bias
    return packed


def _state(shape: Any, dtype: Any, quantization: Mapping[str, Any]) -> Any:
    """Return the scales and code books of a packed weight."""
    from importlib import import_module
    from math import prod

    import torch

    functional = import_module("bitsandbytes.functional")
    is_double, num_blocks = quantization["double_quant"], ceil_div(prod(shape), BLOCK)
    with torch.device("meta"):
        of_scales = None
        if is_double:
            of_scales = functional.QuantState(
                absmax=torch.empty(ceil_div(num_blocks, ABSMAX_BLOCK), dtype=torch.float32),
                code=torch.empty(NUM_ABSMAX_CODES, dtype=torch.float32),
                blocksize=ABSMAX_BLOCK,
                dtype=torch.float32,
            )
        return functional.QuantState(
            absmax=torch.empty(num_blocks, dtype=torch.uint8 if is_double else torch.float32),
            shape=torch.Size(shape),
            code=torch.empty(NUM_CODES, dtype=torch.float32),
            blocksize=BLOCK,
            quant_type=quantization["scheme"],
            dtype=dtype,
            offset=torch.empty((), dtype=torch.float32) if is_double else None,
            state2=of_scales,
        )


def _pack_experts(model: Any, quantization: Mapping[str, Any]) -> None:
    """Make bitsandbytes' parametrizations of stacks of experts (nn/parametrize.py replace_parameter_4bit, 0.50.2)."""
    from importlib import import_module

    import torch
    from torch.nn.utils.parametrize import register_parametrization

    parametrize = import_module("bitsandbytes.nn.parametrize")
    for path, module in list(model.named_modules()):
        for name, stack in list(module.named_parameters(recurse=False)):
            if stack.ndim < STACKED or "expert" not in path:
                continue
            packed = torch.empty((ceil_div(stack.numel(), 2), 1), dtype=torch.uint8, device="meta")
            setattr(module, name, torch.nn.Parameter(packed, requires_grad=False))
            state = _state(stack.shape, stack.dtype, quantization)
            kept = parametrize.Bnb4bitParametrization(state)
            register_parametrization(module, name, kept, unsafe=True)
            parametrize._register_parametrization_hooks(module, name)


def product_workspace(args: Any, kwargs: Any) -> list[int]:
    """Return the bytes that the 4-bit product allocates inside itself on a GPU: fp32 scales and the whole weight."""
    activations, (rows, columns) = args[0], args[2]
    if activations.numel() // columns <= LARGEST_FUSED_TOKENS:
        return []
    scales = 4 * ceil_div(rows * columns, BLOCK) if kwargs.get("absmax_8bit") is not None else 0
    weight = activations.element_size() * rows * columns
    return [size for size in (scales, weight) if size]
