"""The keys of prime-rl's trainer in plan fields: FSDP2, dtypes, rows, checkpointing, offloading, adapter and optimizer.

Source: prime_rl/configs/{sft,trainer,rl}.py, prime_rl/trainer/{model,parallel_dims}.py and trainer/optim, of the tags v0.4.0
to v0.8.0 and of November 2026.
"""

from __future__ import annotations

from typing import Any

from preflight.launch import Adapter
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.setting import Setting
from preflight.unpriced_names import BESIDE_TEXT, PRIME_RL, SENT_TOKENS
from preflight.versions.prime_rl import FUSES_ADAMW, SAVES_BY_DEFAULT

DEFAULT_MODEL = "Qwen/Qwen3-0.6B"
DTYPES = {"bfloat16": "bf16", "float32": "fp32"}
OPTIMIZERS = {"adamw": "adamw_torch", "muon": "dion_muon"}
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "experts")
OWN_CODE = NotModelled(
    "its own layers, compiled and with what they save on the host, and its losses are estimated as transformers' layers on the"
    " card",
    PRIME_RL,
    "either",
)
SWITCHES = {
    "model.quantization.type": NotModelled("float8 is not estimated", "float8", "either"),
    "inference.vllm.model": NotModelled(
        "the inference server has cards of its own, and is not estimated", "", ""
    ),
}


TOWER = NotModelled("a tower is estimated as text alone", BESIDE_TEXT, "more")
EXPERTS = NotModelled(
    "experts are divided over ranks, whose share of the tokens is estimated as if it was even",
    SENT_TOKENS,
    "either",
)
SELECTIVE = NotModelled("parts of layers are recomputed, and estimated as none", "", "")
STATES = NotModelled(
    "optimizer states wait on the host between steps, and all come back to the card for each",
    "",
    "",
)


def has_tower(keys: FrameworkKeys) -> bool:
    """Tell whether a tower beside the text is trained or run."""
    return _of_section(keys, "model.vlm") is not None


def _of_section(keys: FrameworkKeys, name: str) -> Setting | None:
    """Return what speaks of a section: its switch, or the first key in it; None where nothing does or it is turned off."""
    said = keys.given.get(name)
    if said is not None:
        return None if said.value in (None, "None", False) else said
    return next((s for key, s in keys.given.items() if key.startswith(f"{name}.")), None)


def deployed_ranks(keys: FrameworkKeys) -> tuple[Setting, Setting]:
    """Return the trainer's ranks and nodes that a deployment says; one where it says nothing."""
    default = keys.by_default(1)
    nodes = keys.count("deployment.num_train_nodes") or keys.count("deployment.num_nodes")
    if keys.value("deployment.type") == "multi_node":
        per_node = keys.count("deployment.gpus_per_node")
        on_each = 8 if per_node is None else per_node.value
        nodes = nodes or Setting(2, default.place)
        return Setting(nodes.value * on_each, nodes.place), nodes
    ranks = keys.count("deployment.num_train_gpus") or keys.count("deployment.num_gpus")
    return ranks or default, default


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
    keys.put_or("model", "model.name", DEFAULT_MODEL)
    _rows(keys, program, world)
    dtype = _engine(keys, world)
    _adapter(keys, dtype)
    _activations(keys)
    _optimizer(keys)
    keys.leave_out_given(SWITCHES)
    tower, experts = _of_section(keys, "model.vlm"), keys.get("model.ep")
    if tower is not None:
        keys.leave_out(TOWER, tower)
    if experts is not None and experts.value not in (1, "1"):
        keys.leave_out(EXPERTS, experts)
    keys.leave_out(OWN_CODE, keys.get("model.name") or keys.by_default(None))


def _rows(keys: FrameworkKeys, program: str, world: int) -> None:
    """Put length and batch: rows are packed to the length, and the RL trainer takes one at a time."""
    keys.assume("sequence_kind", "packed", "samples are joined to rows of that length")
    if program != "sft":
        keys.put_or("seq_len", "model.seq_len", 2048)
        keys.assume("micro_batch_size", 1)
        return
    keys.put_or("seq_len", "data.seq_len", 128)
    keys.put_or("micro_batch_size", "data.micro_batch_size", 1)
    total, rows = keys.count("data.batch_size"), keys.settings["micro_batch_size"].value
    ranks = max(1, world // keys.value("model.cp", 1))
    steps = max(1, (128 if total is None else total.value) // (rows * ranks))
    keys.decide("gradient_accumulation_steps", steps, total)


def _engine(keys: FrameworkKeys, world: int) -> str:
    """Put FSDP2, its mesh and its dtypes; return the dtype that weights are kept in."""
    keys.assume("engine", "fsdp2", "every model is wrapped, on one rank too")
    copies = keys.value("model.dp_replicate", 1)
    keys.put_or("replicate_degree", "model.dp_replicate", 1)
    keys.assume("shard_degree", max(1, world // copies))
    keys.put_or("context_parallel_degree", "model.cp", 1)
    keys.put_or("reshard_after_forward", "model.reshard_after_forward", True)
    keys.assume("wrap_policy", "transformer")
    kept, reduced = keys.get("model.optimization_dtype"), keys.get("model.reduce_dtype")
    dtype = "fp32" if kept is None else DTYPES.get(str(kept.value), "fp32")
    for field in ("load_dtype", "master_dtype"):
        keys.decide(field, dtype, kept)
    keys.assume("mixed_precision", "bf16")
    keys.assume(
        "reduce_dtype", "fp32" if reduced is None else DTYPES.get(str(reduced.value), "fp32")
    )
    if keys.is_on("model.fsdp_cpu_offload"):
        keys.put("offload_params", "cpu", keys.given["model.fsdp_cpu_offload"])
        keys.put("offload_optimizer", "cpu", keys.given["model.fsdp_cpu_offload"])
    keys.assume("sync_each_batch", True, "gradients are reduced in every micro step")
    return dtype


def _adapter(keys: FrameworkKeys, dtype: str) -> None:
    by = _of_section(keys, "model.lora")
    if by is None:
        return
    rank, said = keys.count("model.lora.rank"), keys.get("model.lora.target_modules")
    targets = TARGETS if said is None else tuple(map(str, said.value))
    adapter = Adapter(rank=16 if rank is None else rank.value, targets=targets, dtype=dtype)
    keys.put("adapter", adapter, rank or said or by)


def _activations(keys: FrameworkKeys) -> None:
    """Put attention, compilation, checkpointing and what waits on the host."""
    attention = keys.get("model.attn")
    if attention is None or attention.value == "auto":
        keys.assume("attention", "flash_attention_3", "its kernel for the card")
    else:
        keys.put("attention", attention.value, attention)
    _switch(keys, "torch_compile", "model.compile", (False, True))
    _switch(keys, "activation_checkpointing", "model.ac", ("none", "full"))
    _switch(keys, "offload_activations", "model.ac_offloading", ("none", "cpu"))
    mode, every = keys.get("model.ac.mode"), keys.count("model.ac.freq")
    if mode is not None and mode.value == "selective":
        keys.put("activation_checkpointing", "none", mode)
        keys.leave_out(SELECTIVE, mode)
    elif every is not None and every.value > 1:
        half = "selective_every_2" if every.value == 2 else "none"
        keys.put("activation_checkpointing", half, every)


def _switch(keys: FrameworkKeys, field: str, section: str, values: tuple[Any, Any]) -> None:
    """Put a field by whether a section is on: as something says, else as the release has it."""
    said = _of_section(keys, section) or keys.given.get(section)
    if said is None:
        keys.assume(field, values[SAVES_BY_DEFAULT.holds_in(keys.library.versions)])
    else:
        keys.put(field, values[_of_section(keys, section) is not None], said)


def _optimizer(keys: FrameworkKeys) -> None:
    """Put optimizer, clipping and where the states are in the step."""
    full = _of_section(keys, "model.full_offload")
    waits, versions = keys.flag("model.optim_cpu_offload"), keys.library.versions
    if full is not None:
        keys.put("offload_optimizer", "cpu", full)
    does_wait = waits.value if waits is not None else SAVES_BY_DEFAULT.holds_in(versions)
    if does_wait and full is None:
        keys.leave_out(STATES, waits or keys.by_default(True))
    is_fused = FUSES_ADAMW.holds_in(versions) and not does_wait
    kind = keys.get("optim.type")
    name = "adamw" if kind is None else str(kind.value)
    kernel = "adamw_torch_fused" if name == "adamw" and is_fused else OPTIMIZERS.get(name, name)
    keys.decide("optimizer", kernel, kind)
    norm = keys.number("optim.max_norm")
    keys.assume("max_grad_norm", 1.0 if norm is None else norm.value)
