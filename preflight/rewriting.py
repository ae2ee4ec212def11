"""Reading a launch and writing it back: a rewrite counts only if it reads as the plan that it was made for."""

from __future__ import annotations

from dataclasses import replace

from preflight.errors import BadInput
from preflight.formats.load import refuse_long
from preflight.formulas.layers.attention import is_of_class
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.plugin_manager import PluginManager
from preflight.request import is_override
from preflight.rewrite import Rewrite


def read_launch(command: LaunchCommand, plugins: PluginManager) -> LaunchPlan | None:
    """Return the plan of a launch, through srun, env, bash -c and the like; None where no reader knows it."""

    for word in command.argv:
        refuse_long(word, f"the word {word[:40]}...")

    def read(one: LaunchCommand) -> LaunchPlan | None:
        plan: LaunchPlan | None = plugins.first("preflight_read_launch", command=one)
        return plan

    plan = read(command)
    if plan is None:
        from preflight.shell.starters.wrappers import read_behind

        plan = read_behind(command, read)
    return plan


def write_draft(before: LaunchPlan, after: LaunchPlan, plugins: PluginManager) -> Rewrite | None:
    """Write the launch back; None unless every change can be said. Good enough to offer, not to start."""
    rewrite: Rewrite | None = plugins.first("preflight_write_launch", before=before, after=after)
    if rewrite is not None and before.wrapping:
        from preflight.shell.starters.layers import rewrapped

        return rewrapped(rewrite, before.wrapping)
    return rewrite


def write_checked(before: LaunchPlan, after: LaunchPlan, plugins: PluginManager) -> Rewrite | None:
    """Write the launch back, read the result again, and return it only if it gives the edited plan."""
    return _as_wanted(write_draft(before, after, plugins), before, after, plugins)


def write_with_copy(
    before: LaunchPlan, after: LaunchPlan, plugins: PluginManager
) -> Rewrite | None:
    """Do as `write_checked`, with a copy of the training script where nothing else can say a change."""
    rewrite = write_checked(before, after, plugins)
    if rewrite is not None:
        return rewrite
    from preflight.writers.launch import write_with_script

    rewrite = write_with_script(before, after)
    if rewrite is not None and before.wrapping:
        from preflight.shell.starters.layers import rewrapped

        rewrite = rewrapped(rewrite, before.wrapping)
    return _as_wanted(rewrite, before, after, plugins)


def _as_wanted(
    rewrite: Rewrite | None, before: LaunchPlan, after: LaunchPlan, plugins: PluginManager
) -> Rewrite | None:
    """Return a rewrite only if it reads as the edited plan."""
    if rewrite is None or before.command is None:
        return rewrite
    whole = before.wrapping[0].command if before.wrapping else before.command
    try:
        again = read_launch(rewritten_command(whole, rewrite), plugins)
    except BadInput:
        return None  # the launcher refuses what an edit makes of its other settings
    if again is None or differing_fields(again, after, before):
        return None
    return replace(rewrite, plan=_in_other_releases(again, after, before))


def _in_other_releases(again: LaunchPlan, after: LaunchPlan, before: LaunchPlan) -> LaunchPlan:
    """Return the edited plan with what the re-read launch is in other releases, where a flag may be read another way.

    What `--set` or the model's class decided is so in all of them.
    """
    decided = {name for name, origin in before.origins.items() if _is_in_no_launch(origin)}
    readings = tuple(
        replace(each, fields={n: v for n, v in each.fields.items() if n not in decided})
        for each in again.version_readings
    )
    return replace(after, version_readings=readings)


def rewritten_command(command: LaunchCommand, rewrite: Rewrite) -> LaunchCommand:
    """Return the command that a rewrite starts, with its files in the overlay."""
    overlay = {**command.overlay, **{file.new_path: file.after for file in rewrite.files}}
    return replace(command, argv=rewrite.argv, env={**command.env, **rewrite.env}, overlay=overlay)


def differing_fields(again: LaunchPlan, after: LaunchPlan, before: LaunchPlan) -> tuple[str, ...]:
    """Return the fields of a re-read rewrite that are not as edited.

    A field that `--set`, `--dataset` or the model's class decided is not in the launch, so it is
    compared only where a remedy edited it.
    """
    overridden = {name for name, origin in before.origins.items() if _is_in_no_launch(origin)}
    left, right, old = again.to_dict(), after.to_dict(), before.to_dict()
    return tuple(
        name
        for name in right
        if left[name] != right[name]
        # An adapter brings peft: what is installed is not what is asked for; who writes checkpointing
        # chooses its kind; a node's memory is in no launch; and what ZeRO-3 does with the script's model is told only
        # under ZeRO-3.
        and name not in ("versions", "checkpointing_reentrant", "host_memory_gib", "zero_init")
        and not (name in overridden and old[name] == right[name])
    )


def _is_in_no_launch(origin: Origin) -> bool:
    """Tell whether `--set`, `--dataset` or the model's class decided a field."""
    return is_override(origin) or is_of_class(origin)
