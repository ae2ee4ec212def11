"""Writing a torchtitan launch back: `--section.key value` behind the script, which beats file and Python config."""

from __future__ import annotations

from typing import Any

from preflight.errors import BadInput
from preflight.formats.edits import CannotEdit
from preflight.launch import LaunchPlan
from preflight.launchers.torchtitan.table import MODULE_VERSION
from preflight.rewrite import Rewrite
from preflight.writers import engine as write_engine
from preflight.writers.draft import LaunchDraft, open_draft
from preflight.writers.finish import finish
from preflight.writers.launch import changed_fields

WRITABLE = {
    "activation_checkpointing", "micro_batch_size", "gradient_accumulation_steps", "seq_len", "reshard_after_forward",
    "offload_params", "offload_optimizer", "torch_compile", "loss", "expandable_segments",
}  # fmt: skip
MODES = {
    "none": ("none", None),
    "full": ("full", None),
    "selective_op": ("selective", "op"),
    "selective_every_2": ("selective", "2"),
}
LOSSES = {True: "compiled_ce", False: "full_logits"}
"""What is compiled -> the loss that is compiled with it, or not."""
RESHARD: dict[Any, str] = {True: "always", False: "never", "default": "default"}


def write_torchtitan(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless every changed field can be said."""
    draft, changed = open_draft(before), changed_fields(before, after)
    if draft is None or not changed <= WRITABLE:
        return None
    version = str(draft.part.own)
    if not version:
        return None  # a checkout's own keys
    try:
        for key, value in _keys(changed, after, version).items():
            _set(draft, key, value)
        if "expandable_segments" in changed:
            write_engine.write_expandable_segments(draft, before, after)
        # A subcommand of tyro ends the flags of its parent: it stays last.
        if version == MODULE_VERSION and "activation_checkpointing" in changed:
            _subcommand(draft, after)
        return _with_subcommand_last(draft)
    except (CannotEdit, BadInput):
        return None


def _keys(changed: set[str], after: LaunchPlan, version: str) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if changed & {"micro_batch_size", "gradient_accumulation_steps"}:
        if after.micro_batch_size is None or after.global_batch_size is None:
            raise CannotEdit("micro_batch_size cannot be unknown")
        keys["training.local_batch_size"] = after.micro_batch_size
        keys["training.global_batch_size"] = after.global_batch_size
    if "seq_len" in changed:
        if after.seq_len is None:
            raise CannotEdit("seq_len cannot be unknown")
        keys["training.seq_len"] = after.seq_len
    if "reshard_after_forward" in changed:
        if after.reshard_after_forward is None:
            raise CannotEdit("it cannot be unknown")
        keys["parallelism.fsdp_reshard_after_forward"] = RESHARD[after.reshard_after_forward]
    if changed & {"offload_params", "offload_optimizer"}:
        if (after.offload_params, after.offload_optimizer) != ("cpu", "cpu"):
            raise CannotEdit("one switch moves both")
        keys["training.enable_cpu_offload"] = True
    if changed & {"torch_compile", "loss"}:
        if after.loss in LOSSES.values() and after.loss != LOSSES[bool(after.torch_compile)]:
            raise CannotEdit("one switch compiles the model and its loss")
        if "torch_compile" not in changed:
            raise CannotEdit("no flag names a loss")
        name = "training.compile" if version == "0.1.0" else "compile.enable"
        keys[name] = after.torch_compile
    if "activation_checkpointing" in changed and version != MODULE_VERSION:
        mode, option = MODES[after.activation_checkpointing]
        keys["activation_checkpoint.mode"] = mode
        if option is not None:
            keys["activation_checkpoint.selective_ac_option"] = option
    return keys


def _set(draft: LaunchDraft, key: str, value: Any) -> None:
    index = draft.part.overrides.get(key)
    section, _, name = key.rpartition(".")
    if isinstance(value, bool):
        words = [f"--{section}.{name if value else f'no-{name}'}"]
    else:
        words = [f"--{key}", str(value)]
    if index is None:
        draft.script_additions.append(words)
    else:
        draft.replace(draft.flag_at(index), words)


def _subcommand(draft: LaunchDraft, after: LaunchPlan) -> None:
    mode, option = MODES[after.activation_checkpointing]
    if option == "2":
        raise CannotEdit("0.3 has no checkpointing of every second layer")
    word = f"activation-checkpoint:{mode}"
    index = draft.part.overrides.get("activation_checkpoint.mode")
    if index is None:
        draft.script_additions.append([word])
    else:
        draft.words[index] = [word]
        draft.touched.append((index, index + 1))


def _with_subcommand_last(draft: LaunchDraft) -> Rewrite:
    index = draft.part.overrides.get("activation_checkpoint.mode")
    is_subcommand = index is not None and not draft.argv[index].startswith("--")
    if is_subcommand and draft.script_additions:
        if index != len(draft.argv) - 1:
            raise CannotEdit("flags of the subcommand follow it")
        word, draft.words[index] = draft.words[index], []
        draft.script_additions.append(word)
    return finish(draft)
