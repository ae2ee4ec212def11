"""Writing a launch back with other values: every changed plan field, in every place that states it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from preflight.errors import BadInput
from preflight.formats.edits import CannotEdit, NotInRelease
from preflight.launch import LaunchPlan
from preflight.rewrite import Rewrite, RewrittenFile
from preflight.writers import engine as write_engine
from preflight.writers import step as write_step
from preflight.writers import trainer as write_trainer
from preflight.writers.draft import LaunchDraft, open_draft
from preflight.writers.finish import finish, is_other, new_path
from preflight.writers.script_copy import copied_script
from preflight.writers.sharding import (
    OFFLOAD_FIELDS,
    SHARDING_FIELDS,
    STATE_FIELDS,
    write_context_parallel,
    write_offload,
    write_sharding,
    write_states,
)
from preflight.writers.trainer_edits import takes_trainer_flags

Writer = Callable[[LaunchDraft, LaunchPlan, LaunchPlan], None]

WRITERS: tuple[tuple[tuple[str, ...], Writer], ...] = (
    (("activation_checkpointing",), write_trainer.write_checkpointing),
    (("micro_batch_size", "gradient_accumulation_steps"), write_trainer.write_batch),
    (("seq_len",), write_trainer.write_seq_len),
    (("generation",), write_step.write_generation),
    (("eval_micro_batch_size",), write_step.write_evaluation_batch),
    (("optimizer", "optimizer_kernel"), write_trainer.write_optimizer),
    (("attention",), write_step.write_attention),
    (("loss", "kernels"), write_step.write_loss),
    (("offload_activations",), write_step.write_activation_offload),
    (("sync_each_batch",), write_trainer.write_sync_each_batch),
    (("adapter", "base_quantization", "load_dtype"), write_trainer.write_model_arguments),
    (SHARDING_FIELDS, write_sharding),
    (OFFLOAD_FIELDS, write_offload),
    (STATE_FIELDS, write_states),
    (("context_parallel_degree",), write_context_parallel),
    (("mixed_precision",), write_step.write_no_mixed_precision),
    (("deepspeed",), write_engine.write_deepspeed_sizes),
    (("expandable_segments",), write_engine.write_expandable_segments),
)
"""Plan fields -> what writes them together."""

NOT_OF_THE_LAUNCH = ("device", "cwd", "launcher", "versions")
"""Fields that say how preflight was asked or what is installed."""


def write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless every changed field can be written.

    Nothing is written to disk: the rewrite holds the copies.
    """
    return _written(open_draft(before), before, after)


def edits_by_hand(before: LaunchPlan, after: LaunchPlan) -> tuple[str, ...]:
    """Return the edits that give the plan `after` where some are of the training script, which a person makes.

    `train.py:7, in SFTConfig(...): gradient_checkpointing=True`, with the flags and files that change beside it; empty where a changed
    field cannot be told.
    """
    draft = open_draft(before, tells_script_edits=True)
    rewrite = _written(draft, before, after)
    if draft is None or rewrite is None or not draft.script_edits:
        return ()
    told: dict[str, list[str]] = {}
    for edit in draft.script_edits:
        told.setdefault(edit.where, []).append(edit.words)
    edits = [f"{where}: {', '.join(texts)}" for where, texts in told.items()]
    edits += [
        f"the command: {added or f'without {removed}'}" for removed, added in rewrite.argv_diff
    ]
    for file in rewrite.files:
        lines = file.diff.splitlines()[2:]
        changed = [line[1:].strip().rstrip(",") for line in lines if line[:1] == "+"]
        edits.append(f"{file.path}: {', '.join(changed)}")
    edits += [f"the environment: {name}={value}" for name, value in rewrite.env.items()]
    return tuple(edits)


def lacking_release(before: LaunchPlan, after: LaunchPlan) -> str:
    """Return the release in which the launch that gives the plan `after` would not start: `trl 0.16.0 has no ...`."""
    draft = open_draft(before, tells_script_edits=True)
    try:
        if draft is not None:
            _write(draft, before, after)
    except NotInRelease as lacking:
        return str(lacking)
    except (CannotEdit, BadInput):
        return ""
    return ""


def reads_trainer_flags(plan: LaunchPlan) -> bool:
    """Tell whether the launch's script hands its command line to the parser of its trainer."""
    draft = open_draft(plan)
    return draft is not None and takes_trainer_flags(draft, plan)


def write_with_script(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`, a copy of its training script among the files.

    None where the script needs no edit, where it cannot be told, or where a copy might do something else.
    """
    draft = open_draft(before, tells_script_edits=True)
    rewrite = _written(draft, before, after)
    if draft is None or rewrite is None or not draft.script_edits:
        return None
    script = draft.argv[draft.script_index]
    if any(file.path == script for file in rewrite.files):
        return None
    try:
        text, new = copied_script(draft.command, script, draft.script_edits)
    except CannotEdit:
        return None
    copy = RewrittenFile(
        script, new_path(draft, script, [f.new_path for f in rewrite.files]), text, new
    )
    while is_other(draft, copy):
        draft.taken.add(copy.new_path)
        copy = replace(copy, new_path=new_path(draft, script, [f.new_path for f in rewrite.files]))
    behind = sum(len(words) for words in draft.words[draft.script_index + 1 :])
    behind += sum(len(words) for words in draft.script_additions)
    at = len(rewrite.argv) - behind - 1
    if rewrite.argv[at] != script:
        return None
    argv = (*rewrite.argv[:at], copy.new_path_shown, *rewrite.argv[at + 1 :])
    return replace(rewrite, argv=argv, files=(*rewrite.files, copy))


def _written(draft: LaunchDraft | None, before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    if draft is None:
        return None
    changed = changed_fields(before, after)
    known = {name for names, _ in WRITERS for name in names}
    if not changed <= known:
        return None
    try:
        _write(draft, before, after)
        return finish(draft)
    except (CannotEdit, BadInput):
        # Bad input cannot come from the launch itself, which was read: an edit did not hold.
        return None


def _write(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    changed = changed_fields(before, after)
    for names, write in WRITERS:
        if changed & set(names):
            write(draft, before, after)


def changed_fields(before: LaunchPlan, after: LaunchPlan) -> set[str]:
    """Return the names of the plan fields that differ, or are open in the first alone."""
    return {
        field.name
        for field in fields(LaunchPlan)
        if field.compare
        and field.name not in NOT_OF_THE_LAUNCH
        and (
            getattr(before, field.name) != getattr(after, field.name)
            or (before.is_open(field.name) and not after.is_open(field.name))
        )
    }
