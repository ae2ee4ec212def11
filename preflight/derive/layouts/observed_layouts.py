"""What a model of some config is made of, as transformers builds it on the meta device."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any

from preflight.derive.layouts.type_configs import class_of_type
from preflight.lazy_pattern import lazy_pattern
from preflight.model import BIAS, EMBEDDING, EXPERTS, LINEAR, NORM, OTHER
from preflight.models.families.layer_rules import NUM_SHARING, SHARING, sharing_modes
from preflight.trace.build import build
from preflight.trace.built import INDEX_NAMES
from preflight.trace.job import TraceJob
from preflight.values import dataclass


@dataclass(frozen=True)
class Tensor:
    """One parameter of a built model."""

    shape: tuple[int, ...]
    kind: str
    stays_fp32: bool = False
    is_of_subclass: bool = False


@dataclass(frozen=True)
class Observed:
    """A built model, layer by layer."""

    config: Mapping[str, Any]
    """As it was given."""
    values: Mapping[str, Any]
    """As the config class has it: what was not given filled in."""
    prefix: str
    layers: tuple[Mapping[str, Tensor], ...]
    marks: tuple[Hashable, ...]
    """What makes two layers allocate alike beside their shapes."""
    outside: Mapping[str, Mapping[str, Tensor]]
    """Module -> its own parameters, of modules that are in no layer."""
    behind: frozenset[str]
    """Those of them that stand behind the layers."""
    embedding: str
    head: str
    layer_classes: tuple[str, ...]
    attention: str
    """What the class runs where SDPA is asked for."""
    buffers: Mapping[str, tuple[tuple[int, ...], str]]
    """Tables that modules register, where they count: shape, and bytes of an element, or `load` of the dtype that
    weights are loaded in."""


def observe(config: Mapping[str, Any]) -> Observed:
    """Build a config's model without data; raise whatever transformers raises of it."""
    built = build(TraceJob(config=config, full_depth=True))
    model = built.model
    prefix = f"{built.prefix}."
    stays = _in_fp32(model)
    layers: list[dict[str, Tensor]] = [{} for _ in built.layers]
    outside: dict[str, dict[str, Tensor]] = {}
    behind: set[str] = set()
    modules = dict(model.named_modules())
    named: set[int] = set()
    words = model.get_input_embeddings()
    body = f"{model.base_model_prefix}."
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner, _, last = name.rpartition(".")
        module = modules[owner]
        is_tied = (
            parameter is words.weight and module is not words
        )  # some classes name the head first
        if is_tied or id(parameter) in named:
            continue
        named.add(id(parameter))
        tensor = Tensor(
            tuple(parameter.shape),
            _kind(name, last, module, parameter),
            any(part in name for part in stays),
            _is_of_subclass(module),
        )
        if name.startswith(prefix):
            index, _, rest = name.removeprefix(prefix).partition(".")
            layers[int(index)][rest] = tensor
        else:
            outside.setdefault(owner, {})[last] = tensor
            if any(layers) or (prefix.startswith(body) and not name.startswith(body)):
                behind.add(owner)
    head = model.get_output_embeddings()
    around = next((name for name, m in modules.items() if m is head), "").rpartition(".")[0]
    behind.update(owner for owner in outside if around and owner.startswith(around))
    paths = {id(module): name for name, module in modules.items()}
    return Observed(
        config,
        _values(config, model.config),
        built.prefix,
        tuple(layers),
        tuple(_mark(layer) for layer in built.layers),
        outside,
        frozenset(behind),
        paths.get(id(model.get_input_embeddings()), ""),
        paths.get(id(model.get_output_embeddings()), ""),
        tuple(sorted(getattr(model, "_no_split_modules", None) or ())),
        _attention(model),
        {
            name: (tuple(buffer.shape), _element(buffer))
            for name, buffer in model.named_buffers()
            if buffer.numel() >= LEAST_TABLE
        },
    )


def _values(config: Mapping[str, Any], own: Any) -> dict[str, Any]:
    """Return a config as its class has it, with the list by layer that it works out of other fields."""
    found = {**config, **vars(own)}
    if NUM_SHARING in found:
        kinds, depth = found.get("layer_types"), found["num_hidden_layers"]
        found[SHARING] = sharing_modes(kinds, found[NUM_SHARING], depth)
    return found


LEAST_TABLE = 1024
"""Elements of a registered table that is counted: the frequencies of a rotation are fewer in any model."""


def _element(buffer: Any) -> str:
    import torch

    return "load" if buffer.dtype is torch.bfloat16 else str(buffer.element_size())


WITH_FALLBACK = lazy_pattern(
    r"^@use_kernel_func_from_hub_with_fallback\(\s*\"\w+\",\s*\"(\w+)\"", re.M
)


def kernels_of(model_type: str) -> list[str]:
    """Return the packages whose kernels a type's code runs where they are installed, and torch code where not."""
    import transformers

    model_class = getattr(transformers, class_of_type(model_type), None)
    if model_class is None:  # its code is on the hub
        return []
    return sorted(set(WITH_FALLBACK.findall(_source_of(model_class.__module__))))


SCORING = lazy_pattern(r"softmax|attention_interface|scaled_dot_product")


def _attention(model: Any) -> str:
    """Return the attention of a class; one that scores no token by another has neither scores nor a mask, as SDPA."""
    if not SCORING.search(_source_of(type(model).__module__)):
        return "sdpa"
    return str(getattr(model.config, "_attn_implementation", None) or "sdpa")


@cache
def _source_of(module: str) -> str:
    return inspect.getsource(importlib.import_module(module))


def _in_fp32(model: Any) -> tuple[str, ...]:
    return tuple(getattr(model, "_keep_in_fp32_modules_strict", None) or ())


def _kind(name: str, last: str, module: Any, parameter: Any) -> str:
    import torch

    if isinstance(module, torch.nn.Embedding):
        return EMBEDDING
    if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D":
        return BIAS if last == "bias" else LINEAR
    if "norm" in type(module).__name__.lower():
        return NORM
    if parameter.dim() == 3 and "expert" in name:
        return EXPERTS
    if last == "bias" or last.endswith("_bias"):
        return BIAS
    return OTHER


def _is_of_subclass(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.Linear) and type(module) is not torch.nn.Linear


def _mark(layer: Any) -> Hashable:
    return type(layer).__name__, tuple(
        (path, name, value if isinstance(value, (bool, str)) else value is None)
        for path, module in layer.named_modules()
        for name, value in sorted(vars(module).items())
        if name not in INDEX_NAMES
        and not name.startswith("_")
        and name not in ("training", "gradient_checkpointing")
        and (value is None or isinstance(value, (bool, int, str)))
    )
