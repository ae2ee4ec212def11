"""Count what litgpt's Block keeps, and the peaks of its fine-tuning steps under Fabric on the CPU; print a row for each case.

Run in an environment with litgpt 0.5.13 and lightning:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/lit_layers.py >> lit_layers.jsonl
"""

from __future__ import annotations

import gc
import json
import sys
from typing import Any
from unittest import mock

import torch
from allocations import Allocations

RMS = {
    "norm_class_name": "RMSNorm",
    "mlp_class_name": "LLaMAMLP",
    "parallel_residual": False,
    "bias": False,
}
NEOX = {"norm_class_name": "LayerNorm", "mlp_class_name": "GptNeoxMLP", "parallel_residual": True}
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": (RMS, {}),
    "qwen3": ({**RMS, "norm_qk": True, "norm_qk_type": "default"}, {}),
    "olmo2": (
        {**RMS, "norm_qk": True, "norm_qk_type": "olmo2", "norm_1": False, "norm_2": False}
        | {"post_attention_norm": True, "post_mlp_norm": True},
        {},
    ),
    "gemma": ({**RMS, "mlp_class_name": "GemmaMLP", "scale_embeddings": True}, {}),
    "phi3": ({**RMS, "sliding_window_size": 96}, {"sliding_window": 96}),
    "stablelm": ({**RMS, "norm_class_name": "LayerNorm", "rotary_percentage": 0.25}, {"partial_rotary_factor": 0.25}),
    "gpt_neox": ({**NEOX, "bias": True, "rotary_percentage": 0.25}, {"use_parallel_residual": True}),
    "phi": ({**NEOX, "shared_attention_norm": True, "rotary_percentage": 0.4}, {"partial_rotary_factor": 0.4}),
    "falcon": (
        {**NEOX, "shared_attention_norm": True, "bias": False, "rotary_percentage": 1.0},
        {"multi_query": True, "new_decoder_architecture": False, "parallel_attn": True},
    ),
}  # fmt: skip
"""Type of transformers' -> litgpt's config of the same layers, and what else a config.json says."""
SHAPES = ((256, 768, 4, 4), (256, 1024, 4, 2), (512, 1536, 8, 1))
"""Width, that of the MLP, heads of queries, of keys."""
HAS_ALL_KEYS = ("gpt_neox", "phi", "stablelm")
SWITCHES: dict[str, tuple[str, ...]] = {
    "none": (),
    "some heads": ("query", "value"),
    "all": ("query", "key", "value", "projection", "mlp"),
}
PARTS = ("forward", "loss", "backward", "optimizer", "evaluation")
RANK, ROWS, LENGTH, WORDS = 8, 2, 256, 8192


def dropped(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Drop as CUDA does, whose mask is of bool."""
    return torch.native_dropout(x, p, True)[0] if training and p else x


def built(
    family: str, shape: Any, num_layers: int, adapted: str, dropout: float
) -> torch.nn.Module:
    """Return a model of litgpt's in bf16."""
    from litgpt import lora, model

    hidden, inner, heads, keys = shape
    sizes = {"n_layer": num_layers, "n_embd": hidden, "n_head": heads, "n_query_groups": keys}
    sizes |= {"intermediate_size": inner, "padded_vocab_size": WORDS, "block_size": 1024}
    switches = {f"lora_{name}": True for name in SWITCHES[adapted]}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        if not switches:
            return model.GPT(model.Config(**sizes, **FAMILIES[family][0]))
        ranked = {"lora_r": RANK, "lora_alpha": 16, "lora_dropout": dropout, **switches}
        made = lora.GPT(lora.Config(**sizes, **FAMILIES[family][0], **ranked))
    finally:
        torch.set_default_dtype(before)
    lora.mark_only_lora_as_trainable(made)
    return made


def kept(*case: Any) -> int:
    """Return the bytes that a model keeps in its forward, its parameters apart."""
    model = built(*case)
    with Allocations() as seen, mock.patch("torch.nn.functional.dropout", dropped):
        for tensor in (*model.parameters(), *model.buffers()):
            seen.track(tensor)
        before = seen.now
        logits = model(torch.randint(0, WORDS, (ROWS, LENGTH)), lm_head_chunk_size=128)
        gc.collect()
        assert logits
        return seen.now - before


def steps(*case: Any) -> dict[str, int]:
    """Return the peaks of the second step of the loop of finetune/lora.py or full.py, all that it holds among them.

    Fabric, which gives back what a model returns in fp32 (lightning/fabric/plugins/precision/half.py), is part of it.
    """
    import lightning
    from litgpt.utils import chunked_cross_entropy

    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision="bf16-true")
    model, is_in_pieces = fabric.setup_module(built(*case)), case[3] != "none"
    trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
    optimizer, ids = (
        torch.optim.AdamW(trained, foreach=False),
        torch.randint(0, WORDS, (ROWS, LENGTH)),
    )
    with Allocations() as seen, mock.patch("torch.nn.functional.dropout", dropped):
        for tensor in model.parameters():
            seen.track(tensor)
        for _ in range(2):
            seen.mark("forward")
            logits = model(ids, lm_head_chunk_size=128) if is_in_pieces else model(ids)
            seen.mark("loss")
            if is_in_pieces:
                logits[-1] = logits[-1][..., :-1, :]
                loss = chunked_cross_entropy(logits, ids[..., 1:])
            else:
                loss = chunked_cross_entropy(logits[..., :-1, :], ids[..., 1:])
            seen.mark("backward")
            fabric.backward(loss)
            seen.mark("optimizer")
            optimizer.step()
            optimizer.zero_grad()
        seen.mark("evaluation")
        with torch.no_grad():  # validate() of both, while fit() has the logits of its last step
            for _ in range(2):
                scored = model(ids)
                chunked_cross_entropy(scored[..., :-1, :], ids[..., 1:], chunk_size=0)
    return {part: seen.peaks[part] for part in PARTS}


def main() -> None:
    """Print what a layer of each family keeps; with the word `steps`, the peaks of steps."""
    import litgpt

    del litgpt
    cases = [
        (adapted, dropout)
        for adapted in SWITCHES
        for dropout in ((0.0, 0.05) if SWITCHES[adapted] else (0.0,))
    ]
    for family in FAMILIES:
        for adapted, dropout in cases:
            for shape in SHAPES:
                if (family in HAS_ALL_KEYS and shape[2] != shape[3]) or (
                    family == "falcon" and shape[3] > 1
                ):
                    continue
                row = {"family": family, "shape": shape, "adapted": adapted, "dropout": dropout}
                if "steps" not in sys.argv:
                    each = [kept(family, shape, count, adapted, dropout) for count in (4, 2)]
                    print(
                        json.dumps({**row, "kept": (each[0] - each[1]) / (2 * ROWS * LENGTH)}),
                        flush=True,
                    )
                elif family in ("llama", "falcon") and shape is not SHAPES[0] and dropout == 0:
                    print(
                        json.dumps({**row, "peaks": steps(family, shape, 4, adapted, dropout)}),
                        flush=True,
                    )


if __name__ == "__main__":
    main()
