"""The folder in which a fuzzed command runs: every kind of file that any command reads, drawn anew each time."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from importlib import resources
from typing import Any

from fuzz_grammar import WORDS, damaged, mapping, number, odd, one_of, value

from preflight.engines.deepspeed_keys import BOOL_SETTINGS, INT_SETTINGS, ZERO_KEYS
from preflight.launch import (
    CHOICES,
    PLAN_FIELDS,
    Adapter,
    BaseQuantization,
    DeepSpeedSettings,
    LaunchPlan,
)
from preflight.launchers.accelerate.argv import BY_KEY
from preflight.launchers.accelerate.keys import DISTRIBUTED_TYPES, TOP_LEVEL_KEYS
from preflight.records.run_record import OUTCOMES, RunRecord
from preflight.scripts.arguments.trainer_tables import argument_table

Make = Callable[[random.Random], Any]

DEVICES = (
    "h100-sxm-80",
    "t4-16",
    "a100-sxm-40",
    "l40s-48",
    "NVIDIA L4",
    "tiny:0.5",
    "X:40",
    "auto",
)
MODELS = ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-0.6B", "gpt2", "model", "./model", "nobody/x")
FAMILIES = (
    *("llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "mixtral", "gemma", "gemma2", "gemma3_text"),
    *("phi3", "gpt2", "gpt_neox", "gptj", "opt", "bloom", "falcon", "deepseek_v2", "deepseek_v3"),
    *("t5", "bert", "clip", "llava", "qwen2_vl", "gpt_oss", "qwen3_next", "mamba", "made_up"),
)  # fmt: skip
FRAMEWORKS = ("axolotl", "llamafactory", "litgpt", "swift", "torchtune", "torchtitan")
SECTIONS = ("fsdp_config", "deepspeed_config", "dynamo_config", "fp8_config", "parallelism_config")


@lru_cache
def framework_words(name: str) -> tuple[str, ...]:
    """Return every key of the tables that a framework is read by."""
    found: dict[str, None] = {}

    def look(whole: Any) -> None:
        if isinstance(whole, dict):
            found.update(dict.fromkeys(key for key in whole if re.fullmatch(r"[a-z][\w.]+", key)))
            whole = list(whole.values())
        if isinstance(whole, list):
            for item in whole:
                look(item)

    for file in resources.files(f"preflight.launchers.{name}").iterdir():
        if file.name.endswith(".json"):
            look(json.loads(file.read_text()))
    return tuple(found)


@lru_cache
def trainer_words() -> tuple[str, ...]:
    return tuple(argument_table("sft").arguments)


def _field(name: str, kind: str) -> Make:
    """Return what makes values of a field, by its choices, else by its type."""
    choices = CHOICES.get(name)
    if choices:
        return lambda rng: one_of(rng, choices, 0.05)
    if name == "model_config":
        return lambda rng: config(rng)
    if name in ("model", "device"):
        return lambda rng: one_of(rng, MODELS if name == "model" else DEVICES, 0.05)
    if name == "versions":
        versions: dict[str, Make] = dict.fromkeys(
            ("torch", "transformers", "trl", "peft"), _version
        )
        return lambda rng: mapping(rng, versions)
    if "bool" in kind:
        return lambda rng: one_of(rng, (True, False), 0.05)
    if "int" in kind or "float" in kind:
        return lambda rng: one_of(rng, (1, 1, 2, 4, 8, 1024), 0.05)
    return lambda rng: one_of(
        rng, ("adamw_torch", "nf4", "all-linear", "q_proj", "trl", "bf16"), 0.05
    )


def _version(rng: random.Random) -> Any:
    return one_of(rng, ("4.57.0", "5.24.0", "2.11.0", "1.0"), 0.1)


def _part(kind: Any) -> Make:
    names = {f.name: _field(f.name, str(f.type)) for f in fields(kind)}
    return lambda rng: mapping(rng, names, 0.6)


NOT_IN_FILES = ("launcher", "cwd")
PLAN: dict[str, Make] = {
    **{f.name: _field(f.name, str(f.type)) for f in fields(LaunchPlan) if f.name in PLAN_FIELDS},
    "adapter": _part(Adapter),
    "base_quantization": _part(BaseQuantization),
    "deepspeed": _part(DeepSpeedSettings),
}


def plan(rng: random.Random) -> dict[str, Any]:
    base = {"model": rng.choice(MODELS), "seq_len": 512, "micro_batch_size": 1}
    own = {name: make for name, make in PLAN.items() if name not in NOT_IN_FILES}
    return {**base, **mapping(rng, own, rng.choice((0.03, 0.1, 0.3)))}


def config(rng: random.Random) -> dict[str, Any]:
    """Return a config.json of some family."""
    heads = rng.choice((1, 2, 4, 8))
    sizes: dict[str, Make] = {
        "hidden_size": lambda r: one_of(r, (heads * 8, 64, 4096), 0.05),
        "num_hidden_layers": lambda r: number(r, 80),
        "num_attention_heads": lambda r: one_of(r, (heads,), 0.05),
        "num_key_value_heads": lambda r: one_of(r, (heads, 1, None)),
        "intermediate_size": lambda r: one_of(r, (128, 11008), 0.05),
        "vocab_size": lambda r: one_of(r, (256, 32000, 128256), 0.05),
        "head_dim": number,
        "num_experts": number,
        "num_local_experts": number,
        "num_experts_per_tok": number,
        "n_layer": number,
        "n_head": number,
        "n_embd": lambda r: one_of(r, (64, 768)),
        "tie_word_embeddings": lambda r: one_of(r, (True, False)),
        "torch_dtype": lambda r: one_of(r, ("bfloat16", "float32", "float16")),
        "layer_types": lambda r: [one_of(r, ("full_attention", "sliding_attention", "linear_attention")) for _ in range(r.randrange(5))],
        "quantization_config": lambda r: mapping(r, {"quant_method": lambda q: one_of(q, ("bitsandbytes", "gptq", "fp8", "mxfp4")), "load_in_4bit": lambda q: True, "bits": number}),
        "text_config": lambda r: mapping(r, {"hidden_size": number, "num_hidden_layers": number}),
        "rope_scaling": value,
        "auto_map": value,
        "architectures": lambda r: [one_of(r, ("LlamaForCausalLM", "XModel", "BertModel"))],
    }  # fmt: skip
    return {"model_type": one_of(rng, FAMILIES, 0.05), **mapping(rng, sizes, 0.8)}


def safetensors(rng: random.Random) -> bytes:
    """Return the header of a file of weights, and a few of its bytes."""
    header: Any = {
        f"model.layers.{n}.{rng.choice(WORDS)}.weight": mapping(
            rng,
            {
                "dtype": lambda r: one_of(r, ("BF16", "F32", "U8", "F8_E4M3", "I64")),
                "shape": lambda r: one_of(r, ([8, 8], [2], [], [0, 4], [-1], [2.5], ["x"], [True], [10**30, 10**30], "ab", 5, None, {"a": 1}, [[1]]), 0.1),
                "data_offsets": lambda r: one_of(r, ([0, 128], [5], [], "x", [10**30, 0]), 0.1),
            },
            0.95,
        )
        for n in range(rng.randrange(5))
    }  # fmt: skip
    if rng.random() < 0.2:
        header = value(rng)
    data = damaged(rng, json.dumps(header))
    length = one_of(rng, (len(data),), 0.0) if rng.random() < 0.8 else rng.choice((0, 1, 2**63, 10))
    return struct.pack("<Q", length) + data


def deepspeed(rng: random.Random) -> dict[str, Any]:
    zero: dict[str, Make] = {
        name: lambda r: one_of(r, (True, False, "auto", 1, 10**6, 5e8)) for name in ZERO_KEYS
    }
    zero["stage"] = lambda r: one_of(r, (0, 1, 2, 3, "auto"))
    for part in ("offload_optimizer", "offload_param"):
        zero[part] = lambda r: mapping(r, {"device": lambda q: one_of(q, ("cpu", "nvme", "none")), "nvme_path": odd, "pin_memory": odd})  # fmt: skip
    whole: dict[str, Make] = {
        "zero_optimization": lambda r: mapping(r, zero, 0.3),
        **{name: lambda r: mapping(r, {"enabled": lambda q: one_of(q, (True, False, "auto")), "loss_scale": number}) for name in ("bf16", "fp16", "amp", "activation_checkpointing", "comms_logger", "flops_profiler")},
        **{name: lambda r: one_of(r, (1, 8, "auto")) for name in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping", "steps_per_print")},
        **{name: lambda r: mapping(r, {"type": lambda q: one_of(q, ("AdamW", "Adam", "OneBitAdam", "WarmupLR")), "params": value}) for name in ("optimizer", "scheduler")},
        **dict.fromkeys((*INT_SETTINGS, *BOOL_SETTINGS), odd),
    }  # fmt: skip
    return mapping(rng, whole, 0.4)


def accelerate(rng: random.Random) -> dict[str, Any]:
    whole: dict[str, Make] = {name: lambda r: one_of(r, ("1", 2, "no", "bf16", True, "auto", "localhost")) for name in TOP_LEVEL_KEYS}  # fmt: skip
    whole["distributed_type"] = lambda r: one_of(r, DISTRIBUTED_TYPES)
    for section in SECTIONS:
        names = [key for key in BY_KEY if key.startswith(section.split("_")[0])] or list(WORDS)
        whole[section] = lambda r, names=names: mapping(
            r, dict.fromkeys(names, lambda q: one_of(q, (True, False, 2, "FULL_SHARD", "auto", 3)))
        )
    return mapping(rng, whole, 0.4)


def framework(rng: random.Random) -> dict[str, Any]:
    name = rng.choice(FRAMEWORKS)
    words = rng.sample(framework_words(name), min(25, len(framework_words(name))))
    whole: dict[str, Any] = {}
    for word in words:
        *path, last = word.split(".")
        inner = whole
        for step in path:
            inner = inner.setdefault(step, {}) if isinstance(inner.get(step, {}), dict) else {}
        inner[last] = one_of(
            rng, (1, 8, True, False, "lora", "full", "bf16", "model", "auto", ["q"])
        )
    return whole


def run_record(rng: random.Random) -> dict[str, Any]:
    peaks: Make = lambda r: {  # noqa: E731
        p: mapping(r, dict.fromkeys(("allocated", "reserved", "device"), lambda q: one_of(q, (0, 2**30, 2**35), 0.05)))
        for p in ("load", "forward", "backward", "second_step", "loss")
    }  # fmt: skip
    own: dict[str, Make] = {f.name: odd for f in fields(RunRecord)}
    own |= {
        "run_id": lambda r: one_of(r, ("a", "b", "c", f"r{r.randrange(99)}"), 0.03),
        "rank": lambda r: one_of(r, (0, 1, 2), 0.05),
        "world_size": lambda r: one_of(r, (1, 2), 0.05),
        "host": lambda r: one_of(r, ("here", "there")),
        "started": lambda r: one_of(r, ("2026-11-25T10:00:00Z", "2024-01-01", "x"), 0.05),
        "outcome": lambda r: one_of(r, OUTCOMES, 0.03),
        "device": lambda r: mapping(r, {"name": lambda q: one_of(q, ("NVIDIA H100 80GB HBM3", "cpu")), "kind": lambda q: one_of(q, ("cuda", "cpu")), "capacity_bytes": lambda q: one_of(q, (2**36,))}, 0.9),
        "phases": peaks,
        "predicted": peaks,
        "predicted_runtime": lambda r: mapping(r, dict.fromkeys(("CUDA context", "NCCL buffers"), lambda q: one_of(q, (0, 2**29)))),
        "outside_bytes": lambda r: one_of(r, (None, 2**29, 2**30)),
        "plan": plan,
        "versions": lambda r: {"torch": "2.11"},
        "num_steps": number,
        "host_peak_bytes": number,
    }  # fmt: skip
    for name in ("ended", "failed_phase", "error", "verdict"):
        own[name] = lambda r: one_of(r, ("", "x", "backward"), 0.05)
    return {"schema": one_of(rng, (1,), 0.03), **mapping(rng, own, 0.97, 0.01)}


def records(rng: random.Random) -> bytes:
    lines = [json.dumps(run_record(rng)) for _ in range(rng.randrange(14))]
    return damaged(rng, "\n".join(lines) + rng.choice(("\n", "")), 0.2)


def correction(rng: random.Random) -> dict[str, Any]:
    names = ("num_runs", "num_context_runs", "num_nccl_runs", "num_allocator_runs")
    one: dict[str, Make] = {
        "device": lambda r: one_of(r, ("h100-sxm-80", "t4-16")),
        **dict.fromkeys(names, lambda r: number(r)),
        "context_bytes": lambda r: one_of(r, (2**29, None, 2**40)),
        **dict.fromkeys(("nccl_factor", "allocator_factor"), lambda r: one_of(r, (1.5, None, 0))),
    }
    devices = {name: mapping(rng, one, 0.97) for name in DEVICES[: rng.randrange(1, 4)]}
    return {
        "schema": one_of(rng, (1,), 0.05),
        "devices": devices if rng.random() < 0.9 else odd(rng),
    }


def measured(rng: random.Random) -> dict[str, Any]:
    runs = [
        mapping(rng, {
            "id": lambda r: one_of(r, ("a", "b", r.random())), "group": odd, "plan": plan, "scored": odd, "sequence_kind": odd,
            "device": lambda r: mapping(r, {"key": lambda q: one_of(q, DEVICES), "memory_gb": number, "name": odd, "capacity_bytes": odd}),
            "measured": lambda r: mapping(r, {"outcome": lambda q: one_of(q, ("value", "fits", "oom")), "counter": lambda q: one_of(q, ("allocated", "reserved", "device", "unknown")), "peak_bytes": lambda q: one_of(q, (2**30, 2**36)), "device_peak_bytes": odd}, 0.95),
        }, 0.9)
        for _ in range(rng.randrange(5))
    ]  # fmt: skip
    return {"schema": one_of(rng, (1,), 0.03), "models": {"model": config(rng)}, "runs": runs}


def policy(rng: random.Random) -> dict[str, Any]:
    names: dict[str, Make] = dict.fromkeys(
        ("allow", "forbid"), lambda r: one_of(r, (["qlora"], ["all"], ["optimizer_8bit"], []))
    )
    names |= dict.fromkeys(("ignore", "refuse_findings"), lambda r: one_of(r, (["PF203"], [])))
    names["refuse"] = lambda r: one_of(r, (["does_not_fit", "tight"], ["does_not_fit"], []))
    names["margin_share"] = lambda r: one_of(r, (0, 0.05, 0.9))
    names |= dict.fromkeys(("rewrite", "rewrite_jobs"), lambda r: one_of(r, (True, False)))
    return mapping(rng, names)


def prices(rng: random.Random) -> dict[str, Any]:
    return mapping(
        rng, dict.fromkeys(("h100-sxm-80", "t4-16", "l40s-48"), lambda r: one_of(r, (2.5, 0, 1)))
    )


def site_map(rng: random.Random) -> dict[str, Any]:
    def sizes(rng: random.Random) -> dict[str, Any]:
        return mapping(rng, dict.fromkeys(("h100", "a100", "x"), size))

    def size(rng: random.Random) -> Any:
        return one_of(rng, ("h100-sxm-80", 40, 23.5))

    return mapping(rng, dict.fromkeys(("gpu_memory", "feature_memory"), sizes))


def settings(rng: random.Random) -> dict[str, Any]:
    return mapping(rng, {
        "device": lambda r: one_of(r, DEVICES), "guard": lambda r: one_of(r, ("off", "warn", "enforce")),
        "plan": plan, "policy": policy, "hooks": lambda r: one_of(r, ([],)),
        "flags": lambda r: {"--bs": one_of(r, ("micro_batch_size", "seq_len"))},
    }, 0.4)  # fmt: skip
