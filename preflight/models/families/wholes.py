"""Models around a decoder, that see or hear: which decoder it is, and where it hangs.

Those whose towers are laid out here stand in library_defaults.json; the others in wholes.json, which
`python -m preflight.derive wholes` writes: their decoder is laid out and priced, what is around it is counted alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from preflight.models.families.config_view import ConfigView
from preflight.models.families.library_defaults import library_defaults
from preflight.own_tables import beside, read_table
from preflight.values import dataclass

PATH = beside(__file__, "wholes.json")
BODIES = {
    "llama4": ("language_model.model", "language_model.lm_head"),
    "idefics3": ("model.text_model", "lm_head"),
    "smolvlm": ("model.text_model", "lm_head"),
}
"""Where a vision-language model keeps its decoder, when not `model.language_model` and `lm_head`."""
TIED_BY_EITHER = ("llava", "llava_onevision", "qwen2_vl", "qwen2_5_vl")
"""Configs that take over a true `tie_word_embeddings` of their text_config (their configuration_*.py)."""


@dataclass(frozen=True)
class Whole:
    """How a model is put around its decoder."""

    text_type: str
    """The decoder's model_type where a config's `text_config` names none."""
    body: str = "model.language_model"
    head: str = "lm_head"
    tied_by_text: bool = False
    """Whether the decoder's section may tie the head, too."""
    tied: bool | None = None
    """Whether the head is tied where no section says it; None where the usual defaults do."""
    attention: str | None = None
    """What the class runs where nobody names another, if that is not what the decoder's does."""
    layer_classes: tuple[str, ...] = ()
    """What the class says not to split; of a laid-out tower that is in the defaults."""

    def is_tied(self, top: ConfigView, text: ConfigView) -> bool:
        """Tell whether the head is the table of words."""
        view = (
            text if top.model_type == "llama4" else top
        )  # only Llama 4 wraps a whole causal model
        given = view.get("tie_word_embeddings")
        own = bool(self.tied) if given is None else view.flag("tie_word_embeddings")
        return own or (self.tied_by_text and text.flag("tie_word_embeddings"))


BY_HAND = {
    "gemma3n": Whole("gemma3n_text", tied=True, layer_classes=("Gemma3nTextDecoderLayer",)),
}
"""Models whose tower another package builds (timm), and whose tokens pass through more than a table of words
(formulas/layers/token_embedders.py): the command has none of them."""


def whole_of(model_type: Any) -> Whole | None:
    """Return how a type is put around its decoder; None for a decoder alone, and for what nobody knows."""
    text_type = library_defaults().text_types.get(model_type)
    if text_type is not None:
        body, head = BODIES.get(model_type, (Whole.body, Whole.head))
        return Whole(text_type, body, head, model_type in TIED_BY_EITHER)
    if model_type in BY_HAND:
        return BY_HAND[model_type]
    row = _rows().get(model_type)
    if row is None:
        return None
    return Whole(
        row["text"],
        row["body"],
        row["head"],
        row["tied_by_text"],
        row["tied"],
        row["attention"] if row["attention"] != "sdpa" else None,
        tuple(row["classes"]),
    )


@lru_cache(maxsize=1)
def _rows() -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_table(PATH)["wholes"]
    return found
