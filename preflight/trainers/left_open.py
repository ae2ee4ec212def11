"""What a script leaves open when its values are joined with the rest: fields that only running it tells, and what they may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from preflight.errors import Problem
from preflight.formulas.objective import COMPARED, ONLINE
from preflight.launch import Adapter, Origin
from preflight.plan_choices import ONE_OF, OPEN_PARTS, OPEN_VALUES
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_spellings import ARGUMENT_OF
from preflight.setting import Place, Setting
from preflight.shell.starters.variables import deepspeed_variable, fsdp_variable
from preflight.trainers.fields import PlanFields
from preflight.trainers.hints import NEVER_GUESSED
from preflight.trainers.lookup import Given
from preflight.trainers.prepared_base import HAS_ADAPTER, PREPARED_BY_SCRIPT
from preflight.trainers.script_told import ASKS_TO_EVALUATE, DECIDES, OF_PAIRS

if TYPE_CHECKING:
    from preflight.scripts.settings.script_settings import Said, ScriptSettings

EVAL_ROWS = 8
"""per_device_eval_batch_size of TrainingArguments, in every release."""
OF_ONLINE = {
    "generation": "how completions are generated",
    "reference_model": "whether there is a reference model",
}
"""Plan field of online methods that only running tells -> what is then not priced; nothing in between has a bound."""
OF_THE_MODEL = ("adapter", "base_quantization", "load_dtype", "activation_checkpointing")
"""Plan fields that whoever builds the model decides."""


def settled(
    given: Given, fields: PlanFields, script: ScriptSettings, unread_arguments: Mapping[str, Place]
) -> Reading[PlanFields]:
    """Return the fields with what the script leaves open, and for the writer which flag sets what."""
    problems = Problems()
    flags = {
        DECIDES[name]: value.flag
        for name, value in script.arguments.items()
        if name in DECIDES and value.flag
    }
    read = problems.take(_unread(given, fields, unread_arguments))
    unread = {DECIDES[name]: place for name, place in read.items()}
    unsure = _with_doubted(given, fields, script, unread)
    if "open_arguments" in script.seen:
        unread.update({name: unsure[name] for name in NEVER_GUESSED if name in unsure})
    defaults = dict(fields.defaults)
    for plan_field, place in unsure.items():
        if plan_field in NEVER_GUESSED:
            defaults.pop(plan_field, None)
        elif plan_field in defaults:
            value, origin = defaults[plan_field]
            defaults[plan_field] = (value, Origin(origin.where, True, why_open(place)))
    asked = tuple(read)
    may_evaluate = {"open_arguments", "eval_dataset"} <= script.seen.keys()
    if may_evaluate and problems.take(given.find("eval_strategy")).setting is None:
        asked = (*asked, "eval_strategy")
        unsure.setdefault("eval_micro_batch_size", script.seen["open_arguments"])
    half_said = problems.take(_half_said(given, fields, asked, script.may_be))
    rows = problems.take(given.find("per_device_eval_batch_size")).setting
    if "eval_micro_batch_size" in half_said and "open_arguments" in script.seen and rows is None:
        half_said["eval_micro_batch_size"] = (EVAL_ROWS, OPEN_VALUES["eval_micro_batch_size"][-1])
    settings = dict(fields.settings)
    if "adapter" in half_said:
        taken, *others = half_said["adapter"]
        settings["adapter"] = replace(settings["adapter"], value=taken)
        half_said["adapter"] = tuple(others)
    for name in (each for each in ONE_OF if each in unsure and script.may_be.get(each)):
        if name not in settings or settings[name].place.kind == "default":
            half_said[name] = script.may_be[name]  # it has one of these, and no default
            settings[name] = Setting(script.may_be[name][0], unsure[name])
    parts = [OPEN_PARTS[name][0] for name in read if name in OPEN_PARTS]
    for place, names in _by_place(unread).items():
        if "adapter" in half_said and "adapter" in names:
            said = [name for name in names if name != "adapter"]
            names = [*said, *(f"adapter.{part}" for part in parts)]
        problems.append(_known_when_it_runs(place, names))
    mapped = script.device_map
    facts = replace(
        fields.script,
        flags=flags,
        unread={**fields.script.unread, **unsure},
        may_be=script.may_be,
        half_said=half_said,
        device_map=None if mapped is None else Setting(mapped.value, mapped.place),
        arguments_at=script.seen.get("trainer_arguments"),
        model_at=script.seen.get("model"),
        collator=script.seen.get("collator"),
        uncut_rows=script.seen.get("uncut_rows"),
        wrapped_checkpoints=script.seen.get("wrapped_checkpoints"),
        uncounted=script.uncounted,
        zero3_is_on_at_load=script.zero3_is_on,
        zero_init=script.zero_init,
    )
    fields = replace(
        fields,
        settings=settings,
        defaults=defaults,
        script=facts,
        environment=plugin_environment(script),
    )
    return Reading(fields, tuple(problems))


def _unread(
    given: Given, fields: PlanFields, unread: Mapping[str, Place]
) -> Reading[dict[str, Place]]:
    """Return the arguments that only running tells and that decide something here, with where they are set."""
    problems = Problems()
    objective = fields.value("objective")
    read: dict[str, Place] = {}
    for said, place in unread.items():
        name = said if said in DECIDES else ARGUMENT_OF.get(said, said)
        plan_field = DECIDES.get(name)
        of_online = (*ONLINE, "gkd") if plan_field == "generation" else ONLINE
        is_moot = (plan_field in OF_ONLINE and objective not in of_online) or (
            name in OF_PAIRS and objective not in COMPARED
        )
        if plan_field is None or is_moot:
            continue
        if problems.take(given.find(name)).setting is None:
            read.setdefault(name, place)
    return Reading(read, tuple(problems))


def _with_doubted(
    given: Given, fields: PlanFields, script: ScriptSettings, unread: Mapping[str, Place]
) -> dict[str, Place]:
    """Return the unread fields with those that what is not read may decide: a helper that makes the model, arguments
    from elsewhere."""
    unsure = dict(unread)
    helper = script.seen.get("built_elsewhere")
    if helper is None and given.has_trainer:
        helper = script.seen.get("no_trainer")
    if helper is not None:
        for name in OF_THE_MODEL:
            if name not in fields.settings:
                unsure.setdefault(name, helper)
    if script.engine is not None:
        unsure.update(script.engine.unread)
    if "open_arguments" in script.seen:
        for name in (*NEVER_GUESSED, "mixed_precision", "engine", *fields.defaults):
            if name not in fields.settings:
                unsure.setdefault(name, script.seen["open_arguments"])
    return unsure


def _half_said(
    given: Given,
    fields: PlanFields,
    names: tuple[str, ...],
    may_be: Mapping[str, tuple[object, ...]],
) -> Reading[dict[str, tuple[Any, ...]]]:
    """Return what else a field may be of which a part is known only when the script runs; of an adapter what it is taken
    for too, as the first."""
    problems = Problems()
    adapter = fields.settings.get("adapter")
    parts = [name for name in names if name in OPEN_PARTS]
    half_said: dict[str, tuple[Any, ...]] = {}
    if adapter is not None and parts:
        half_said["adapter"] = _ways(adapter.value, parts, may_be)
    base = fields.settings.get("base_quantization")
    if base is not None and {PREPARED_BY_SCRIPT, HAS_ADAPTER} & {*names}:
        others, _ = fields.unsure.get("base_quantization", ((), ""))
        wide = (replace(each, upcast_unquantized_to_fp32="all") for each in (base.value, *others))
        half_said["base_quantization"] = (*others, *wide)
    if {*ASKS_TO_EVALUATE} & {*names} and fields.value("eval_micro_batch_size") is None:
        rows = problems.take(given.find("per_device_eval_batch_size")).setting
        said = rows.value if rows is not None else EVAL_ROWS
        half_said["eval_micro_batch_size"] = (said if isinstance(said, int) else EVAL_ROWS,)
    return Reading(half_said, tuple(problems))


def why_open(place: Place) -> str:
    """Return in words why only running tells what is set at a place: a script's line, or a flag of the command."""
    if place.kind == "argv":
        return f"{place.key} is a word that only a shell knows"
    return f"{place.where} sets it to something known only when it runs"


def _known_when_it_runs(place: Place, names: list[str]) -> Problem:
    unpriced = next((OF_ONLINE[name] for name in names if name in OF_ONLINE), "")
    both = " and ".join(names)
    by_script = f"{place.document} sets {both} to something that is known only when it runs"
    return Problem.left_out(
        f"{why_open(place)}: {both}" if place.kind == "argv" else by_script,
        place.where,
        unpriced or ("how pairs are compared" if "objective" in names else ""),
        "either",
        f"say it with --set {names[0]}=VALUE",
        "PF121",
    )


def _ways(
    adapter: Adapter, parts: Iterable[str], may_be: Mapping[str, tuple[object, ...]]
) -> tuple[Adapter, ...]:
    """Return what an adapter may be where some of its parts are not known: as it is and at the dearest of each, or with
    one of those that the script has for it."""
    ways = [adapter]
    for name in parts:
        part, dearest = OPEN_PARTS[name]
        values = may_be.get(name) or (getattr(adapter, part), dearest)
        edits: list[dict[str, Any]] = [{part: value} for value in values]
        ways = [replace(way, **edit) for edit in edits for way in ways]
    return tuple(ways)


def _by_place(unread: dict[str, Place]) -> dict[Place, list[str]]:
    places: dict[Place, list[str]] = {}
    for name, place in unread.items():
        key = place if place.kind == "argv" else Place("script", place.document, "", place.line)
        places.setdefault(key, []).append(name)
    return places


def plugin_environment(script: ScriptSettings) -> dict[str, Setting]:
    """Return a script's own variables, and the plugin of FSDP or DeepSpeed that it makes as those that it stands for.

    A plugin handed to Accelerator turns its engine on whatever launches it (accelerate/accelerator.py, 1.15).
    """
    environment = dict(script.environment)
    if "fsdp_plugin" in script.seen:
        environment["ACCELERATE_USE_FSDP"] = Setting("true", script.seen["fsdp_plugin"])
        for name, said in script.fsdp_plugin.items():
            environment |= _as_variable(fsdp_variable(name), said)
    if script.deepspeed_plugin is not None:
        environment["ACCELERATE_USE_DEEPSPEED"] = Setting("true", script.seen["deepspeed_plugin"])
        for name, said in script.deepspeed_plugin.items():
            environment |= _as_variable(deepspeed_variable(name) or "", said)
    return environment


def _as_variable(name: str, said: Said) -> dict[str, Setting]:
    value = said.value
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, (list, tuple)):
        value = ",".join(map(str, value))
    if isinstance(value, dict):  # a config in place of a file's path
        return {name: Setting(value, said.place)}
    return {name: Setting(str(value), said.place)} if isinstance(value, (str, int, float)) else {}
