"""formulas/costs/towers/*.json, from vision towers of the installed transformers; `python -m preflight.derive KIND ...`
writes some.

A small tower of every kind runs on this CPU in three sizes, with real pixels: what it allocates and frees is the same
list of tensors each time, so every tensor's bytes are a sum of named sizes (preflight/formulas/tower_sizes.py).
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from preflight.derive.costs.cost_files import names_in, numbered
from preflight.derive.costs.cost_forms import (
    SOLVED,
    NotSolved,
    solve,
    summed,
    taken_off,
    without_zeros,
)
from preflight.derive.costs.small_towers import (
    DEPTH,
    FAMILIES,
    NUM_BEHIND,
    NUM_VARIANTS,
    attentions,
    images,
    small_config,
)
from preflight.derive.costs.tower_samples import samples
from preflight.derive.target import Chosen, Files, Say
from preflight.formulas.layers.layer_sizes import Form, bytes_of
from preflight.formulas.tower_sizes import DTYPES, MODES, key_of, sizes_of_rows
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

MIDDLE = 2
"""A block that is like its neighbours: not the first, not the last, and no features are taken behind it."""
FOLDER = "preflight/formulas/costs/towers"
RANKS = (8, 12, 20)
FORWARD = (PRELUDE, LAYER_FORWARD, LOSS, REGION_END)
WITH_BEHIND = ("mllama",)
"""Kinds of a second stack of blocks behind the first, whose outputs are all handed on."""
LARGEST_TABLE = 16
"""Bytes for every row up to which a tensor is some positions or lengths: two numbers of 64 bits."""


def derive(kind: str) -> dict[str, Any]:
    """Return the file of one kind of tower: the forms of its parts by what trains, dtypes, attention, checkpointing."""
    found: dict[str, Any] = {}
    for attention in attentions(kind):
        for mode in MODES:
            for dtype in DTYPES[mode == "adapted"]:
                for checkpointed in (False, True):
                    if checkpointed and mode == "still":
                        continue  # checkpointing makes gradients pass
                    key = key_of(mode, dtype, attention, checkpointed)
                    try:
                        found[key] = _forms(kind, mode, dtype, attention, checkpointed)
                    except NotSolved as error:
                        sys.stderr.write(f"{kind}, {key}: not solved: {error}\n")
    return found


def _forms(kind: str, mode: str, dtype: str, attention: str, checkpointed: bool) -> dict[str, Any]:
    logs, sizes = [], []
    for variant in range(NUM_VARIANTS):
        log, named = _trace(kind, variant, mode, dtype, attention, checkpointed)
        logs.append(log)
        sizes.append(named)
    levels = _walk(logs, sizes)
    found: dict[str, Any] = {"still": {}}
    prelude = levels[Part(0, 0, PRELUDE)]
    block = levels[Part(0, 0, LAYER_FORWARD, MIDDLE)]
    first = levels[Part(0, 0, LAYER_FORWARD, 0)]
    tail = levels[Part(0, 0, LOSS)]
    saved = block[-1][0]
    deep = taken_off(first[-1][0], saved) if kind == "qwen3_vl" else {}
    forward = [part for part in levels if part.name in FORWARD]
    # what the first and the last block keep otherwise goes to the tail, where the library lets go of it
    every = summed(*(levels[part][-1][0] for part in forward))
    others = [prelude[-1][0], deep, *[saved] * DEPTH]
    behind: dict[str, Any] = {}
    held: Form = {}
    if kind in WITH_BEHIND:
        second = levels[Part(0, 0, LAYER_FORWARD, DEPTH + 1)]
        behind = {"saved": second[-1][0], "forward": _peaks(kind, second)}
        others += [behind["saved"]] * NUM_BEHIND
        if Part(0, 0, LAYER_BACKWARD, MIDDLE) not in levels:
            # nobody saves the outputs of blocks, which wait for the last one
            others, held = [prelude[-1][0]], saved
            saved = behind["saved"] = {}
    found = {
        "prelude": {"saved": prelude[-1][0], "forward": _peaks(kind, prelude)},
        "block": {"saved": saved, "forward": _peaks(kind, block)},
        "deep": deep,
        "tail": {"saved": taken_off(every, *others), "forward": _peaks(kind, tail)},
    }
    if behind:
        found["behind"] = behind
        found["held"] = held
    backward = levels.get(Part(0, 0, LAYER_BACKWARD, MIDDLE))
    if backward and behind:
        behind["backward"] = _peaks(kind, levels[Part(0, 0, LAYER_BACKWARD, DEPTH + 1)])
    if backward:
        found["block"]["backward"] = _peaks(kind, backward)
        found["prelude"]["backward"] = _peaks(
            kind, levels.get(Part(0, 0, EMBEDDING_BACKWARD), [({}, {})])
        )
    if Part(0, 0, LOSS_BACKWARD) in levels:
        found["tail"]["backward"] = _peaks(kind, levels[Part(0, 0, LOSS_BACKWARD)])
    return found


def _trace(
    kind: str, variant: int, mode: str, dtype: str, attention: str, checkpointed: bool
) -> tuple[AllocationLog, Mapping[str, int]]:
    """Run the features of a small tower, and their backward; return what was allocated and the named sizes."""
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


def _walk(
    logs: Sequence[AllocationLog], sizes: Sequence[Mapping[str, int]]
) -> dict[Part, list[tuple[Form, Form]]]:
    """Return what is alive after every event of a part beyond what was when it began: (others, gradients)."""
    forms: dict[int, Form] = {}
    found: dict[Part, list[tuple[Form, Form]]] = {}
    categories = logs[0].settled_categories()
    for parts in zip(*(log.changes() for log in logs), strict=True):
        part = parts[0][0]
        if len({len(changes) for _, changes in parts}) != 1:
            raise NotSolved(f"{part}: events differ with the sizes")
        if part.step < 0 or part.name == END:
            continue
        now: tuple[dict[str, int], dict[str, int]] = ({}, {})
        levels: list[tuple[Form, Form]] = [({}, {})]
        for events in zip(*(changes for _, changes in parts), strict=True):
            number, sign = events[0]
            if number not in forms:
                vector = tuple(log.sizes[n] for log, (n, _) in zip(logs, events, strict=True))
                try:
                    forms[number] = _named(vector, sizes)
                except NotSolved as error:
                    raise NotSolved(f"{part} {logs[0].operations[number]} {error}") from error
            side = now[categories[number] == GRADIENTS]
            for name, count in forms[number].items():
                side[name] = side.get(name, 0) + sign * count
            levels.append((_whole(now[0]), _whole(now[1])))
        found[part] = levels
    return found


def _named(vector: tuple[int, ...], sizes: Sequence[Mapping[str, int]]) -> Form:
    """Return a tensor's bytes as a sum of named sizes; one that has none, and is small, as so much of every row.

    Such are positions and lengths, of which every tower makes some.
    """
    for name, first in sizes[0].items():
        if first and not vector[0] % first:
            count = vector[0] // first
            if all(size == count * one[name] for size, one in zip(vector, sizes, strict=True)):
                return {name: count}
    most = max(-(-size // one["T*1"]) for size, one in zip(vector, sizes, strict=True))
    return {"T*1": most} if most <= LARGEST_TABLE else solve(vector, sizes)


def _whole(form: Mapping[str, int]) -> dict[str, int]:
    """Return a form with windows as the rows that they are together."""
    found: dict[str, int] = {}
    for name, count in form.items():
        if name.startswith("W*"):
            name, count = f"T*{name[2:]}", -(-count // 4)
        found[name] = found.get(name, 0) + count
    return without_zeros(found)


def _peaks(kind: str, levels: Sequence[tuple[Form, Form]]) -> list[list[Form]]:
    """Return the points of a part that are its highest for some published tower: (others, gradients)."""
    kept: list[tuple[Form, Form]] = []
    for sizes in samples(kind):
        best = max(levels, key=lambda pair: bytes_of(pair[0], sizes) + bytes_of(pair[1], sizes))
        if best not in kept:
            kept.append(best)
    return [list(pair) for pair in kept]


def rendered(found: Mapping[str, Any]) -> str:
    """Return the text of one file: a line per method, named sizes by their place in `names`; what repeats once."""
    names = sorted({*names_in(found)})
    places = {name: index for index, name in enumerate(names)}
    lines: list[str] = []
    known: dict[str, str] = {}
    for key, forms in found.items():
        text = json.dumps(numbered(forms, places), separators=(",", ":"))
        lines.append(f" {json.dumps(key)}: {json.dumps(known[text]) if text in known else text}")
        known.setdefault(text, key)
    return '{"names": ' + json.dumps(names) + ',\n"methods": {\n' + ",\n".join(lines) + "}}\n"


def names() -> tuple[str, ...]:
    """Return the kinds of towers."""
    return tuple(FAMILIES)


def files(say: Say) -> Files:
    """Yield the file of every kind of tower."""
    for kind in FAMILIES:
        say(kind)
        yield from files_of(kind, Chosen(), say)


def files_of(kind: str, chosen: Chosen, say: Say) -> Files:
    """Yield the file of one kind of tower, whole."""
    found = derive(kind)
    SOLVED.clear()
    yield f"{FOLDER}/{kind}.json", rendered(found)
