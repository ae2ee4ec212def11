"""Which values a plan may have, and what is said of one that no launch can have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from preflight.errors import Problem
from preflight.lazy_pattern import lazy_pattern
from preflight.near_names import nearest_fix
from preflight.plan_parts import (
    DECODER,
    FREEZABLE,
    NESTED,
    Adapter,
    BaseQuantization,
    Generation,
    LowRank,
    Origin,
    Vision,
)
from preflight.plan_types import wrong_types

SCHEMES = ("nf4", "fp4", "int8")
_REPEATS_A_GROUP = lazy_pattern(r"\)[*+{]")
PROJECTIONS = ("std", "reverse_std", "right", "left", "full")

ONE_OF = (
    "attention", "load_dtype", "eval_micro_batch_size", "micro_batch_size", "gradient_accumulation_steps",
)  # fmt: skip
"""Plan fields that have one of the values that a script may give them, where it is known which those are."""
HF_TRAINERS = ("transformers", "trl")
"""Trainers that TrainingArguments configure, named like their libraries; frameworks on top of them count as
`transformers`."""

ENGINES = ("single", "ddp", "fsdp1", "fsdp2", "zero0", "zero1", "zero2", "zero3")
DIVIDES_NOTHING = ("single", "ddp", "zero0")
"""Engines under which every rank has all of a model, its gradients and its states."""

OBJECTIVES = (
    "sft", "pretrain", "dpo", "ipo", "orpo", "cpo", "simpo", "kto", "bco", "reward", "prm", "grpo", "rloo",
    "online_dpo", "nash_md", "xpo", "ppo", "gkd", "distillation", "scored_pairs", "scored_in_turn", "preference_pairs", "sequence_classification",
    "token_classification", "masked_lm", "embedding",
)  # fmt: skip

CHOICES: dict[str, tuple[object, ...]] = {
    "objective": OBJECTIVES,
    "engine": ENGINES,
    "reshard_after_forward": (True, False, "default"),
    "offload_params": ("none", "cpu", "nvme"),
    "offload_optimizer": ("none", "cpu", "nvme"),
    "offload_activations": ("none", "cpu"),
    "load_dtype": ("fp32", "bf16", "fp16", "auto"),
    "mixed_precision": ("no", "bf16", "fp16", "fp8"),
    "master_dtype": ("fp32", "bf16", "fp16", "loaded"),
    "reduce_dtype": ("fp32", "bf16", "fp16"),
    "optimizer_state_dtype": ("fp32", "bf16", "fp16", "int8"),
    "logits_dtype": ("fp32", "bf16", "fp16"),
    "activation_checkpointing": ("none", "full", "selective_op", "selective_every_2"),
    "attention": ("eager", "sdpa", "flash_attention_2", "flash_attention_3"),
    "loss": (
        "full_logits",
        "chunked_ce",
        "fused_ce",
        "compiled_ce",
        "chunked_linear",
        "fused_linear",
    ),
    "state_dict_type": ("full", "sharded"),
    "sequence_kind": ("padded", "packed", "fixed"),
    "wrap_policy": ("transformer", "size", "none"),
    "optimizer_kernel": ("foreach", "fused", "for_loop"),
    "keeps_outputs": (True, "step", "backward", False),
    "checkpointing_reentrant": (True, False),
    "zero_grad_set_to_none": (True, False),
    "zero_init": (True, False),
}
"""Plan field -> the values it may have (None, for not given, beside them)."""

CHEAPEST_FIRST: dict[str, tuple[object, ...]] = {
    "engine": ("zero3", "fsdp2", "fsdp1", "zero2", "zero1", "ddp", "zero0", "single"),
    "activation_checkpointing": ("full", "selective_op", "selective_every_2", "none"),
    "load_dtype": ("bf16", "fp16", "auto", None, "fp32"),
    "attention": ("flash_attention_2", "flash_attention_3", "sdpa", None, "eager"),
    "loss": (
        "fused_linear",
        "chunked_linear",
        "compiled_ce",
        "fused_ce",
        "chunked_ce",
        None,
        "full_logits",
    ),
    "reshard_after_forward": (True, "default", False),
    "wrap_policy": ("transformer", "size", "none"),
    "offload_params": ("nvme", "cpu", "none"),
    "offload_optimizer": ("nvme", "cpu", "none"),
    "zero_init": (True, False),
    "optimizer": ("sgd", "adafactor", "adamw_8bit", "adamw_torch_fused", "adamw_torch"),
}
"""Plan field -> its values from those that take the fewest bytes in a usual launch to those that take the most."""

OPEN_VALUES: dict[str, tuple[object, ...]] = {
    "engine": ("ddp", "fsdp2", "zero3"),
    "activation_checkpointing": ("none", "full"),
    "adapter": (None, Adapter(targets="all-linear")),
    "base_quantization": (None, BaseQuantization()),
    "load_dtype": (None, "bf16", "fp32"),
    "mixed_precision": ("no", "bf16"),
    "attention": (None, "sdpa", "eager"),
    "loss": (None, "full_logits", "chunked_linear"),
    "optimizer": ("adamw_torch_fused", "sgd", "adamw_8bit", "adamw_torch"),
    "eval_micro_batch_size": (None, 64),
    "world_size": (1, 2, 4, 8, 16, 64),
    "reshard_after_forward": (True, False),
    "wrap_policy": ("transformer", "none"),
    "offload_params": ("none", "cpu"),
    "offload_optimizer": ("none", "cpu"),
    "zero_init": (True, False),
}
"""Plan field -> what it may be where a script decides it and could not be followed: the usual ends, not every value."""

OPEN_PARTS: dict[str, tuple[str, object]] = {
    "lora_target_modules": ("targets", "all-linear"),
    "lora_r": ("rank", 256),
    "lora_modules_to_save": (
        "modules_to_save",
        ("embed_tokens", "lm_head", "word_embeddings", "wte", "embed_in", "embed_out"),
    ),
    "use_dora": ("kind", "dora"),
}
"""Argument of an adapter -> the part of the plan's that it says, and what that may be beside its default where a script
decides it and could not be followed: the dearest that is usual."""

MOST = 2**30
"""Of ranks, tokens and sequences: far beyond what anybody trains with, and below what would take long to try."""

GENERATION_CHOICES = {"engine": ("transformers", "vllm"), "mode": ("colocate", "server")}
"""Field of `generation` -> the values it may have."""
POSITIVE_OF_GENERATION = (
    "tensor_parallel_degree", "max_model_len", "max_prompt_len", "max_completion_len", "num_generations",
    "steps_per_generation", "batch_size", "rollout_rows", "num_mini_batches",
)  # fmt: skip
POSITIVE_FIELDS = (
    "world_size", "num_nodes", "shard_degree", "replicate_degree", "tensor_parallel_degree",
    "context_parallel_degree", "sequence_parallel_degree", "expert_parallel_degree", "micro_batch_size",
    "texts_per_row", "cached_rows", "seq_len", "target_len", "gradient_accumulation_steps", "eval_micro_batch_size",
    "host_memory_gib", "layers_at_a_time",
)  # fmt: skip


At = Callable[[str], str]
"""Plan field -> the place that says it; empty where nobody does."""


def impossible_values(plan: object, origins: Mapping[str, Origin]) -> tuple[Problem, ...]:
    """Return what cannot be true of any launch: values outside their choices, degrees that do not multiply."""
    values = vars(plan)

    def at(name: str) -> str:
        origin = origins.get(name)
        return origin.where if origin else ""

    found = [
        *_wrong_choices(values, at),
        *_wrong_parts(values, at),
        *(problem for name in POSITIVE_FIELDS for problem in _wrong_count(name, values, at)),
    ]
    told = {problem.message.partition(" ")[0] for problem in found}
    for name, complaint in wrong_types(plan):
        if name.partition(".")[0] not in told and name not in told:
            found.append(Problem(complaint, at(name.partition(".")[0])))
    return tuple(found or _wrong_ranks(values, at))


def _wrong_choices(values: Mapping[str, Any], at: At) -> Iterator[Problem]:
    """Yield the fields that have a word which is none of theirs."""
    for name, choices in CHOICES.items():
        value = values[name]
        if value is not None and value not in choices:
            wanted = ", ".join(str(choice) for choice in choices)
            yield Problem(
                f"{name} must be one of {wanted}, not {value!r}",
                at(name),
                "put quotes around 'no': YAML reads it as false"
                if value is False and "no" in choices
                else nearest_fix(str(value), tuple(map(str, choices))),
            )


def _wrong_parts(values: Mapping[str, Any], at: At) -> Iterator[Problem]:
    """Yield what is wrong with the fields that are mappings, and inside them."""
    for name, nested in NESTED.items():
        value = values[name]
        if value is not None and not isinstance(value, nested):
            inner = ", ".join(f.name for f in fields(nested))
            yield Problem(f"{name} must be a mapping of {inner}", at(name))
    quantization = values["base_quantization"]
    if isinstance(quantization, BaseQuantization) and quantization.scheme not in SCHEMES:
        wanted = f"one of {', '.join(SCHEMES)}, not {quantization.scheme!r}"
        yield Problem(f"base_quantization.scheme must be {wanted}", at("base_quantization"))
    if isinstance(values["generation"], Generation):
        for complaint in _wrong_generation(values["generation"]):
            yield Problem(f"generation.{complaint}", at("generation"))
    low_rank = values["low_rank"]
    if isinstance(low_rank, LowRank):
        for complaint in _wrong_low_rank(low_rank):
            yield Problem(f"low_rank.{complaint}", at("low_rank"))
    if isinstance(values["vision"], Vision):
        yield from _wrong_vision(values["vision"], at("vision"))


def _wrong_low_rank(low_rank: LowRank) -> Iterator[str]:
    if low_rank.projection not in PROJECTIONS:
        yield f"projection must be one of {', '.join(PROJECTIONS)}, not {low_rank.projection!r}"
    if isinstance(low_rank.rank, int) and not 1 <= low_rank.rank <= MOST:
        yield f"rank must be from 1 to {MOST:,}, not {low_rank.rank!r}"
    names = (low_rank.targets,) if isinstance(low_rank.targets, str) else low_rank.targets
    wrong = [name for name in names if isinstance(name, str) and not is_pattern(name)]
    if wrong:
        yield f"targets must be names or regular expressions, not {wrong[0]!r}"


def is_pattern(name: str) -> bool:
    """Tell whether a name can be read as a regular expression, none that repeats a group and may take for ever."""
    try:
        re.compile(name)
    except re.error:
        return False
    return not _REPEATS_A_GROUP.search(name)


def _wrong_generation(generation: Generation) -> Iterator[str]:
    for name, choices in GENERATION_CHOICES.items():
        value = getattr(generation, name)
        if value not in choices:
            yield f"{name} must be one of {', '.join(choices)}, not {value!r}"
    for name in POSITIVE_OF_GENERATION:
        value = getattr(generation, name)
        if isinstance(value, int) and not 1 <= value <= MOST:
            yield f"{name} must be from 1 to {MOST:,}, not {value!r}"
    share = generation.memory_share
    if isinstance(share, (int, float)) and not 0 < share <= 1:
        yield f"memory_share must be more than 0 and at most 1, not {share!r}"


def _wrong_count(name: str, values: Mapping[str, Any], at: At) -> Iterator[Problem]:
    value = values[name]
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        yield Problem(f"{name} must be a whole number from 1, not {value!r}", at(name))
    elif value > MOST:
        yield Problem(f"{name} cannot be more than {MOST:,}", at(name))


def _wrong_ranks(values: Mapping[str, Any], at: At) -> Iterator[Problem]:
    """Yield degrees that do not multiply; asked where every value alone is a possible one."""
    ranks, nodes, shard_degree = values["world_size"], values["num_nodes"], values["shard_degree"]
    if ranks % shard_degree:
        yield Problem(
            f"{ranks} ranks cannot be cut into groups of {shard_degree}",
            at("shard_degree") or at("world_size"),
            "shard_degree must divide world_size",
        )
    elif nodes > ranks:
        yield Problem(
            f"{nodes} nodes but only {ranks} ranks",
            at("world_size"),
            "the number of processes is the total over all nodes",
        )


def _wrong_vision(vision: Vision, where: str) -> Iterator[Problem]:
    parts = (*FREEZABLE, DECODER)
    wrong = [part for part in vision.frozen if part not in parts]
    if wrong:
        wanted = ", ".join(parts)
        yield Problem(f"vision.frozen names parts among {wanted}, not {wrong[0]!r}", where)
    for name in ("image_tokens", "images_per_sequence"):
        value = getattr(vision, name)
        if isinstance(value, int) and not 0 <= value <= MOST:
            yield Problem(
                f"vision.{name} must be a whole number up to {MOST:,}, not {value}", where
            )
