"""Run steps of OLMo-core's models and optimizer on the CPU, and print a row of what was alive for each case.

Run in an environment with ai2-olmo-core 2.6 or 3.0, for all cases or those that are named:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/olmo_core_steps.py [NAME ...] >> olmo_core.jsonl

With the sources of flash-attn 2.8 on the path too, blocks are counted with its functions, which torch.compile traces, around
kernels that only make their outputs. Hybrids need flash-linear-attention 0.5.2 and Triton there, and TRITON_INTERPRET=1: its
Python allocates all that its kernels write, which are left out.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import sys
import types
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from allocations import Allocations
from scattered_steps import run_no_kernels

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
    "olmo2, many words, with sums": {"sums": 1e-5, "sizes": {"vocab_size": 16384, "num_hidden_layers": 2}},
    "olmo2, whole blocks": {"mode": "full"},
    "olmo2, selected modules": {"mode": "selected_modules"},
    "llama, selected modules": {"mode": "selected_modules", "sizes": {"num_hidden_layers": 12}},
    "olmo2, two ranks": {"sharing": 2, "sizes": WIDE},
    "llama, four ranks": {"sharing": 4, "sizes": {**WIDE, "num_key_value_heads": 4}},
    "qwen3, two ranks, checkpointed": {"sharing": 2, "mode": "full", "sizes": {**WIDE, "num_key_value_heads": 2}},
}  # fmt: skip
SCANS = {
    "linear_num_key_heads": 4, "linear_num_value_heads": 4, "linear_key_head_dim": 48, "linear_value_head_dim": 96,
    "linear_conv_kernel_dim": 4, "num_key_value_heads": 4,
}  # fmt: skip
PATTERN = [*["linear_attention"] * 3, "full_attention"]
"""Of a hybrid's layers: three with a state, whose norms are in front, and one whose norms are behind attention."""
CASES |= {
    "olmo_hybrid": {"sizes": {**SCANS, "layer_types": PATTERN * 2, "num_hidden_layers": 8}},
    "olmo_hybrid, wide": {"sizes": {**WIDE, **SCANS, "linear_num_key_heads": 8, "linear_num_value_heads": 8,
        "num_key_value_heads": 8, "layer_types": PATTERN, "num_hidden_layers": 4}, "length": 512},
    "olmo_hybrid, selected modules": {"mode": "selected_modules", "length": 512,
        "sizes": {**SCANS, "layer_types": PATTERN * 2, "num_hidden_layers": 8}},
    "olmo_hybrid, whole blocks": {"mode": "full", "length": 512,
        "sizes": {**SCANS, "layer_types": PATTERN * 2, "num_hidden_layers": 8}},
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
    case = {"rows": 2, "length": 256, "mode": None, "sharing": 1, "sums": None, **CASES[name]}
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
        "olmo_hybrid": {"qk_norm": True},
    }[case["kind"]]  # fmt: skip
    feed_forward = FeedForwardConfig(
        hidden_size=sizes["intermediate_size"], bias=False, dtype=dtype
    )
    config = TransformerConfig.llama_like(
        d_model=sizes["hidden_size"], vocab_size=sizes["vocab_size"], n_layers=sizes["num_hidden_layers"],
        n_heads=sizes["num_attention_heads"], n_kv_heads=sizes["num_key_value_heads"], feed_forward=feed_forward,
        dtype=dtype, **more,
    )  # fmt: skip
    if case["kind"] == "olmo_hybrid":
        from olmo_core.nn.attention.recurrent import GatedDeltaNetConfig

        scan = GatedDeltaNetConfig(
            n_heads=sizes["linear_num_key_heads"], n_v_heads=sizes["linear_num_value_heads"], dtype=dtype,
            head_dim=sizes["linear_key_head_dim"],
            expand_v=sizes["linear_value_head_dim"] / sizes["linear_key_head_dim"],
        )  # fmt: skip
        attends = replace(
            config.block,
            name=TransformerBlockType.reordered_norm,
            sequence_mixer=replace(config.block.sequence_mixer, rope=None),
        )
        config.block = {
            "linear_attention": replace(config.block, sequence_mixer=scan),
            "full_attention": attends,
        }
        config.block_pattern = PATTERN
    return config.build(init_device="cpu")


def counted(case: dict[str, Any]) -> dict[str, int]:
    """Return the peaks of the second step, parameters and states among them."""
    from olmo_core.nn.transformer import TransformerActivationCheckpointingMode
    from olmo_core.optim import SkipStepAdamW

    model, seen = model_of(case), Allocations()
    share(model, case["sharing"])
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
            found = model(
                ids,
                labels=ids,
                loss_reduction="sum",
                return_logits=False,
                z_loss_multiplier=case["sums"],
            )
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
    """Return the bytes that a call keeps for its backward, the model's parameters and the buffers of all its layers apart."""
    buffers = (tensor for cached in model._cache._data.values() for tensor in cached.values())
    own = {each.untyped_storage()._cdata for each in (*model.parameters(), *buffers)}
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


def share(model: Any, degree: int) -> None:
    """Let a model exchange heads with others that share its sequences: one rank of a group whose others are not there."""
    if degree == 1:
        return
    from olmo_core.nn.attention.ring import UlyssesContextParallelStyle
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=degree)
    mesh = init_device_mesh("cpu", (degree,), mesh_dim_names=("cp",))
    model.apply_cp(mesh["cp"], uly=UlyssesContextParallelStyle())


def flash_attention() -> Any:
    """Return the class of OLMo-core's flash attention, whose kernels only make what they give; None without flash-attn."""
    found = importlib.util.find_spec("flash_attn")
    if found is None:
        return None
    kernels = types.ModuleType("flash_attn_2_cuda")
    kernels.__spec__ = importlib.machinery.ModuleSpec(kernels.__name__, None)
    sys.modules.setdefault(kernels.__name__, kernels)
    from flash_attn import flash_attn_interface as interface
    from olmo_core.nn.attention.backend import FlashAttention2Backend

    for name in ("_flash_attn_forward", "_flash_attn_varlen_forward"):
        getattr(interface, name).register_kernel("cpu")(getattr(interface, f"{name}_fake"))
    return FlashAttention2Backend


def kept_by_block(case: dict[str, Any], mode: str | None, flash: Any) -> dict[str, int]:
    """Return what a block keeps as it is, and compiled by the partitioner that torch.compile uses: of whole rows, and of rows of
    two documents where flash attention is there."""
    from olmo_core.nn.transformer import TransformerActivationCheckpointingMode

    model, width = model_of(case), case["sizes"]["hidden_size"]
    tokens, documents = case["rows"] * case["length"], {}
    if flash is not None:
        for block in model.blocks.values():
            old = block.attention.backend
            block.attention.backend = flash(
                head_dim=old.head_dim, n_heads=old.n_heads, n_kv_heads=old.n_kv_heads
            )
        ends = torch.tensor([0, tokens // 2, tokens], dtype=torch.int32)
        documents = {"of documents": {"max_doc_len": tokens // 2, "cu_doc_lens": ends}}
    if mode:
        model.apply_activation_checkpointing(
            TransformerActivationCheckpointingMode(mode), modules=MODULES
        )
    given = torch.randn(1, tokens, width, dtype=torch.bfloat16, requires_grad=True)
    block, found = model.blocks["0"], {}
    block.attention.rope.warmup_cache(tokens, given.device)  # as init_weights does
    for rows, more in {"": {}, **documents}.items():
        torch._dynamo.reset()  # else it gives up after eight shapes
        compiled = torch.compile(block, backend="aot_eager_decomp_partition")
        compiled(given, **more)
        for kind, call in (("eager", block), ("compiled", compiled)):
            found[f"{kind} {rows}".strip()] = saved_by(partial(call, given, **more), model)
    return found


def kept_by_head(case: dict[str, Any]) -> dict[str, int]:
    """Return what the head keeps with its norm and the loss, as it is and compiled."""
    model, width = model_of(case), case["sizes"]["hidden_size"]
    given = torch.randn(
        case["rows"], case["length"], width, dtype=torch.bfloat16, requires_grad=True
    )
    labels = torch.zeros(case["rows"], case["length"], dtype=torch.int64)
    torch._dynamo.reset()
    compiled = torch.compile(model.lm_head, backend="aot_eager_decomp_partition")
    found = {}
    for kind, head in (("eager", model.lm_head), ("compiled", compiled)):
        told = partial(
            head, given, labels=labels, loss_reduction="sum", return_logits=False,
            z_loss_multiplier=case["sums"],
        )  # fmt: skip
        told()
        found[kind] = saved_by(told, model)
    return found


def main() -> None:
    """Print a row for each case."""
    from olmo_core.version import VERSION

    torch.set_num_threads(1)
    torch.manual_seed(0)
    flash = flash_attention()
    if os.environ.get("TRITON_INTERPRET"):
        run_no_kernels()
    for name in sys.argv[1:] or CASES:
        case = case_of(name)
        row = {"name": name, "olmo_core": VERSION, "flash_attn": flash is not None}
        row["peaks"] = counted(case)
        if case["mode"] is None and case["sharing"] == 1 and case["kind"] != "olmo_hybrid":
            row["block"] = kept_by_block(case, None, flash)
            row["parts"] = kept_by_block(case, "selected_modules", flash)
            row["head"] = kept_by_head(case)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
