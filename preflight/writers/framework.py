"""Writing a framework's config back: keys of its file, or the words of the command line that beat the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from preflight.bool_words import STRTOBOOL
from preflight.errors import BadInput
from preflight.formats import argv_edits
from preflight.formats.argv_edits import Occurrence
from preflight.formats.edits import CannotEdit
from preflight.launch import Adapter, LaunchPlan
from preflight.rewrite import Rewrite
from preflight.writers import engine as write_engine
from preflight.writers.draft import LaunchDraft, open_draft
from preflight.writers.finish import finish
from preflight.writers.launch import changed_fields
from preflight.writers.sharding import (
    OFFLOAD_FIELDS,
    SHARDING_FIELDS,
    STATE_FIELDS,
    write_offload,
    write_sharding,
    write_states,
)

Keys = Mapping[str, Any]
FieldWriter = Callable[[LaunchDraft, LaunchPlan, LaunchPlan], Keys]
"""Returns the keys of the file (dotted below a section) that give the plan field its new value."""

SayKey = Callable[[LaunchDraft, str, Any], list[str]]
"""Returns the words that give a key a value behind everything else, as its launcher's release spells it."""

BATCH = ("micro_batch_size", "gradient_accumulation_steps")
ENGINE_WRITERS = {
    SHARDING_FIELDS: write_sharding,
    OFFLOAD_FIELDS: write_offload,
    STATE_FIELDS: write_states,
}
"""What launcher and DeepSpeed's config say, under every framework on top of them."""
OF_EVERY_FRAMEWORK = {"deepspeed", "expandable_segments"}


def write_framework(
    before: LaunchPlan, after: LaunchPlan, writers: Mapping[tuple[str, ...], FieldWriter]
) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless every changed field has a key."""
    draft = open_draft(before)
    if draft is None:
        return None
    changed = changed_fields(before, after)
    own = {name for names in writers for name in names}
    # FSDP's fields are the framework's own where it has keys for them.
    shared = {
        names: write
        for names, write in ENGINE_WRITERS.items()
        if not own & set(names) and changed & set(names)
    }
    known = own | {name for names in shared for name in names} | OF_EVERY_FRAMEWORK
    if not changed <= known:
        return None
    try:
        if changed & set(BATCH):
            write_engine.write_zero_batch(draft, before, after)
        for names, write in writers.items():
            if changed & set(names):
                for key, value in write(draft, before, after).items():
                    set_key(draft, key, value)
        for engine_writer in shared.values():
            engine_writer(draft, before, after)
        if "deepspeed" in changed:
            write_engine.write_deepspeed_sizes(draft, before, after)
        if "expandable_segments" in changed:
            write_engine.write_expandable_segments(draft, before, after)
        return finish(draft)
    except (CannotEdit, BadInput):
        return None


def set_key(draft: LaunchDraft, key: str, value: Any, say: SayKey | None = None) -> None:
    """Give a key another value where it is given now; the command line beats the file, which `say` leaves as it is."""
    path = draft.role("trainer")
    index = draft.part.overrides.get(key)
    if index is not None:
        _set_word(draft, key, index, value, say)
    elif say is not None:
        draft.script_additions.append(say(draft, key, value))
    elif path is None:
        if "." in key:
            raise CannotEdit(f"{key} has no flag")
        draft.add_script_flag(key, value)
    else:
        draft.edit(path, key, value)


def _set_word(draft: LaunchDraft, key: str, index: int, value: Any, say: SayKey | None) -> None:
    """Change an override: `key=value`, `--key value`, `--key=value`, `--key` or `--no-key`."""
    word = draft.argv[index]
    if not word.startswith("-"):
        name, _, old = word.partition("=")
        words = [f"{name}={text_of(value)}"]
        if isinstance(value, bool) and STRTOBOOL.read(old) is not None:
            words = argv_edits.with_bool(Occurrence(index, name, (old,), is_attached=True), value)
        draft.words[index] = words
        draft.touched.append((index, index + 1))
        return
    occurrence = draft.flag_at(index)
    if isinstance(value, bool) and not occurrence.values:
        name = word[5:] if word.startswith(("--no-", "--no_")) else word[2:]
        switch = [f"--{name}" if value else f"--no-{name}"]
        draft.replace(occurrence, switch if say is None else say(draft, key, value))
    elif isinstance(value, (Mapping, list)):
        raise CannotEdit(f"{word} takes one word")
    else:
        draft.write_flag(occurrence, value)


def text_of(value: Any) -> str:
    """Return a value as YAML has it in one word."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, list, tuple)):
        raise CannotEdit("a list is not written as one word")
    return str(value)


def batch_keys(micro: str) -> FieldWriter:
    """Return the writer of micro batch and accumulation; `micro` is the framework's key of the first."""

    def write(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> Keys:
        if after.micro_batch_size is None:
            raise CannotEdit("micro_batch_size cannot be unknown")
        keys: dict[str, Any] = {}
        if before.micro_batch_size != after.micro_batch_size:
            keys[micro] = after.micro_batch_size
        if before.gradient_accumulation_steps != after.gradient_accumulation_steps:
            keys["gradient_accumulation_steps"] = after.gradient_accumulation_steps
        return keys

    return write


def size_key(name: str, plan_field: str) -> FieldWriter:
    """Return the writer of a number that has one key: the sequence length, the rows of an evaluation."""

    def write(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> Keys:
        value = getattr(after, plan_field)
        if value is None:
            raise CannotEdit(f"{plan_field} cannot be unknown")
        return {name: value}

    return write


def optimizer_key(name: str) -> FieldWriter:
    """Return the writer of the optimizer's name."""

    def write(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> Keys:
        offloads = (before.offload_optimizer, after.offload_optimizer) == ("none", "cpu")
        if offloads and after.optimizer == "deepspeed_cpu_adam":
            return {}  # comes with offloading, and is nobody's key
        of_deepspeed = any(plan.optimizer.startswith("deepspeed_") for plan in (before, after))
        if of_deepspeed or before.engine_facts.deepspeed_optimizer:
            raise CannotEdit("DeepSpeed's config makes the optimizer")
        return {name: after.optimizer}

    return write


def checkpointing_key(name: str, turns_off: bool = False) -> FieldWriter:
    """Return the writer of a switch that turns checkpointing of every layer on, or off."""

    def write(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> Keys:
        change = before.activation_checkpointing, after.activation_checkpointing
        if change not in (("none", "full"), ("full", "none")):
            raise CannotEdit("only none -> full and back is written")
        return {name: (after.activation_checkpointing == "full") is not turns_off}

    return write


def liger_key(name: str) -> FieldWriter:
    """Return the writer of the switch of Liger's kernels, its loss among them."""

    def write(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> Keys:
        if after.loss != "fused_linear":
            raise CannotEdit("Liger's loss is the only other one")
        return {name: True}

    return write


def bnb_keys(before: LaunchPlan, after: LaunchPlan, bits: str, kind: str, double: str) -> Keys:
    """Return the keys of a base that bitsandbytes is to pack: its bits, its kind and what keeps its scales whole."""
    quantized = after.base_quantization
    if quantized == before.base_quantization:
        return {}
    if quantized is None or before.base_quantization is not None:
        raise CannotEdit("only an unquantized base is quantized")
    keys: dict[str, Any] = {bits: 8 if quantized.scheme == "int8" else 4}
    if quantized.scheme == "fp4":
        keys[kind] = "fp4"
    if not quantized.double_quant and quantized.scheme != "int8":
        keys[double] = False
    return keys


def new_adapter(before: LaunchPlan, after: LaunchPlan) -> Adapter | None:
    """Return the adapter that a launch is to get; None where it keeps its own."""
    if after.adapter is None:
        raise CannotEdit("an adapter is not taken away")
    if before.adapter == after.adapter:
        return None
    if before.adapter is not None or after.adapter.targets != "all-linear" or after.adapter.modules_to_save:  # fmt: skip
        raise CannotEdit("only a first adapter on all linear layers is written")
    return after.adapter


def sync_key(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> Keys:
    """Return the key that TrainingArguments gets for reducing in every micro step."""
    return {
        "accelerator_config.gradient_accumulation_kwargs.sync_each_batch": after.sync_each_batch
    }
