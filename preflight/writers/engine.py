"""Plan fields that launcher and engine decide, written back: FSDP's and DeepSpeed's keys, and the allocator's variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from preflight.bool_words import as_word
from preflight.engines.deepspeed_keys import BOOL_SETTINGS, INT_SETTINGS
from preflight.formats import argv_edits
from preflight.formats.edits import CannotEdit
from preflight.launch import DeepSpeedSettings, LaunchPlan
from preflight.versions.torch import RENAMES_ALLOCATOR_VARIABLE
from preflight.writers.draft import LaunchDraft
from preflight.writers.trainer_edits import (
    deepspeed_target,
    nested_target,
    places_of,
    script_text,
    set_argument,
)

OTHER_STRATEGY = {
    "FULL_SHARD": "SHARD_GRAD_OP",
    "SHARD_GRAD_OP": "FULL_SHARD",
    "HYBRID_SHARD": "HYBRID_SHARD_ZERO2",
    "HYBRID_SHARD_ZERO2": "HYBRID_SHARD",
}
"""FSDP1's strategies that differ in nothing but reshard_after_forward."""
STRATEGY_NUMBERS = {"FULL_SHARD": 1, "SHARD_GRAD_OP": 2, "HYBRID_SHARD": 4, "HYBRID_SHARD_ZERO2": 5}
"""torch.distributed.fsdp.ShardingStrategy; accelerate takes both."""
ONLY_ATTENTION_DROPOUT = (
    "cohere", "gemma", "gemma2", "gemma3_text", "llama", "mistral", "mixtral", "olmo2", "qwen2", "qwen2_moe", "qwen3",
    "qwen3_moe",
)  # fmt: skip
"""Model types whose only dropout is attention_dropout, 0.0 where the config does not say it (transformers 5.24)."""
FSDP_CHECKPOINTING = "fsdp_activation_checkpointing"


def set_launcher_option(draft: LaunchDraft, section: str, key: str, value: Any) -> None:
    """Give the launcher another value: in its flag, in the config file that the command names, or as a new flag.

    A flag beats the file, so a default config that nobody named stays as it is. Launchers that have no
    such options leave it to the variables of the environment.
    """
    if not draft.part.has_engine_options:
        _set_variable(draft, key, value)
        return
    flags = draft.launcher_flags(key)
    path = draft.role("accelerate")
    if flags:
        for occurrence in flags:
            draft.write_flag(occurrence, value)
    elif path is None or draft.part.is_default_config:
        draft.add_launcher_flag(key, value)
    else:
        stated = draft.document(path).get((section,))
        # accelerate takes `offload_params` in fsdp_config for `fsdp_offload_params`.
        short = key.removeprefix("fsdp_")
        is_short = isinstance(stated, Mapping) and short in stated and key not in stated
        draft.edit(path, (section, short if is_short else key), value)


def _set_variable(draft: LaunchDraft, key: str, value: Any) -> None:
    """Set the variable that accelerate's launcher would write; it is read where the user exports FSDP's settings."""
    from preflight.shell.starters.variables import FSDP_ALWAYS, FSDP_IF_GIVEN, fsdp_variable

    env = draft.command.env
    if draft.part.variables is not None:
        raise CannotEdit("variables of the launcher do not reach the ranks")
    is_option = key in FSDP_ALWAYS or key in FSDP_IF_GIVEN
    if not is_option or env.get("ACCELERATE_USE_FSDP", "").lower() != "true":
        raise CannotEdit(f"{draft.part.name} has no option for {key}")
    draft.env[fsdp_variable(key)] = as_word(value)


def write_fsdp_checkpointing(draft: LaunchDraft, before: LaunchPlan) -> None:
    """Turn FSDP's own checkpointing on, for a loop without a trainer's switch."""
    if not before.is_fsdp or before.trainer != "plain_loop":
        raise CannotEdit("the launch has no switch for activation checkpointing")
    if "checkpointing" in script_text(draft):
        raise CannotEdit("the script has a switch of its own")
    if before.adapter is not None:
        # PEFT would save it empty (hooks/check_adapter_saving.py).
        raise CannotEdit("FSDP's checkpointing hides the adapter from PEFT")
    if before.engine == "fsdp2":
        if before.wrap_policy in (None, "none"):
            raise CannotEdit("FSDP2 checkpoints the wrapped layers, and there are none")
        if not is_without_dropout(draft, before):
            # The recomputation would draw other dropout masks (accelerate/utils/fsdp_utils.py:720).
            raise CannotEdit("dropout may be active")
    set_launcher_option(draft, "fsdp_config", FSDP_CHECKPOINTING, True)


def is_fsdp_checkpointing(draft: LaunchDraft) -> bool:
    """Tell whether the launcher's FSDP settings turn checkpointing on."""
    if draft.launcher_flags(FSDP_CHECKPOINTING):
        return True
    path = draft.role("accelerate")
    section = None if path is None else draft.document(path).get(("fsdp_config",))
    short = FSDP_CHECKPOINTING.removeprefix("fsdp_")
    return isinstance(section, Mapping) and True in (
        section.get(FSDP_CHECKPOINTING),
        section.get(short),
    )


def is_without_dropout(draft: LaunchDraft, plan: LaunchPlan) -> bool:
    """Tell whether the model is known to drop nothing while it trains."""
    if plan.adapter is not None and plan.adapter.dropout != 0:
        return False
    config: Any = plan.model_config
    if config is None and plan.model is not None:
        path = f"{plan.model}/config.json"
        config = draft.document(path).value if draft.command.exists(path) else None
    if not isinstance(config, Mapping) or config.get("model_type") not in ONLY_ATTENTION_DROPOUT:
        return False
    rates = [value for key, value in config.items() if "dropout" in key or "pdrop" in key]
    return all(rate in (0, None) for rate in rates) and "Dropout" not in script_text(draft)


def write_reshard(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Free gathered parameters after the forward pass, or keep them."""
    value = after.reshard_after_forward
    if not before.is_fsdp or not isinstance(value, bool):
        raise CannotEdit("FSDP takes true or false")
    if before.engine == "fsdp1":
        _write_strategy(draft, value)
    elif not _write_trainer_reshard(draft, before, value):
        set_launcher_option(draft, "fsdp_config", "fsdp_reshard_after_forward", value)


def _write_strategy(draft: LaunchDraft, reshards: bool) -> None:
    """Write FSDP1's sharding strategy, by name or number as the user does."""
    key = "fsdp_sharding_strategy"
    path = draft.role("accelerate")
    flags = draft.launcher_flags(key)
    stated: Any = flags[-1].value if flags else draft.command.env.get("FSDP_SHARDING_STRATEGY")
    if draft.part.has_engine_options and not flags:
        stated = None  # accelerate's launcher writes over the variable
    if not flags and path is not None:
        section = draft.document(path).get(("fsdp_config",))
        if isinstance(section, Mapping):
            stated = section.get(key, section.get(key.removeprefix("fsdp_")))
    by_number = {str(number): name for name, number in STRATEGY_NUMBERS.items()}
    word = str(stated or "FULL_SHARD").upper()
    old = by_number.get(word, word)
    if old not in OTHER_STRATEGY:
        raise CannotEdit(f"{old} has no twin that reshards")
    if (old in ("FULL_SHARD", "HYBRID_SHARD")) == reshards:
        raise CannotEdit("another place decides the sharding strategy")
    new: Any = OTHER_STRATEGY[old]
    if word in by_number:
        new = STRATEGY_NUMBERS[new]
    set_launcher_option(draft, "fsdp_config", key, new)


def _write_trainer_reshard(draft: LaunchDraft, before: LaunchPlan, value: bool) -> bool:
    """Write it into the trainer's own FSDP arguments; return False where the launcher's decide."""
    path = draft.role("trainer")
    in_file = draft.document(path).get(("fsdp",)) if path is not None else None
    flags = draft.script_flags("fsdp", takes_many=True)
    if not flags and not in_file:
        return False
    target = nested_target(draft, "fsdp_config")
    if target is not None:
        for key in ("reshard_after_forward", "fsdp_reshard_after_forward"):
            if target.has(key):
                target.set(draft, key, value)
                return True
    old, new = ("shard_grad_op", "full_shard") if value else ("full_shard", "shard_grad_op")
    for flag in flags:
        if any(old in text.split() for text in flag.values):
            texts = [" ".join(new if w == old else w for w in t.split(" ")) for t in flag.values]
            draft.replace(flag, argv_edits.with_values(flag, texts))
            return True
    if not flags and path is not None and isinstance(in_file, str) and old in in_file.split():
        text = " ".join(new if word == old else word for word in in_file.split(" "))
        draft.edit(path, ("fsdp",), text)
        return True
    if target is not None:
        target.set(draft, "reshard_after_forward", value)
    else:
        set_argument(draft, before, "fsdp_config", {"reshard_after_forward": value})
    return True


def write_zero_batch(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> set[str]:
    """Change DeepSpeed's copies of the batch sizes; return the plan fields that it states. `auto` stays."""
    if before.zero_stage is None:
        return set()
    written: set[str] = set()
    target = deepspeed_target(draft)
    if target is not None:
        for key, plan_field in (
            ("train_micro_batch_size_per_gpu", "micro_batch_size"),
            ("gradient_accumulation_steps", "gradient_accumulation_steps"),
        ):
            if _is_number(target.get(key)):
                written.add(plan_field)
                if getattr(before, plan_field) != getattr(after, plan_field):
                    target.set(draft, key, getattr(after, plan_field))
        total = target.get("train_batch_size")
        if _is_number(total):
            new_total = _scaled_total(total, before, after)
            if new_total != total:
                target.set(draft, "train_batch_size", new_total)
    key = "gradient_accumulation_steps"
    path = draft.role("accelerate")
    stated = draft.document(path).get(("deepspeed_config", key)) if path is not None else None
    if draft.launcher_flags(key) or _is_number(stated):
        written.add(key)
        if before.gradient_accumulation_steps != after.gradient_accumulation_steps:
            steps = after.gradient_accumulation_steps
            set_launcher_option(draft, "deepspeed_config", key, steps)
    return written


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _scaled_total(total: int, before: LaunchPlan, after: LaunchPlan) -> int:
    if before.micro_batch_size is None or after.micro_batch_size is None:
        raise CannotEdit("train_batch_size is stated, and the micro batch is not known")
    old = before.micro_batch_size * before.gradient_accumulation_steps
    new = after.micro_batch_size * after.gradient_accumulation_steps
    if total * new % old:
        raise CannotEdit("train_batch_size does not divide")
    return total * new // old


def write_deepspeed_sizes(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Write bucket sizes and stage-3 limits into the DeepSpeed JSON."""
    target = deepspeed_target(draft)
    if target is None or before.deepspeed is None or after.deepspeed is None:
        raise CannotEdit("the launcher's own keys have no bucket sizes")
    spellings = {**INT_SETTINGS, **BOOL_SETTINGS}
    for field in fields(DeepSpeedSettings):
        old, new = getattr(before.deepspeed, field.name), getattr(after.deepspeed, field.name)
        if old == new:
            continue
        if field.name == "grad_accum_dtype" and new is not None:
            target.set(draft, "data_types.grad_accum_dtype", new)
            continue
        if field.name not in spellings:
            raise CannotEdit(f"{field.name} has no single key")
        keys = [f"zero_optimization.{name}" for name in spellings[field.name]]
        key = next((key for key in keys if target.has(key)), keys[0])
        # None is the product of the hidden size that `auto` stands for.
        target.set(draft, key, "auto" if new is None else new)


def write_expandable_segments(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Set the allocator's variable, beside what it holds already."""
    word = "True" if after.expandable_segments else "False"
    for place in places_of(draft, "expandable_segments"):
        if place.kind in ("yaml", "json"):
            # TrlParser exports its file's `env:` over what the launcher was given.
            old = str(draft.document(place.document).get(place.key) or "")
            draft.edit(place.document, place.key, _merged(old, word))
            return
    if draft.part.variables is not None:
        raise CannotEdit("variables of the launcher do not reach the ranks")
    env = draft.command.env
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    renamed = before.surely(RENAMES_ALLOCATOR_VARIABLE)
    name = next((name for name in names if env.get(name)), names[0] if renamed else names[1])
    if name == names[0] and not renamed:
        name = names[1]  # This torch does not read the new name.
    draft.env[name] = _merged(env.get(name, ""), word)


def _merged(old: str, word: str) -> str:
    if "cudaMallocAsync" in old:
        raise CannotEdit("CUDA's own allocator has no expandable segments")
    return argv_edits.merged_list_setting(old, "expandable_segments", word)
