"""Print what OLMo-core's factories of model configs make, as configs of transformers, and the words of its tokenizers.

Run in an environment with ai2-olmo-core, for preflight/scripts/settings/olmo_core_models.json:
    PYTHONPATH=ROOT python ROOT/tests/scripts/olmo_core_factories.py
"""

from __future__ import annotations

import inspect
import json
from contextlib import suppress
from typing import Any

from preflight.errors import BadInput
from preflight.models import describe

WORDS = 1024


def config_of(made: Any) -> dict[str, Any] | None:
    """Return a config of transformers for a model that one of its types is; None for any other."""
    block = made.block
    if isinstance(block, dict) or getattr(made, "block_pattern", None) or made.block_overrides:
        return None
    mixer, forward = block.sequence_mixer, block.feed_forward
    if forward is None or block.feed_forward_moe is not None or mixer.gate is not None:
        return None
    heads, window = mixer.n_heads, mixer.sliding_window
    behind = {"default": False, "reordered_norm": True}.get(str(block.name))
    normed = mixer.qk_norm is not None
    kinds = {
        (False, False): "llama",
        (True, True): "olmo3" if window else "olmo2",
        (False, True): "qwen3",
    }
    kind = None if behind is None else kinds.get((behind, normed))
    if (
        kind is None
        or (window and kind != "olmo3")
        or bool(mixer.use_head_qk_norm) != (kind == "qwen3")
    ):
        return None
    config: dict[str, Any] = {
        "model_type": kind, "hidden_size": made.d_model, "intermediate_size": forward.hidden_size,
        "num_hidden_layers": made.n_layers, "num_attention_heads": heads,
        "num_key_value_heads": mixer.n_kv_heads or heads, "tie_word_embeddings": made.tie_word_embeddings,
    }  # fmt: skip
    if mixer.head_dim not in (None, made.d_model // heads) or kind == "qwen3":
        config["head_dim"] = mixer.head_dim or made.d_model // heads
    if window:
        sizes = [
            window.get_window_size(i, made.n_layers)
            if window.should_use_swa(i, made.n_layers)
            else None
            for i in range(made.n_layers)
        ]
        config["sliding_window"] = max(size for size in sizes if size)
        config["layer_types"] = [
            "sliding_attention" if size else "full_attention" for size in sizes
        ]
    described = describe({**config, "vocab_size": WORDS}, "made", "here")
    return config if described.num_params == made.num_params else None


def factories() -> dict[str, dict[str, Any]]:
    """Return the config of every factory that needs nothing but the number of words."""
    from olmo_core.nn.transformer import TransformerConfig

    found = {}
    for name, factory in inspect.getmembers(TransformerConfig, inspect.ismethod):
        with suppress(TypeError, BadInput):
            made = factory(vocab_size=WORDS)
            config = config_of(made)
            if config is not None:
                found[name] = {"params": made.num_params, **config}
    return found


def words() -> dict[str, int]:
    """Return how many words each tokenizer has."""
    from olmo_core.data import TokenizerConfig

    found = {}
    for name, made in inspect.getmembers(TokenizerConfig, inspect.ismethod):
        with suppress(TypeError):
            found[name] = made().vocab_size
    return found


def main() -> None:
    """Print the table."""
    from olmo_core.version import VERSION

    parts = (f'"{name}": {json.dumps(made)}' for name, made in factories().items())
    rows = ",\n".join(parts)
    print(
        f'{{"olmo_core": "{VERSION}", "words": {json.dumps(words())}, "factories": {{\n{rows}\n}}}}'
    )


if __name__ == "__main__":
    main()
