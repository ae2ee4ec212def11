"""Tiny random models, a tokenizer and datasets for the tests of training checks; imports the heavy libraries once."""

from __future__ import annotations

import warnings
from functools import cache

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
)

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 32,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}


def config_of(model_type: str = "llama", **changes):
    """Return the config dict of a tiny model: the same for preflight and for transformers."""
    return {"model_type": model_type, **SIZES, **changes}


def tiny(model_type: str = "llama", **changes):
    """Return a random model."""
    torch.manual_seed(0)
    config = config_of(model_type, **changes)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))


@cache
def tokenizer():
    words = ["<pad>", "<eos>", "<unk>", *"abcdefghijk"]
    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def texts():
    return Dataset.from_dict({"text": ["a b c d", "e f", "g h i"] * 3})


def preferences():
    return Dataset.from_dict({"prompt": ["a b"] * 4, "chosen": ["c d"] * 4, "rejected": ["e"] * 4})


def rows():
    return [{"input_ids": torch.arange(8), "labels": torch.arange(8)}] * 24


def batch():
    tokens = torch.randint(3, 14, (1, 8), generator=torch.Generator().manual_seed(0))
    return {"input_ids": tokens, "labels": tokens}


def quantized(folder: str, **bits):
    """Return a tiny model of a folder in bitsandbytes' format, on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoModelForCausalLM.from_pretrained(
            folder,
            quantization_config=BitsAndBytesConfig(**bits),
            device_map={"": "cpu"},
            dtype=torch.bfloat16,
        )
