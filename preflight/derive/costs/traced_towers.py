"""One small vision tower on this CPU, with real pixels: every tensor that its features and their backward allocate."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from preflight.derive.costs.small_towers import DEPTH, NUM_BEHIND, images, small_config
from preflight.formulas.tower_sizes import sizes_of_rows
from preflight.model import Tower
from preflight.models import describe
from preflight.trace.autocast import EmulatedAutocast
from preflight.trace.log import (
    EMBEDDING_BACKWARD,
    END,
    GRADIENTS,
    LAYER_BACKWARD,
    LAYER_FORWARD,
    LOSS,
    LOSS_BACKWARD,
    PARAMETERS,
    PRELUDE,
    REGION_END,
    AllocationLog,
    Part,
)
from preflight.trace.patches import replaced
from preflight.trace.recorder import Recorder, recording

RANKS = (8, 12, 20)
WITH_BEHIND = ("mllama",)
"""Kinds of a second stack of blocks behind the first, whose outputs are all handed on."""


def trace_tower(
    kind: str, variant: int, mode: str, dtype: str, attention: str, checkpointed: bool
) -> tuple[AllocationLog, Mapping[str, int]]:
    """Run the features of a small tower, and their backward; return what was allocated, and the named sizes in elements."""
    import torch

    config = small_config(kind, variant)
    spec = describe(config, kind, "small_towers.py")
    assert spec.tower is not None
    model = _model(config, mode, dtype, attention, RANKS[variant])
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if mode == "passed" or (mode == "adapted" and checkpointed):
        model.enable_input_require_grads()
    model.train()
    inner = next(
        m
        for m in model.modules()
        if type(m).__name__.endswith("Model")
        and (hasattr(m, "get_image_features") or hasattr(m, "multi_modal_projector"))
    )
    stacks = [
        m for n, m in inner.named_modules()
        if isinstance(m, torch.nn.ModuleList) and "deepstack" not in n
    ]  # fmt: skip
    blocks = next([*m] for m in stacks if len(m) == DEPTH)
    if kind in WITH_BEHIND:
        blocks += next([*m] for m in stacks if len(m) == NUM_BEHIND)
    pixels = images(kind, variant)
    log = AllocationLog()
    recorder = Recorder(log, "cpu")
    autocast = EmulatedAutocast(torch.bfloat16, recorder)
    recorder.hold_model(model, PARAMETERS, PARAMETERS)
    for value in pixels.values():
        recorder.hold(value)
    if checkpointed and "autocast" in dtype:
        model.gradient_checkpointing_enable(
            {"use_reentrant": False, "context_fn": autocast.for_recompute}
        )
    marks = _Marks(log, blocks)
    with ExitStack() as stack:
        gc.disable()
        stack.callback(gc.enable)
        stack.enter_context(_autocast_known(autocast))
        stack.enter_context(recording(recorder))
        with autocast.region() if "autocast" in dtype else nullcontext():
            log.mark(Part(0, 0, PRELUDE))
            marks.is_forward = True
            features = _features(inner, pixels)
            marks.is_forward = False
            log.mark(Part(0, 0, REGION_END))
        if features.requires_grad:
            log.mark(Part(0, 0, "seed"))
            gradient = torch.zeros_like(features)
            log.mark(Part(0, 0, LOSS_BACKWARD))
            features.backward(gradient)
            for parameter in model.parameters():
                if parameter.grad is not None:
                    recorder.hold(parameter.grad, GRADIENTS, "backward")
        log.mark(Part(0, 0, END))
    return log, _named_sizes(spec, pixels, RANKS[variant] if mode == "adapted" else 0)


def _features(inner: Any, pixels: Mapping[str, Any]) -> Any:
    """Return image features as the model puts them among the text's: all of them, one under the other."""
    import torch

    if not hasattr(inner, "get_image_features"):  # as MllamaModel.forward takes them
        seen = inner.vision_model(**pixels).last_hidden_state
        return inner.multi_modal_projector(seen).reshape(-1, seen.shape[-2], inner.hidden_size)
    outputs = inner.get_image_features(**pixels).pooler_output
    if isinstance(outputs, (tuple, list)):
        return torch.cat(list(outputs), dim=0)
    return outputs


def _model(config: Mapping[str, Any], mode: str, dtype: str, attention: str, rank: int) -> Any:
    import peft
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    values = dict(config)
    parsed = AutoConfig.for_model(values.pop("model_type"), **values)
    weights = torch.float32 if dtype.startswith("fp32") else torch.bfloat16
    from_config: Any = AutoModelForImageTextToText.from_config
    model = from_config(parsed, dtype=weights, attn_implementation="sdpa")
    for module in model.modules():
        if attention != "sdpa" and hasattr(module, "config"):
            module.config._attn_implementation = _flash()
    if mode != "trained":
        model.requires_grad_(False)
    if mode == "projector":
        for name, module in model.named_modules():
            if name.endswith(
                ("projector", "connector", "merger", "deepstack_merger_list", "embed_vision")
            ):
                module.requires_grad_(True)
    if mode == "adapted":
        lora = peft.LoraConfig(
            r=rank,
            target_modules=r".*(visual|vision|projector|connector).*",
            exclude_modules=_no_linear(model),
        )
        model = peft.get_peft_model(model, lora, autocast_adapter_dtype=False)
        wide = (
            torch.float32
            if dtype.endswith("fp32 adapters") or weights == torch.float32
            else weights
        )
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(wide)
        return model.base_model.model
    return model


def _no_linear(model: Any) -> list[str]:
    import torch

    return [
        name for name, module in model.named_modules()
        if name and (not isinstance(module, torch.nn.Linear) or "language_model" in name or "text_model" in name)
    ]  # fmt: skip


class _Marks:
    """Hooks that mark where the forward and backward of blocks begin."""

    def __init__(self, log: AllocationLog, blocks: Any) -> None:
        self.log = log
        self.is_forward = False
        for index, block in enumerate(blocks):
            block.register_forward_pre_hook(self._entering(index), with_kwargs=True)
            block.register_forward_hook(self._leaving(index, index == len(blocks) - 1))

    def _entering(self, index: int) -> Callable[..., None]:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            if not self.is_forward:
                return
            hidden = args[0] if args else kwargs["hidden_states"]
            if index == 0 and hidden.requires_grad:
                hidden.register_hook(lambda _: self.log.mark(Part(0, 0, EMBEDDING_BACKWARD)))
            self.log.mark(Part(0, 0, LAYER_FORWARD, index))

        return hook

    def _leaving(self, index: int, is_last: bool) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            if not self.is_forward:
                return
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.requires_grad:
                hidden.register_hook(lambda _: self.log.mark(Part(0, 0, LAYER_BACKWARD, index)))
            if is_last:
                self.log.mark(Part(0, 0, LOSS))

        return hook


def _flash() -> str:
    """Give transformers an attention of many lengths at once that saves what flash attention saves; return its name."""
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def forward(module: Any, query: Any, key: Any, value: Any, **_: Any) -> Any:
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return output.transpose(1, 2), None

    ALL_ATTENTION_FUNCTIONS.register("preflight_flash_attention", forward)
    return "preflight_flash_attention"


@contextmanager
def _autocast_known(autocast: EmulatedAutocast) -> Iterator[None]:
    import torch

    original = torch.nn.functional.scaled_dot_product_attention

    def attention(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> Any:
        dtype = autocast.current_dtype()
        if dtype is not None and query.dtype == torch.float32:
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        return original(query, key, value, *rest, **named)

    with replaced(torch.nn.functional, "scaled_dot_product_attention", attention):
        yield


def _named_sizes(spec: Any, pixels: Mapping[str, Any], rank: int) -> dict[str, int]:
    tower: Tower = spec.tower
    values = pixels["pixel_values"].numel()
    patches = values // tower.patch_values
    tiles = patches // tower.tile_patches if tower.tile_patches else 1
    rows = tiles * tower.tile_rows if tower.tile_rows else patches
    tokens = tiles * tower.tile_tokens if tower.tile_tokens else patches // tower.patches_per_token
    tokens -= tiles if tower.fewest_tokens else 0  # which are padding
    return sizes_of_rows(spec, rows, patches, tokens, tiles, rank)
