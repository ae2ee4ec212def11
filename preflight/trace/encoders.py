"""Encoders as transformers has them: which types are some, the class of each head, and what it learns from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADS = {
    "masked_lm": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "sequence_classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "token_classification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "embedding": "MODEL_MAPPING_NAMES",
    "causal_lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
}
"""Objective, or `causal_lm` of a decoder made of an encoder's layers -> transformers' table of the classes that have its head (models/auto/modeling_auto.py, 5.24.0)."""


def is_encoder(config: Any) -> bool:
    """Tell whether transformers masks words of a config's type, reads them in both directions, and has no decoder."""
    whole = encoder_class(getattr(config, "model_type", ""), "masked_lm")
    return whole is not None and not getattr(config, "is_decoder", False)


def encoder_class(model_type: str, head: str) -> str | None:
    """Return the class of an encoder's type with a head; None for a type that is no encoder, or has no such class."""
    from transformers.models.auto import modeling_auto

    masked: str = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.get(model_type, "")
    if not masked.endswith("ForMaskedLM"):
        return None
    found: str | None = getattr(modeling_auto, HEADS[head]).get(model_type)
    return found


def head_of(config: Mapping[str, Any]) -> str | None:
    """Return the objective of the class that an encoder's config names; None for what is no encoder."""
    named = config.get("architectures") or ("",)
    model_type = str(config.get("model_type"))
    if encoder_class(model_type, "masked_lm") is None or config.get("is_decoder"):
        return None
    return next(
        (head for head in HEADS if encoder_class(model_type, head) == named[0]), "masked_lm"
    )


def auto_class(config: Any) -> Any:
    """Return the Auto class that builds an encoder with the head that its config names."""
    import transformers

    head = head_of({"model_type": config.model_type, "architectures": config.architectures})
    return {
        "masked_lm": transformers.AutoModelForMaskedLM,
        "sequence_classification": transformers.AutoModelForSequenceClassification,
        "token_classification": transformers.AutoModelForTokenClassification,
        "embedding": transformers.AutoModel,
    }[head or "masked_lm"]


def label_shape(config: Mapping[str, Any], batch: int, length: int) -> tuple[int, ...]:
    """Return the shape of what a model learns from: a label a sequence of a classifier's, one a token of all others."""
    if head_of(config) != "sequence_classification":
        return batch, length
    return (batch, 2) if config.get("model_type") in ASKS_LABELS else (batch,)


ASKS_LABELS = ("deberta", "deberta-v2")
"""Classes whose loss asks which rows have a label, which a tensor without data does not say, unless each has a share of
every label (modeling_deberta_v2.py DebertaV2ForSequenceClassification, 5.24.0)."""


def mean_of(outputs: Any, mask: Any) -> Any:
    """Return a loss of the mean of every sequence's hidden states, as sentence-transformers pools them.

    sentence_transformers/models/Pooling.py forward, pooling_mode_mean_tokens (5.1.0).
    """
    states = outputs.last_hidden_state
    wide = mask.unsqueeze(-1).expand(states.size()).to(states.dtype)
    pooled = (states * wide).sum(1) / wide.sum(1).clamp(min=1e-9)
    return pooled.float().sum()
