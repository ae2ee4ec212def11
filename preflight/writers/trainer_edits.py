"""Writing a training script's arguments back: to the flags that are there, to the argument file, or as new flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.formats.argv_edits import Occurrence
from preflight.formats.document import has_key, value_at
from preflight.formats.edits import CannotEdit, NotInRelease
from preflight.launch import LaunchPlan
from preflight.lazy_pattern import lazy_pattern
from preflight.plan_choices import HF_TRAINERS
from preflight.setting import Place
from preflight.trainers.releases import lacked_by
from preflight.values import dataclass
from preflight.writers.draft import LaunchDraft

_PARSERS = lazy_pattern(r"\b(?:HfArgumentParser|TrlParser)\b")
_MODEL_ARGUMENTS = lazy_pattern(r"\bModelConfig\b")


@dataclass(frozen=True)
class NestedTarget:
    """A JSON value that a trainer argument holds or names: --fsdp_config, --deepspeed, --accelerator_config."""

    value: Mapping[str, Any]
    flag: Occurrence | None = None
    """Where the JSON stands in the command line itself."""
    path: str = ""
    """The file that holds it."""
    prefix: str = ""
    """The section of that file; empty where it is the whole file."""

    def get(self, key: str) -> Any:
        """Return the value of a dotted key, or None."""
        return value_at(self.value, key)

    def has(self, key: str) -> bool:
        return has_key(self.value, key)

    def set(self, draft: LaunchDraft, key: str, value: Any) -> None:
        """Write a dotted key."""
        if self.flag is not None:
            draft.edit_inline_json(self.flag, key, value)
        else:
            draft.edit(self.path, f"{self.prefix}.{key}" if self.prefix else key, value)


def script_text(draft: LaunchDraft) -> str:
    """Return the training script's text; empty where it cannot be read from here."""
    words = draft.argv[draft.script_index : draft.script_index + 1]
    for word in words:
        path = draft.command.script_file(word)
        if draft.command.exists(path):
            return draft.command.readable_text(path)
    return ""


def takes_trainer_flags(draft: LaunchDraft, plan: LaunchPlan) -> bool:
    """Tell whether the script hands its command line to transformers' or TRL's parser."""
    if plan.trainer not in HF_TRAINERS:
        return False
    if draft.plan.script_facts.is_of_library:
        return True
    text = script_text(draft)
    # Without a text the trainer was told by its flags: then the script takes them.
    return not text or bool(_PARSERS.search(text))


def sets_trainer_arguments(draft: LaunchDraft, plan: LaunchPlan) -> bool:
    """Tell whether an argument of the trainer can be added: as a flag, or as an edit of the script that is told."""
    return takes_trainer_flags(draft, plan) or (
        draft.tells_arguments and plan.trainer in HF_TRAINERS
    )


def takes_model_flags(draft: LaunchDraft, plan: LaunchPlan) -> bool:
    """Tell whether the script reads TRL's ModelConfig, the home of the adapter's and quantization's flags."""
    if plan.trainer != "trl" or not takes_trainer_flags(draft, plan):
        return False
    text = script_text(draft)
    return draft.plan.script_facts.is_of_library or not text or bool(_MODEL_ARGUMENTS.search(text))


def places_of(draft: LaunchDraft, plan_field: str) -> tuple[Place, ...]:
    """Return every place that states a plan field, the deciding one first."""
    return draft.places.get(plan_field, ())


def flags_of(
    draft: LaunchDraft, names: tuple[str, ...], plan_field: str, takes_many: bool = False
) -> list[Occurrence]:
    """Return where the script is given an argument, under any of its names or the user's abbreviation."""
    found = draft.script_flags(*names, takes_many=takes_many)
    known = {occurrence.index for occurrence in found}
    for place in places_of(draft, plan_field):
        index = place.index
        if place.kind == "argv" and index is not None and index > draft.script_index:
            if index not in known:
                found.append(draft.flag_at(index))
            known.add(index)
    return found


def file_keys_of(draft: LaunchDraft, names: tuple[str, ...], plan_field: str) -> list[str]:
    """Return the keys of the argument file that give an argument."""
    path = draft.role("trainer")
    if path is None:
        return []
    document = draft.document(path)
    keys = [name for name in names if (name,) in document.marks]
    keys += [
        place.key
        for place in places_of(draft, plan_field)
        if place.kind in ("yaml", "json") and place.document == path and place.key not in keys
    ]
    return keys


def is_given(draft: LaunchDraft, names: tuple[str, ...], plan_field: str = "") -> bool:
    """Tell whether anybody gave an argument."""
    return bool(flags_of(draft, names, plan_field) or file_keys_of(draft, names, plan_field))


def set_argument(
    draft: LaunchDraft,
    plan: LaunchPlan,
    name: str,
    value: Any,
    aliases: tuple[str, ...] = (),
    plan_field: str = "",
    may_add: bool | None = None,
) -> None:
    """Give the script another value of an argument, wherever it is given now; add it where it is not.

    A flag beats the argument file, so the file is edited only where no flag says it.
    """
    names = (name, *aliases)
    is_list = isinstance(value, (list, tuple))
    flags = flags_of(draft, names, plan_field, takes_many=is_list)
    keys = file_keys_of(draft, names, plan_field)
    path = draft.role("trainer")
    if flags:
        for occurrence in flags:
            draft.write_flag(occurrence, value)
    elif keys and path is not None:
        for key in keys:
            draft.edit(path, key, list(value) if is_list else value)
    elif _add_declared_flag(draft, plan_field, value):
        pass
    elif said := [place for place in places_of(draft, plan_field)[:1] if place.kind == "script"]:
        draft.edit_script(said[0], f"{said[0].key or name}={value!r}", "value")
    elif lacking := lacked_by(plan, name):
        raise NotInRelease(f"{lacking} has no {name}")
    elif not (sets_trainer_arguments(draft, plan) if may_add is None else may_add):
        raise CannotEdit(f"the script does not take --{name}")
    elif not takes_trainer_flags(draft, plan):
        draft.edit_script(plan.script_facts.arguments_at, f"{name}={value!r}")
    elif path is not None and draft.reads_only_a_file:
        # With a flag beside it the script would take the file for no argument file at all.
        draft.edit(path, (name,), list(value) if is_list else value)
    else:
        draft.add_script_flag(name, value)


def _add_declared_flag(draft: LaunchDraft, plan_field: str, value: Any) -> bool:
    """Add the script's own flag for a value that its parser has a default for; tell whether there is one."""
    flag = draft.plan.script_facts.flags.get(plan_field, "")
    if not flag:
        return False
    if not flag.endswith("?"):
        draft.add_script_flag(flag, value)
    elif value is True:
        draft.add_script_switch(flag.rstrip("?"))
    else:
        raise CannotEdit(f"--{flag.rstrip('?')} can only be turned on")
    return True


def nested_target(draft: LaunchDraft, name: str) -> NestedTarget | None:
    """Return the JSON behind an argument: in the flag, in a file it names, or in the argument file; None if not given."""
    flags = draft.script_flags(name)
    if flags:
        flag = flags[-1]
        if flag.value is None:
            return None
        if flag.value.lstrip().startswith("{"):
            return NestedTarget(draft.inline_json(flag), flag=flag)
        return _file_target(draft, flag.value)
    path = draft.role("trainer")
    if path is None:
        return None
    value = draft.document(path).get((name,))
    if isinstance(value, Mapping):
        return NestedTarget(value, path=path, prefix=name)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        raise CannotEdit(f"{name} is JSON inside a text")
    return _file_target(draft, value) if isinstance(value, str) else None


def _file_target(draft: LaunchDraft, path: str) -> NestedTarget | None:
    if not draft.command.exists(path):
        return None
    return NestedTarget(draft.document(path).value, path=path)


def deepspeed_target(draft: LaunchDraft) -> NestedTarget | None:
    """Return the DeepSpeed JSON of the launch, whoever names it; None where the launcher's keys make it."""
    target = nested_target(draft, "deepspeed")
    if target is not None:
        return target
    path = draft.role("deepspeed")
    return None if path is None else _file_target(draft, path)
