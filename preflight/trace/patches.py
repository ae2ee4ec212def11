"""What PyTorch and transformers must be told so that tensors without data take the path a GPU takes.

Every patch is a context manager that puts the original back, and says why it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from preflight.formulas.layers.layer_sizes import MASK_MULTIPLE
from preflight.model import LARGEST_FLASH_HEAD
from preflight.trace.autocast import EmulatedAutocast
from preflight.trace.routing import balanced_routing

FLASH_HEAD_MULTIPLE = 8
"""Of head sizes of the flash kernel (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp, torch 2.13)."""


@contextmanager
def like_cuda(
    has_padding: bool, autocast: EmulatedAutocast, num_experts: int | None = None
) -> Iterator[None]:
    """Take every decision as on a GPU inside the block. `num_experts`: of a mixture's layer, where it is known."""
    with ExitStack() as patches:
        patches.enter_context(cuda_attention(autocast.current_dtype))
        patches.enter_context(cuda_dropout())
        patches.enter_context(fast_optimizers())
        patches.enter_context(decided_masks(has_padding))
        patches.enter_context(experts_in_any_dtype())
        patches.enter_context(balanced_routing(num_experts))
        patches.enter_context(outputs_without_images())
        patches.enter_context(autocast_known(autocast))
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put a value in an attribute's place, and the old one back."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def cuda_attention(autocast_dtype: Callable[[], Any]) -> Iterator[None]:
    """Choose the attention kernel that an SM80 or newer GPU would choose.

    Keys and values of fewer heads are for flash attention alone; as many heads are none, whatever `enable_gqa` says
    (ATen/native/transformers/sdp_utils_cpp.h check_batch_size_and_num_heads_dense, torch 2.13).

    On meta and CPU tensors scaled_dot_product_attention falls back to its mathematical definition,
    which saves the scores of every head: 2.5 times the bytes of the flash kernel.
    """
    import torch

    original = torch.nn.functional.scaled_dot_product_attention

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        dtype = autocast_dtype()
        if dtype is not None and query.dtype == torch.float32:
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
            if attn_mask is not None and attn_mask.is_floating_point():
                attn_mask = attn_mask.to(dtype)
        if attn_mask is None and _flash_takes(query, value):
            return flash(query, key, value, dropout_p, is_causal, scale)
        if enable_gqa and query.shape[-3] != key.shape[-3]:
            return original(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=True
            )
        if attn_mask is not None:
            attn_mask = _as_bias(attn_mask, query, key)
        return torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale
        )[0]

    with replaced(torch.nn.functional, "scaled_dot_product_attention", attention):
        yield


def flash(
    query: Any, key: Any, value: Any, dropout: float, is_causal: bool, scale: float | None
) -> Any:
    """Run torch's flash attention; head sizes are padded to its multiple."""
    import torch

    size = query.shape[-1]
    missing = -size % FLASH_HEAD_MULTIPLE
    if missing:
        query, key, value = (
            torch.nn.functional.pad(tensor, (0, missing)) for tensor in (query, key, value)
        )
    output = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, dropout, is_causal, scale=scale
    )[0]
    return output[..., :size] if missing else output


def _flash_takes(query: Any, value: Any) -> bool:
    import torch

    size = query.shape[-1]
    is_half = query.dtype in (torch.float16, torch.bfloat16)
    return is_half and size <= LARGEST_FLASH_HEAD and value.shape[-1] == size


def _as_bias(mask: Any, query: Any, key: Any) -> Any:
    """Return the float mask that the efficient kernel is given, padded as it wants it."""
    import torch

    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(
            mask.logical_not(), float("-inf")
        )
    length = mask.shape[-1]
    if length % MASK_MULTIPLE:
        mask = torch.nn.functional.pad(mask, (0, -length % MASK_MULTIPLE))[..., :length]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


@contextmanager
def cuda_dropout() -> Iterator[None]:
    """Save dropout's mask as bool: CPU and meta tensors keep a float noise tensor instead."""
    import torch

    original = torch.nn.functional.dropout

    def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        if training and p > 0 and not inplace:
            return torch.native_dropout(input, p, True)[0]
        return original(input, p, training, inplace)

    with replaced(torch.nn.functional, "dropout", dropout):
        yield


@contextmanager
def fast_optimizers() -> Iterator[None]:
    """Let fused and foreach optimizers and gradient clipping take meta tensors as they take CUDA's."""
    from importlib import import_module

    def devices() -> list[str]:
        return ["cuda", "cpu", "meta"]

    with ExitStack() as patches:
        for module in ("torch.optim.optimizer", "torch.utils._foreach_utils"):
            for name in (
                "_get_foreach_kernels_supported_devices",
                "_get_fused_kernels_supported_devices",
            ):
                patches.enter_context(replaced(import_module(module), name, devices))
        yield


@contextmanager
def decided_masks(has_padding: bool) -> Iterator[None]:
    """Answer what transformers asks of a mask's values: is anything padded, is anything packed.

    A tensor without data raises there, or keeps a mask that a real batch would not have. Releases before 4.53 ask
    torch.all, which the recorder answers.
    """
    answers: dict[str, Callable[..., Any]] = {
        "find_packed_sequence_indices": lambda position_ids: None,
        "fast_all": lambda tensor: not has_padding,
        "is_tracing": lambda tensor=None: False,
    }
    with ExitStack() as patches:
        masks = module_of("transformers.masking_utils")
        for name, answer in answers.items():
            if hasattr(masks, name):
                patches.enter_context(replaced(masks, name, answer))
        yield


def module_of(name: str) -> Any:
    """Return a module of transformers; None in a release that has none of that name."""
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


@contextmanager
def experts_in_any_dtype() -> Iterator[None]:
    """Use transformers' own grouped product where torch's, which takes bf16 alone on meta, cannot be.

    Both save the same tensors.
    """
    import torch

    moe = module_of("transformers.integrations.moe")
    if not hasattr(moe, "_can_use_grouped_mm"):  # before 5.0 experts are linear layers
        yield
        return

    def can_use(input: Any, weight: Any, offs: Any) -> bool:
        return bool(weight.dtype == torch.bfloat16)

    with replaced(moe, "_can_use_grouped_mm", can_use):
        yield


@contextmanager
def outputs_without_images() -> Iterator[None]:
    """Let Llama 4 with its tower run: it asks its text model's output for images (transformers 5.24.0)."""
    from importlib import import_module

    Outputs = import_module("transformers.modeling_outputs").MoeCausalLMOutputWithPast
    if hasattr(Outputs, "image_outputs"):
        yield
        return
    Outputs.image_outputs = None
    try:
        yield
    finally:
        del Outputs.image_outputs


@contextmanager
def autocast_known(autocast: EmulatedAutocast) -> Iterator[None]:
    """Answer for the emulated autocast: torch raises where it is asked about a device type that has none."""
    import torch

    is_enabled, region = torch.is_autocast_enabled, torch.autocast
    dtype_of = torch.get_autocast_dtype

    def is_autocast_enabled(device_type: str | None = None) -> bool:
        if autocast.current_dtype() is not None:
            return True
        if device_type in (None, "meta"):
            return False
        return bool(is_enabled(device_type))

    def autocast_region(device_type: str, *args: Any, **kwargs: Any) -> Any:
        if device_type == "meta":
            return autocast.paused() if kwargs.get("enabled") is False else nullcontext()
        return region(device_type, *args, **kwargs)

    def get_autocast_dtype(device_type: str) -> Any:
        return autocast.current_dtype() if device_type == "meta" else dtype_of(device_type)

    with (
        replaced(torch, "is_autocast_enabled", is_autocast_enabled),
        replaced(torch, "get_autocast_dtype", get_autocast_dtype),
        replaced(torch, "autocast", autocast_region),
    ):
        yield


def register_flash_attention() -> str:
    """Give transformers an attention that calls torch's flash kernel without a mask; return its name.

    flash_attention_2 itself cannot be imported without a GPU; it saves the same tensors, of queries that are cast where
    autocast left them in fp32 (integrations/flash_attention.py get_target_dtype, 5.24.0; the same in 4.48.1).
    """
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def forward(
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        scaling: float | None = None,
        dropout: float = 0.0,
        **_: Any,
    ) -> tuple[Any, None]:
        if query.dtype == torch.float32 and torch.is_autocast_enabled():
            query, key, value = (
                x.to(torch.get_autocast_dtype("meta")) for x in (query, key, value)
            )
        output = flash(query, key, value, dropout, True, scaling)
        return output.transpose(1, 2).contiguous(), None

    def no_mask(*_: Any, **__: Any) -> None:
        return None

    name = "preflight_flash"
    ALL_ATTENTION_FUNCTIONS[name] = forward
    masks = module_of("transformers.masking_utils")
    if masks is not None:
        masks.ALL_MASK_ATTENTION_FUNCTIONS[name] = no_mask
    return name
