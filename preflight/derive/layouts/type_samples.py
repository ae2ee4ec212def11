"""Layers of a type in many proportions, from small to very large: where their peaks are looked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from random import Random

from preflight.derive.layouts.small_models import small_config
from preflight.derive.layouts.small_sizes import EVERY_MODEL
from preflight.derive.layouts.type_configs import small_type_config
from preflight.formulas.cost_tables import kind_of
from preflight.formulas.layers.layer_sizes import layer_sizes
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.models import describe

NUM_SAMPLES = 150
HIDDEN = ("hidden_size", "d_model", "n_embd", "emb_dim", "dim")
EMBEDDED = "embedding_size"
"""Which tables know where it is the layers' own alone (derive/layouts/layouts.py)."""
HEADS = (
    "num_attention_heads",
    "n_head",
    "n_heads",
    "num_heads",
    "attention_heads",
    "decoder_attention_heads",
)
Sizes = tuple[Mapping[str, int], ...]


def layer_samples(name: str, plan: LaunchPlan, kind: str) -> Sizes:
    """Return the named sizes of one kind of layer of a type or a variant, in models and batches of all proportions."""
    key = (name, kind, repr(plan.adapter), repr(plan.base_quantization))
    if key not in KNOWN:
        KNOWN.clear()
        KNOWN[key] = _layer_samples(name, plan, kind)
    return KNOWN[key]


KNOWN: dict[tuple[str, ...], Sizes] = {}


def _layer_samples(name: str, plan: LaunchPlan, kind: str) -> Sizes:
    generator = Random(0)
    found = []
    of_states = Random(1)
    for _ in range(NUM_SAMPLES):
        config = _with_states(_config(name, generator), of_states)
        length = generator.choice((128, 512, 2048, 8192, 32768))
        adapter = plan.adapter and replace(plan.adapter, rank=generator.choice((8, 64, 256)))
        sized = replace(
            plan,
            seq_len=length,
            micro_batch_size=generator.choice((1, 2, 4, 8, 32)),
            target_len=plan.target_len and generator.choice((32, 128, 512, 2048)),
            adapter=adapter,
        )
        model = _model(json.dumps(config), name)
        unit = next((unit for unit in model.layers if kind_of(unit) == kind), None)
        if unit is not None:
            found.append(layer_sizes(sized, model, unit))
    return tuple(found)


def forget() -> None:
    """Drop what was made of a table that is written anew."""
    KNOWN.clear()
    _model.cache_clear()


@lru_cache(maxsize=NUM_SAMPLES)
def _model(config: str, model_type: str) -> ModelSpec:
    return describe(json.loads(config), model_type, "type_samples.py")


def _config(model_type: str, generator: Random) -> dict[str, object]:
    if model_type in EVERY_MODEL:
        config = small_config(model_type)
    else:
        config = small_type_config(model_type, 0)
    hidden = generator.choice((256, 1024, 2048, 4096, 8192, 16384))
    heads = hidden // generator.choice((64, 128))
    groups = generator.choice((1, 2, 4, 8))
    wide = int(hidden * generator.choice((1, 2, 2.7, 3.5, 4, 6)))
    narrow = int(hidden * generator.choice((0.1, 0.25, 0.5, 1, 1.5, 2, 2.8, 3.5)))
    experts = generator.choice((8, 16, 64, 128))
    chosen = min(experts, generator.choice((1, 2, 4, 8)))
    by_part = (
        (("num_key_value_heads",), max(1, heads // groups)),
        (HEADS, heads),
        (("head_dim", "dim_head", "kv_channels", "d_kv"), generator.choice((64, 128, 256))),
        (("moe_intermediate", "expert_ffn", "shared_expert", "shared_intermediate"), narrow),
        (
            (
                "intermediate_size",
                "ffn_dim",
                "dim_ff",
                "dff",
                "ffn_hidden",
                "d_inner",
                "d_ff",
                "hidden_dim",
            ),
            wide,
        ),
        (("num_experts_per", "moe_topk", "moe_k"), chosen),
        (("experts",), experts),
        ((*HIDDEN, EMBEDDED), hidden),
        (("q_lora_rank",), hidden // 4),
        (("kv_lora_rank",), hidden // 8),
        (("vocab_size",), 128_000),
    )
    for field, value in config.items():
        if isinstance(value, int) and not isinstance(value, bool):
            for parts, size in by_part:
                if any(part in field for part in parts) and value > 0:
                    config[field] = size
                    break
    return config


def _with_states(config: dict[str, object], generator: Random) -> dict[str, object]:
    """Return a config whose scans are in other proportions too: chunks, states and heads as published, up to 256."""
    state, chunk = generator.choice((16, 64, 128, 256)), generator.choice((64, 128, 256))
    head = generator.choice((64, 128))
    heads = config.get("mamba_n_heads")
    width = head * heads if isinstance(heads, int) else 0
    sizes = {
        "d_state": state,
        "state_size": state,
        "chunk_size": chunk,
        "mamba_d_head": head,
        "d_ssm": width,
    }
    for field, value in config.items():
        size = next((size for part, size in sizes.items() if field.endswith(part)), 0)
        if size and isinstance(value, int):
            config[field] = size
    return config
