"""The keys of prime-rl's trainer in plan fields: FSDP2, dtypes, rows, checkpointing, offloading, adapter and optimizer.

Source: prime_rl/configs/{sft,trainer,rl}.py, prime_rl/trainer/{model,parallel_dims}.py and trainer/optim, November 2026.
"""

from __future__ import annotations

from typing import Any

from preflight.launch import Adapter
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.plan_parts import PRIME_RL
from preflight.setting import Place, Setting

DEFAULT_MODEL = "Qwen/Qwen3-0.6B"
DTYPES = {"bfloat16": "bf16", "float32": "fp32"}
OPTIMIZERS = {"adamw": "adamw_torch_fused", "muon": "dion_muon"}
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "experts")
OWN_CODE = NotModelled(
    "its own layers, compiled and with what they save on the host, and its losses are estimated as transformers' layers on the"
    " card",
    PRIME_RL,
    "either",
)
SWITCHES = {
    "model.quantization.type": NotModelled("float8 is not estimated", "float8", "either"),
    "model.vlm.vision_encoder_attr": NotModelled(
        "a tower is estimated as text alone", "images or audio beside the text", "more"
    ),
    "inference.vllm.model": NotModelled(
        "the inference server has cards of its own, and is not estimated", "", ""
    ),
}


def deployed_ranks(keys: FrameworkKeys) -> tuple[Setting, Setting]:
    """Return the trainer's ranks and nodes that a deployment says; one where it says nothing."""
    default = Setting(1, Place("default", "", keys.library.label))
    nodes = keys.count("deployment.num_train_nodes")
    if keys.value("deployment.type") == "multi_node":
        per_node = keys.count("deployment.gpus_per_node")
        on_each = 8 if per_node is None else per_node.value
        nodes = nodes or Setting(2, default.place)
        return Setting(nodes.value * on_each, nodes.place), nodes
    return keys.count("deployment.num_train_gpus") or default, default


def read_trainer(keys: FrameworkKeys, program: str, world: int) -> None:
    """Fill in every plan field that a config decides; `rl` has the trainer's in a section, beside what all share."""
    if program == "rl":
        own = {
            k.removeprefix("trainer."): s for k, s in keys.given.items() if k.startswith("trainer.")
        }
        shared = {"model.name": "model.name", "seq_len": "model.seq_len"}
        keys.given = {
            **{to: keys.given[name] for name, to in shared.items() if name in keys.given},
            **own,
        }
    keys.assume("objective", "sft" if program == "sft" else "grpo")
    _or(keys, "model", "model.name", DEFAULT_MODEL)
    _rows(keys, program, world)
    dtype = _engine(keys, world)
    rank = keys.count("model.lora.rank")
    if rank is not None or any(name.startswith("model.lora.") for name in keys.given):
        said = keys.get("model.lora.target_modules")
        targets = TARGETS if said is None else tuple(map(str, said.value))
        by = rank or said or next(s for n, s in keys.given.items() if n.startswith("model.lora."))
        keys.put(
            "adapter",
            Adapter(rank=16 if rank is None else rank.value, targets=targets, dtype=dtype),
            by,
        )
    _optimizer(keys)
    keys.leave_out_given(SWITCHES)
    keys.leave_out(
        OWN_CODE, keys.get("model.name") or Setting(None, Place("default", "", keys.library.label))
    )


def _or(keys: FrameworkKeys, field: str, name: str, default: Any) -> None:
    """Put a field as a key says it, or as it is without."""
    setting = keys.get(name)
    if setting is None:
        keys.assume(field, default)
    else:
        keys.put(field, setting.value, setting)


def _rows(keys: FrameworkKeys, program: str, world: int) -> None:
    """Put length and batch: rows are packed to the length, and the RL trainer takes one at a time."""
    keys.assume("sequence_kind", "packed", "samples are joined to rows of that length")
    if program != "sft":
        _or(keys, "seq_len", "model.seq_len", 2048)
        keys.assume("micro_batch_size", 1)
        return
    _or(keys, "seq_len", "data.seq_len", 128)
    _or(keys, "micro_batch_size", "data.micro_batch_size", 1)
    total, rows = keys.count("data.batch_size"), keys.settings["micro_batch_size"].value
    ranks = max(1, world // keys.value("model.cp", 1))
    steps = max(1, (128 if total is None else total.value) // (rows * ranks))
    if total is None:
        keys.assume("gradient_accumulation_steps", steps)
    else:
        keys.put("gradient_accumulation_steps", steps, total)


def _engine(keys: FrameworkKeys, world: int) -> str:
    """Put FSDP2, its mesh and its dtypes; return the dtype that weights are kept in."""
    keys.assume("engine", "fsdp2", "every model is wrapped, on one rank too")
    copies = keys.value("model.dp_replicate", 1)
    _or(keys, "replicate_degree", "model.dp_replicate", 1)
    keys.assume("shard_degree", max(1, world // copies))
    _or(keys, "context_parallel_degree", "model.cp", 1)
    _or(keys, "reshard_after_forward", "model.reshard_after_forward", True)
    keys.assume("wrap_policy", "transformer")
    kept, reduced = keys.get("model.optimization_dtype"), keys.get("model.reduce_dtype")
    dtype = "fp32" if kept is None else DTYPES.get(str(kept.value), "fp32")
    for field in ("load_dtype", "master_dtype"):
        if kept is None:
            keys.assume(field, dtype)
        else:
            keys.put(field, dtype, kept)
    keys.assume("mixed_precision", "bf16")
    keys.assume(
        "reduce_dtype", "fp32" if reduced is None else DTYPES.get(str(reduced.value), "fp32")
    )
    keys.assume("attention", "flash_attention_2", "FlashAttention 2 to 4, by card")
    off = keys.given.get("model.ac")
    is_off = off is not None and off.value in (None, "None", False)
    keys.assume("activation_checkpointing", "none" if is_off else "full")
    if keys.is_on("model.fsdp_cpu_offload"):
        keys.put("offload_params", "cpu", keys.given["model.fsdp_cpu_offload"])
        keys.put("offload_optimizer", "cpu", keys.given["model.fsdp_cpu_offload"])
    full = next(
        (s for n, s in keys.given.items() if n.startswith("model.full_offload") and s.value), None
    )
    if full is not None:
        keys.put("offload_optimizer", "cpu", full)
    return dtype


def _optimizer(keys: FrameworkKeys) -> None:
    kind = keys.get("optim.type")
    name = "adamw" if kind is None else str(kind.value)
    if kind is None:
        keys.assume("optimizer", OPTIMIZERS["adamw"])
    else:
        keys.put("optimizer", OPTIMIZERS.get(name, name), kind)
    norm = keys.number("optim.max_norm")
    keys.assume("max_grad_norm", 1.0 if norm is None else norm.value)
