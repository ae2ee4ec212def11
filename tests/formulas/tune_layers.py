"""Count what a layer of torchtune's keeps between its forward and its backward, and print a row for each shape; with the word
`compiled`, what torch.compile keeps of it.

Run in an environment with torchtune 0.6.1:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/tune_layers.py >> tune_layers.jsonl
"""

from __future__ import annotations

import gc
import json
import sys

import torch
from allocations import Allocations

SHAPES = ((256, 768, 4, 4), (256, 768, 4, 2), (512, 1536, 8, 2), (512, 2048, 8, 8))
"""Width, that of the MLP, heads of queries, of keys."""
ROWS, LENGTH, RANK = 2, 256, 8
WIDTH, FEW = 1024, 8


def made(num_layers: int, is_adapted: bool, shape: tuple[int, int, int, int]) -> torch.nn.Module:
    """Return a model of torchtune's in bf16."""
    from torchtune import training
    from torchtune.models.llama3 import llama3, lora_llama3
    from torchtune.modules.peft import get_adapter_params, set_trainable_params

    names = ("embed_dim", "intermediate_dim", "num_heads", "num_kv_heads")
    sizes = dict(
        zip(names, shape, strict=True), vocab_size=1024, num_layers=num_layers, max_seq_len=512
    )
    with training.set_default_dtype(torch.bfloat16):
        if is_adapted:
            model = lora_llama3(["q_proj", "v_proj"], lora_rank=RANK, lora_alpha=16, **sizes)
            set_trainable_params(model, get_adapter_params(model))
        else:
            model = llama3(**sizes)
    return model


def kept_compiled(num_layers: int, is_adapted: bool, shape: tuple[int, int, int, int]) -> int:
    """Return the bytes that the partitioner of torch.compile keeps of layers, parameters and their input apart."""
    from partitioned import kept_bytes

    layers = made(num_layers, is_adapted, shape).layers
    start = torch.zeros(ROWS, LENGTH, shape[0], dtype=torch.bfloat16, requires_grad=True)

    def run() -> torch.Tensor:
        hidden = start
        for layer in layers:
            hidden = layer(hidden)
        return hidden

    return kept_bytes(run)


def kept(num_layers: int, is_adapted: bool, shape: tuple[int, int, int, int]) -> int:
    """Return the bytes that a model keeps in its forward, its parameters apart."""
    model = made(num_layers, is_adapted, shape)
    ids = torch.randint(0, 1024, (ROWS, LENGTH))
    with Allocations() as seen:
        for tensor in model.parameters():
            seen.track(tensor)
        before = seen.now
        logits = model(ids)
        gc.collect()
        assert logits is not None
        return seen.now - before


def unpacking(inner: int) -> dict[str, int]:
    """Return the most that a few tokens' step with a 4-bit base makes: what a matrix of the MLP takes while it is unpacked."""
    from torchtune import training
    from torchtune.models.llama3 import lora_llama3
    from torchtune.modules.peft import get_adapter_params, set_trainable_params

    sizes = {"embed_dim": WIDTH, "intermediate_dim": inner, "num_heads": 4, "num_kv_heads": 4}
    sizes |= {"vocab_size": 256, "num_layers": 1, "max_seq_len": 64}
    with training.set_default_dtype(torch.bfloat16):
        model = lora_llama3(
            ["q_proj"],
            apply_lora_to_mlp=True,
            lora_rank=RANK,
            lora_alpha=16,
            quantize_base=True,
            **sizes,
        )
    set_trainable_params(model, get_adapter_params(model))
    ids = torch.randint(0, 256, (1, FEW))
    with Allocations() as seen:
        seen.mark("forward")
        total = model(ids).sum()
        seen.mark("backward")
        total.backward()
    return {part: seen.peaks[part] for part in ("forward", "backward")}


def main() -> None:
    """Print a row for each shape, whole and with an adapter, or with the word `unpacking` for each width of a packed MLP."""
    import torchao
    import torchtune

    version = torchtune.__version__.partition("+")[0]
    if "unpacking" in sys.argv:
        for inner in (4096, 8192):
            row = {"torchtune": version, "torchao": torchao.__version__, "inner": inner}
            print(json.dumps({**row, "peaks": unpacking(inner)}), flush=True)
        return
    is_compiled = "compiled" in sys.argv
    count = kept_compiled if is_compiled else kept
    for is_adapted in (False, True):
        for shape in SHAPES:
            each = (count(4, is_adapted, shape) - count(2, is_adapted, shape)) // (
                2 * ROWS * LENGTH
            )
            row = {"torchtune": version, "adapted": is_adapted, "shape": shape, "kept": each}
            row |= {"compiled": True} if is_compiled else {}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
