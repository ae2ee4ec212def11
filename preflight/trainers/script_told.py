"""Joins what a training script says itself with what its flags and its argument file say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from preflight.plan_choices import OPEN_PARTS
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_spellings import ALL_SPELLINGS, SPELLINGS
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import only_shell_knows
from preflight.trainers.argument_kinds import is_of_its_kind
from preflight.trainers.default_dtype import default_dtype
from preflight.trainers.generation import GENERATION_ARGUMENTS
from preflight.trainers.lookup import Given
from preflight.trainers.prepared_base import HAS_ADAPTER, PREPARED_BY_SCRIPT

if TYPE_CHECKING:
    from preflight.scripts.python.reader import ScriptReader
    from preflight.scripts.settings.script_settings import Said, ScriptSettings


OF_PAIRS = ("loss_type", "precompute_ref_log_probs", "padding_free")
"""Arguments of TRL's trainers for pairs that decide what they hold beside the policy."""
ASKS_TO_EVALUATE = ("eval_strategy", "do_eval", "eval_on_start", "calls_evaluation")
"""Arguments by any of which a script evaluates, and what its own call of that is noted as."""
DECIDES = {
    "model_name_or_path": "model",
    "per_device_train_batch_size": "micro_batch_size",
    "per_device_eval_batch_size": "eval_micro_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "seq_len": "seq_len",
    "target_len": "target_len",
    "gradient_checkpointing": "activation_checkpointing",
    "activation_checkpointing": "activation_checkpointing",
    "bf16": "mixed_precision",
    "fp16": "mixed_precision",
    "mixed_precision": "mixed_precision",
    **dict.fromkeys(("optim", "loop_optimizer"), "optimizer"),
    "max_grad_norm": "max_grad_norm",
    "keeps_outputs": "keeps_outputs",
    "zero_grad_set_to_none": "zero_grad_set_to_none",
    "dtype": "load_dtype",
    "attn_implementation": "attention",
    "use_peft": "adapter",
    **dict.fromkeys(OPEN_PARTS, "adapter"),
    "load_in_4bit": "base_quantization",
    "load_in_8bit": "base_quantization",
    **dict.fromkeys((PREPARED_BY_SCRIPT, HAS_ADAPTER), "base_quantization"),
    "packing": "sequence_kind",
    "torch_compile": "torch_compile",
    "use_liger_kernel": "loss",
    **dict.fromkeys(("deepspeed", "fsdp", "engine"), "engine"),
    "offload_optimizer": "offload_optimizer",
    "offload_params": "offload_params",
    **dict.fromkeys((*ASKS_TO_EVALUATE, "loop_eval_rows"), "eval_micro_batch_size"),
    **dict.fromkeys(OF_PAIRS, "objective"),
    "beta": "reference_model",
    "texts_per_row": "texts_per_row",
    "cached_rows": "cached_rows",
    **dict.fromkeys(GENERATION_ARGUMENTS, "generation"),
}
"""Argument that memory depends on -> the plan field that it decides."""

OF_ARGUMENTS = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "eval_strategy",
    "max_grad_norm",
    "optim",
    "bf16",
    "fp16",
    "gradient_checkpointing",
    "torch_compile",
)
"""Arguments that a Trainer takes of its arguments' object alone: where a script makes that itself, a flag of its own that has
such a name says nothing that is not handed on there."""

OF_MODEL_INIT = {
    "dtype": "dtype",
    "torch_dtype": "dtype",
    "attn_implementation": "attn_implementation",
}
"""Key of model_init_kwargs -> the argument that it beats."""


def script_told(
    given: Given, reader: ScriptReader, unread_file: Place | None
) -> ScriptSettings | None:
    """Return what the script says; None where that is nothing.

    `unread_file` is where it gives its parser a file that cannot be read from here.
    """
    from preflight.scripts.reading import read_script

    script = read_script(reader, given.told, given.kind.trainer in (None, "plain_loop"))
    if unread_file is not None:
        script.seen["open_arguments"] = unread_file
        for name in [name for name, said in script.arguments.items() if is_of_library(said.place)]:
            del script.arguments[name]  # the file may say another
    _note_changed(given, reader, script)
    told = (
        script.arguments or script.seen or script.unread or script.uncounted or script.environment
    )
    return script if told or script.engine is not None else None


def _note_changed(given: Given, reader: ScriptReader, script: ScriptSettings) -> None:
    """Leave open what a script sets to something else after it was told it, and that nothing else tells of it."""
    said = {**given.others, **given.known}
    names = {name for name in said if name in ALL_SPELLINGS and said[name].place.kind != "script"}
    if not names or not (
        reader.evaluator.changed_attributes
        or reader.evaluator.updates
        or reader.named("replace", "Namespace")
    ):
        return
    from preflight.scripts.python.parsed_options import changed_options  # few change any

    changed = changed_options(reader, {name: said[name].value for name in names})
    for argument, spellings in SPELLINGS.items() if changed else ():
        place = next((changed[each] for each in spellings if each in changed), None)
        if place is not None and argument not in script.arguments:
            script.doubt(argument, place)
            script.set_later.add(argument)


def is_of_library(place: Place) -> bool:
    """Tell whether a value is a library's default of a field that a script's class has from it."""
    return place.kind == "script" and not place.document


def with_script(given: Given, script: ScriptSettings) -> Reading[tuple[Given, Mapping[str, Place]]]:
    """Return what was given with the script's own values, and where it sets what cannot be read.

    Its values win, but a default of its parser does not.
    """
    problems = Problems()
    unread = dict(script.unread)
    later = [name for name in script.set_later if name in unread]
    given = given.without(later)
    if "all_arguments" in script.seen and "open_arguments" not in script.seen:
        given = given.without(_taken_of_arguments(given, script))
    known = dict(given.known)
    for name, said in script.arguments.items():
        if said.left_out:
            unread.setdefault(name, said.place)
        of_config = _unread_of_config(name, said)
        if of_config is None or not is_of_its_kind(name, said.value, given.table):
            unread.setdefault(name, said.place)
            continue
        unread |= of_config
        is_default = bool(said.flag) and said.place.kind == "script"
        if is_default and problems.take(given.find(name)).setting is not None:
            continue
        if said.value is None and name in known:
            continue
        known[name] = Setting(said.value, said.place)
    if "length_of_arguments" in script.seen and "seq_len" in script.arguments:
        for name in ("max_length", "max_seq_length"):  # a flag or a key of that name is another's
            known.pop(name, None)
    if "model_init_kwargs" in unread:
        held = script.arguments.get("model_init_kwargs")
        for key, name in OF_MODEL_INIT.items():
            if held is None or key in held.left_out:
                unread.setdefault(name, unread["model_init_kwargs"])
    if "no_attention" in script.seen and given.kind.loads_model:
        # The script loads its model without one: a flag of that name reaches nothing.
        for name in ("attn_implementation", "use_flash_attn"):
            if problems.take(given.find(name)).setting is not None:
                known[name] = Setting(None, script.seen["no_attention"])
    dtype = problems.take(given.find("dtype")).setting
    is_cast = "dtype" in unread or ("dtype" in known and known["dtype"].value is not None)
    if "no_dtype" in script.seen and not is_cast and (dtype is None or dtype.value is None):
        loaded = default_dtype(replace(given, known=known), is_by_trl=False)
        known["dtype"] = Setting(loaded.word, script.seen["no_dtype"])
    return Reading((replace(given, known=known).without(later), unread), tuple(problems))


def _taken_of_arguments(given: Given, script: ScriptSettings) -> list[str]:
    """Return the arguments that a script, which makes all of the Trainer's itself, leaves as they are: flags of such names
    reach other things."""
    if not given.has_trainer:
        return []
    names = OF_ARGUMENTS + (("seq_len", "packing") if given.kind.trainer == "trl" else ())
    return [name for name in names if name not in {*script.arguments, *script.unread}]


def words_of_shell(given: Given, script: ScriptSettings | None) -> tuple[Given, dict[str, Place]]:
    """Return what was given without words that only a shell knows, `$((BATCH / 8))`, in place of a number or a switch, and the
    arguments that decide something among them, where the script does not set them itself."""
    words = {
        name: setting.place
        for name, setting in (*given.others.items(), *given.known.items())
        if isinstance(setting.value, str)
        and only_shell_knows(setting.value)
        and not (name in given.known and is_of_its_kind(name, setting.value, given.table))
    }
    said = {} if script is None else script.arguments
    by_flag = [name for name in DECIDES if name not in said or said[name].flag]
    decides = {
        name: words[spelling]
        for name in by_flag
        for spelling in SPELLINGS.get(name, (name,))
        if spelling in words and name != "model_name_or_path"
    }
    known = {name: setting for name, setting in given.known.items() if name not in words}
    return replace(given, known=known).without(decides), decides


def _unread_of_config(name: str, said: Said) -> dict[str, Place] | None:
    """Return the plan fields that a DeepSpeed config leaves to running; None where that is the engine itself."""
    if name != "deepspeed" or not isinstance(said.value, dict):
        return {}
    from preflight.scripts.settings.script_settings import unread_of_deepspeed

    return unread_of_deepspeed(said)
