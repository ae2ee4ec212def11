"""Real steps of small GPT-OSS models in training, whose experts older releases of transformers index one by one.

`PYTHONPATH=tests/formulas VENV/bin/python tests/formulas/looped_stacks.py` prints a line for every case, counted with what is
installed in that environment; tests/formulas/looped_stacks.jsonl keeps them.
"""

from __future__ import annotations

import json
from typing import Any

SHAPE = {
    "num_hidden_layers": 4, "hidden_size": 256, "intermediate_size": 512, "num_local_experts": 8,
    "num_experts_per_tok": 2, "experts_per_token": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
    "head_dim": 32, "vocab_size": 512, "sliding_window": 128,
}  # fmt: skip
CASES: dict[str, dict[str, int]] = {
    "few experts": {},
    "many experts": {"num_local_experts": 32},
    "wide experts": {"intermediate_size": 1536, "num_hidden_layers": 2},
    "more of a token": {"num_experts_per_tok": 4, "experts_per_token": 4},
}
WAYS = [(dtype, ckpt, tokens) for dtype in ("bfloat16", "float32") for ckpt in (False, True) for tokens in (256, 512)]  # fmt: skip
"""Dtype of the weights, where fp32 ones are trained under autocast; whether layers are checkpointed; tokens."""


def peaks(shape: dict[str, int], dtype: str, is_checkpointed: bool, tokens: int) -> dict[str, int]:
    """Return the most bytes of a forward and of a backward pass, weights among them."""
    import torch
    import transformers
    from allocations import Allocations

    torch.manual_seed(0)
    config: Any = transformers.GptOssConfig(**{**SHAPE, **shape})
    config._attn_implementation = "eager"
    ids = torch.randint(0, 512, (1, tokens))
    with Allocations() as counted:  # weights too: a view of one would count as new
        model: Any = transformers.GptOssForCausalLM(config).to(getattr(torch, dtype)).train()
        if is_checkpointed:
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        counted.mark("forward")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "float32"):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        counted.mark("backward")
        loss.backward()
    return {part: counted.peaks[part] for part in ("forward", "backward")}


def main() -> None:
    import torch
    import transformers

    for name, shape in CASES.items():
        for dtype, is_checkpointed, tokens in WAYS:
            row = {
                "case": name,
                "transformers": transformers.__version__,
                "torch": torch.__version__.partition("+")[0],
                "dtype": dtype,
                "is_checkpointed": is_checkpointed,
                "tokens": tokens,
                **peaks(shape, dtype, is_checkpointed, tokens),
            }
            print(json.dumps(row))


if __name__ == "__main__":
    main()
