"""What Gemma 3n makes of every token beside its table of words: the model looks for tokens of images and of sound among
them, and embeds each as both (models/gemma3n/modeling_gemma3n.py Gemma3nModel.forward, transformers 4.53 to 5.24).

Counted on traces of whole models in 16 bits, text alone: an embedding, a norm in fp32 and a linear each, masks and ids.
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.values import NamedTuple

WIDTHS = {"vision_config": 2048, "audio_config": 1536}
"""Section of the config -> the size of what its tower ends in, by default (configuration_gemma3n.py, 5.24.0)."""


class EmbedderBytes(NamedTuple):
    """What embedding tokens as images and as sound takes."""

    saved: int
    """From the forward to the backward."""
    passing: int
    """Held by the frames of the forward alone."""


def embedder_bytes(plan: LaunchPlan, model: ModelSpec) -> EmbedderBytes | None:
    """Return what a plan's tokens take there; None for every other model."""
    tokens = num_tokens(plan)
    if model.facts.get("top_model_type") != "gemma3n" or not tokens:
        return None
    wide = sum(_width(model.config.get(name), usual) for name, usual in WIDTHS.items())
    hidden = model.hidden_size
    twice = 2 if precision_of(plan, model).trainable == "fp32" and plan.adapter is None else 1
    saved = twice * (10 * wide + 8 * hidden) + 88
    passing = twice * 10 * hidden + 208
    if plan.adapter is None:
        return EmbedderBytes(tokens * saved, tokens * passing)
    return EmbedderBytes(0, tokens * (passing + 8 * hidden))


def _width(section: object, usual: int) -> int:
    size = section.get("hidden_size") if isinstance(section, Mapping) else None
    return size if isinstance(size, int) else usual
