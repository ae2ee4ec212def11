"""Which class of transformers a config is built as, and which part of a built model is its decoder."""

from __future__ import annotations

import importlib
from typing import Any

from preflight.errors import BadInput
from preflight.trace.encoders import auto_class, is_encoder
from preflight.trace.stacks import auto_class_of_stacks, has_both_stacks, is_decoder_alone
from preflight.values import dataclass


def class_of(config: Any) -> Any:
    """Return transformers' language model of a config: with its towers, which hold parameters too."""
    import transformers

    if is_encoder(config):
        return auto_class(config)
    if has_both_stacks(config):
        return auto_class_of_stacks(config)
    if getattr(config, "is_encoder_decoder", False) and not is_decoder_alone(config):
        raise BadInput.one(
            f"{config.model_type} is an encoder with a decoder that is not traced: no text for text"
        )
    own = getattr(config, "auto_map", None) or {}
    for name in ("AutoModelForImageTextToText", "AutoModelForMultimodalLM", "AutoModelForCausalLM"):
        kind = getattr(transformers, name, None)  # what hears has a class of its own from 5.0 on
        if kind is not None and (name in own or type(config) in kind._model_mapping):
            return kind
    named = _named_class(config)
    if named is None:
        raise BadInput.one(f"{config.model_type} is no language model, and nothing else is traced")
    return _ItsOwnAuto(named)


def _named_class(config: Any) -> Any:
    """Return the class that a config names and no Auto class knows: of a decoder that is published inside others alone."""
    name = type(config).__module__.replace("configuration_", "modeling_")
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    named = [getattr(module, name, None) for name in getattr(config, "architectures", None) or ()]
    return next((c for c in named if getattr(c, "config_class", None) is type(config)), None)


@dataclass(frozen=True)
class _ItsOwnAuto:
    """A class of transformers, built as an Auto class builds it."""

    model_class: Any

    def from_config(self, config: Any, trust_remote_code: bool = False, **arguments: Any) -> Any:
        return self.model_class._from_config(config, **arguments)


def decoder_of(model: Any) -> Any:
    """Return the decoder of a model that sees or hears; any other model, and one that does not say, as it is."""
    import torch

    is_whole = getattr(getattr(model, "config", None), "text_config", None) is not None
    found = model.get_decoder() if is_whole and hasattr(model, "get_decoder") else None
    has_layers = isinstance(found, torch.nn.Module) and any(
        isinstance(child, torch.nn.ModuleList) for child in found.modules()
    )
    return found if has_layers else model
