"""Patterns that scripts give PEFT for the modules of an adapter, read as the names that PEFT itself matches."""

from __future__ import annotations

import peft
import pytest
import torch
import transformers
from tiny_llama import TINY_LLAMA

from preflight.trainers.adapter import _named_by_pattern

PATTERNS = [
    r".*\.(q|v)_proj",
    r".*\.[qkvo]_proj",
    r".*mlp.*(gate|up)_proj",
    r"model\.layers\.\d+\.self_attn\.(q_proj|k_proj)",
    r"^(?!.*lm_head).*\.(?:q_proj|down_proj)$",
    r".*(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_the_names_that_peft_puts_adapters_on(pattern):
    """Read as its words it gave `gate`, `up` and `proj`, of which no module has one: an adapter of no size."""
    config = transformers.LlamaConfig(**{k: v for k, v in TINY_LLAMA.items() if k != "model_type"})
    with torch.device("meta"):
        model = peft.get_peft_model(
            transformers.LlamaForCausalLM(config), peft.LoraConfig(r=2, target_modules=pattern)
        )
    adapted = {n.split(".lora_A")[0].split(".")[-1] for n, _ in model.named_parameters() if "lora_A" in n}  # fmt: skip
    own = {name.split(".")[-1] for name, _ in model.named_modules()}

    assert {*_named_by_pattern(pattern)} & own == adapted
