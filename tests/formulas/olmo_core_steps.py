"""Run steps of OLMo-core's models and optimizer on the CPU, and print a row of what was alive for each case.

Run in an environment with ai2-olmo-core 3.0:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/olmo_core_steps.py >> olmo_core.jsonl
"""

from __future__ import annotations

import json
from typing import Any

import torch
from allocations import Allocations

SMALL = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
DEEP = {"num_hidden_layers": 6, "vocab_size": 1024}
WIDE = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}
CASES: dict[str, dict[str, Any]] = {
    "llama": {},
    "olmo2": {},
    "qwen3": {},
    "llama, wide": {"sizes": WIDE},
    "olmo2, wide": {"sizes": WIDE},
    "qwen3, wide": {"sizes": WIDE},
    "llama, few keys": {"sizes": {**WIDE, "num_key_value_heads": 1}},
    "olmo2, few keys": {"sizes": {**WIDE, "num_key_value_heads": 1, "num_hidden_layers": 12}},
    "olmo2, many words": {"sizes": {"vocab_size": 16384, "num_hidden_layers": 2}},
    "olmo2, whole blocks": {"mode": "full"},
    "olmo2, selected modules": {"mode": "selected_modules"},
    "llama, selected modules": {"mode": "selected_modules", "sizes": {"num_hidden_layers": 12}},
}  # fmt: skip
MODULES = [
    f"blocks.*.{name}"
    for name in (
        "attention_norm", "attention", "attention_residual_stream", "feed_forward_norm", "feed_forward",
        "feed_forward_residual_stream",
    )
]  # fmt: skip


def case_of(name: str) -> dict[str, Any]:
    """Return everything of a case that its name does not say."""
    case = {"rows": 2, "length": 256, "mode": None, **CASES[name]}
    kind = name.partition(",")[0]
    sizes = {"model_type": kind, **SMALL, **DEEP, **case.get("sizes", {})}
    return {**case, "kind": kind, "sizes": {**sizes, "tie_word_embeddings": kind == "qwen3"}}


def model_of(case: dict[str, Any]) -> Any:
    """Return OLMo-core's model of a case, in bf16 as FSDP2 gathers it."""
    from olmo_core.config import DType
    from olmo_core.nn.feed_forward import FeedForwardConfig
    from olmo_core.nn.layer_norm import LayerNormType
    from olmo_core.nn.transformer import TransformerBlockType, TransformerConfig

    sizes, dtype = case["sizes"], DType.bfloat16
    more: dict[str, Any] = {
        "llama": {},
        "olmo2": {"block_name": TransformerBlockType.reordered_norm, "qk_norm": True},
        "qwen3": {
            "rope_full_precision": False, "layer_norm_name": LayerNormType.qwen_rms, "qk_norm": True,
            "use_head_qk_norm": True, "head_dim": 64, "tie_word_embeddings": True,
        },
    }[case["kind"]]  # fmt: skip
    feed_forward = FeedForwardConfig(
        hidden_size=sizes["intermediate_size"], bias=False, dtype=dtype
    )
    return TransformerConfig.llama_like(
        d_model=sizes["hidden_size"], vocab_size=sizes["vocab_size"], n_layers=sizes["num_hidden_layers"],
        n_heads=sizes["num_attention_heads"], n_kv_heads=sizes["num_key_value_heads"], feed_forward=feed_forward,
        dtype=dtype, **more,
    ).build(init_device="cpu")  # fmt: skip


def counted(case: dict[str, Any]) -> dict[str, int]:
    """Return the peaks of the second step, parameters and states among them."""
    from olmo_core.nn.transformer import TransformerActivationCheckpointingMode
    from olmo_core.optim import SkipStepAdamW

    model, seen = model_of(case), Allocations()
    if case["mode"]:
        mode = TransformerActivationCheckpointingMode(case["mode"])
        model.apply_activation_checkpointing(mode, modules=MODULES)
    optimizer = SkipStepAdamW(model.parameters())
    ids = torch.randint(0, case["sizes"]["vocab_size"], (case["rows"], case["length"]))
    with seen:
        for tensor in model.parameters():
            seen.track(tensor)
        for _ in range(2):
            seen.mark("forward")
            found = model(ids, labels=ids, loss_reduction="sum", return_logits=False)
            loss = found.loss
            del found
            seen.mark("backward")
            loss.backward()
            seen.mark("optimizer")
            optimizer.latest_loss = loss.detach()
            del loss
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return {part: seen.peaks[part] for part in ("forward", "backward", "optimizer")}


def saved_by(call: Any, model: Any) -> int:
    """Return the bytes that a call keeps for its backward, the model's parameters apart."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = call()
    assert output is not None
    return sum(storage.nbytes() for storage in kept.values())


def kept_by_block(case: dict[str, Any]) -> dict[str, int]:
    """Return what a block keeps as it is, and compiled by the partitioner that torch.compile uses."""
    model = model_of(case)
    block, width = model.blocks["0"], case["sizes"]["hidden_size"]
    given = torch.randn(
        case["rows"], case["length"], width, dtype=torch.bfloat16, requires_grad=True
    )
    torch._dynamo.reset()  # else it gives up after eight shapes
    compiled = torch.compile(block, backend="aot_eager_decomp_partition")
    compiled(given)
    return {
        "eager": saved_by(lambda: block(given), model),
        "compiled": saved_by(lambda: compiled(given), model),
    }


def main() -> None:
    """Print a row for each case."""
    from olmo_core.version import VERSION

    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name in CASES:
        row = {"name": name, "olmo_core": VERSION}
        found = {"peaks": counted(case_of(name)), "block": kept_by_block(case_of(name))}
        print(json.dumps({**row, **found}), flush=True)


if __name__ == "__main__":
    main()
