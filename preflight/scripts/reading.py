"""From the calls of a training script to the Trainer's argument names that the rest of the reader knows."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.dataclass_fields import is_dataclass
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import keyword_of, unparse
from preflight.scripts.python.options import field_names
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, FlagOf, Known
from preflight.scripts.settings.adapter_calls import beside_packed
from preflight.scripts.settings.by_call import (
    read_casts,
    read_checkpointing,
    read_compile,
    read_evaluation,
    read_optimizer,
    read_trainers_own,
)
from preflight.scripts.settings.collators import grown_collator, uncut_collator
from preflight.scripts.settings.deepspeed_plugin import deepspeed_plugin
from preflight.scripts.settings.engines_of_trainers import read_engines_of_trainers
from preflight.scripts.settings.fsdp_units import left_whole
from preflight.scripts.settings.gathered_outputs import read_gathered_outputs
from preflight.scripts.settings.handed_arguments import changed_arguments
from preflight.scripts.settings.lengths import read_length
from preflight.scripts.settings.liger_calls import read_liger
from preflight.scripts.settings.lightning_calls import read_lightning
from preflight.scripts.settings.lora_calls import read_adapter
from preflight.scripts.settings.made_and_given import is_given, is_loaded, never_made
from preflight.scripts.settings.model_calls import read_model
from preflight.scripts.settings.olmo_core import read_olmo_core
from preflight.scripts.settings.own_batches import read_batches
from preflight.scripts.settings.own_engine import own_engine
from preflight.scripts.settings.own_optimizer import read_own_optimizer
from preflight.scripts.settings.own_variables import read_own_variables
from preflight.scripts.settings.parameter_casts import read_parameter_casts
from preflight.scripts.settings.reward_calls import read_rewards
from preflight.scripts.settings.script_settings import (
    NUMBERS,
    OF_ARGUMENTS,
    OF_ROWS,
    Refused,
    ScriptSettings,
    said_of,
)
from preflight.scripts.settings.second_model import model_beside
from preflight.scripts.settings.sentence_calls import read_sentences
from preflight.scripts.settings.set_attributes import read_attention, read_attributes, read_targets
from preflight.scripts.settings.set_on_trainers import read_set_on_trainers
from preflight.scripts.settings.unread_trainers import unread_trainer
from preflight.scripts.settings.unsloth_calls import imports_unsloth, read_unsloth
from preflight.scripts.settings.vocabulary import note_vocabulary
from preflight.setting import Place
from preflight.unpriced_names import GROWN_BY_COLLATOR, ON_CPU, SECOND_MODEL
from preflight.versions.spans import classes_of

WORTH_READING = lazy_pattern(
    r"TrainingArguments\(|(?:SFT|DPO|GRPO|KTO|Reward|RLOO|Lora|BitsAndBytes)Config\(|from_pretrained\("
    r"|Accelerator\(|FullyShardedDataParallelPlugin\(|DeepSpeedPlugin\(|\bTrainer\(|TrainingArguments\)|EncoderTrainer\("
    r"|TransformerTrainer\("
    r"|TransformerTrainModule(?:Config)?\("
    r"|Fabric\(|Trainer\.from_argparse_args\(|DistributedDataParallel\(|\bDDP\(|\.backward\("
    r"|(?:HfArgument|Trl)Parser\(|\bFSDP\(|FullyShardedDataParallel\(|fully_shard\(|deepspeed\.initialize\(|\b(?:spawn|ScalingConfig)\("
)

QUANTIZATION = {
    "load_in_4bit": "load_in_4bit",
    "load_in_8bit": "load_in_8bit",
    "bnb_4bit_quant_type": "bnb_4bit_quant_type",
    "bnb_4bit_use_double_quant": "use_bnb_nested_quant",
    "bnb_4bit_compute_dtype": "bnb_4bit_compute_dtype",
    "bnb_4bit_quant_storage": "bnb_4bit_quant_storage",
}
QUANTIZATION_DEFAULTS = {"bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": "float32"}
"""transformers/utils/quantization_config.py, 5.24."""


def open_script(command: LaunchCommand, path: str, text: str) -> ScriptReader | None:
    """Return a script, loaded; None where nothing in it is worth reading or it is not Python that this Python can parse."""
    is_worth = WORTH_READING.search(text) is not None
    try:
        reader = ScriptReader(command, path, text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    # What a file calls may do all of it in the files that it imports.
    imported = (unparse(tree) for other, tree in reader.trees.items() if other != path)
    return reader if is_worth or any(map(WORTH_READING.search, imported)) else None


def read_script(reader: ScriptReader, flag_of: FlagOf, is_plain_loop: bool) -> ScriptSettings:
    """Return what a script says for a command line."""
    settings = ScriptSettings()
    try:
        reader.read(flag_of)
    except (ValueError, RecursionError):
        return settings
    for name, known in reader.trainer_defaults():
        if known.place.kind == "script":
            settings.put("seq_len" if name == "model_max_length" else name, known)
    elsewhere = reader.arguments_from_elsewhere()
    if elsewhere is not None:
        settings.seen["open_arguments"] = elsewhere
    _trainer_arguments(reader, settings)
    _named_model(reader, settings)
    read_trainers_own(reader, settings)
    changed = changed_arguments(reader)
    if changed is not None:
        settings.seen.setdefault("open_arguments", changed)
    read_attributes(reader, settings)
    read_adapter(reader, settings)
    read_targets(reader, settings)
    _quantization(reader, settings)
    read_model(reader, settings)
    read_attention(reader, settings)
    note_vocabulary(reader, settings)
    read_checkpointing(reader, settings)
    read_casts(reader, settings)
    read_parameter_casts(reader, settings)
    read_lightning(reader, settings)
    read_compile(reader, settings)
    read_liger(reader, settings, is_plain_loop)
    read_own_variables(reader, settings)
    read_optimizer(reader, settings)
    read_batches(reader, settings)
    read_engines_of_trainers(reader, settings)
    read_set_on_trainers(reader, settings)
    read_evaluation(reader, settings)
    read_gathered_outputs(reader, settings)
    read_rewards(reader, settings)
    _accelerator(reader, settings)
    if is_plain_loop:
        from preflight.scripts.loop import read_plain_loop  # a Trainer's script has none

        read_plain_loop(reader, settings)
        read_own_optimizer(reader, settings)
    read_length(reader, settings)
    if is_plain_loop and not {"seq_len", "per_device_train_batch_size"} <= {*settings.arguments}:
        from preflight.scripts.settings.made_rows import read_made_rows  # few make rows themselves

        read_made_rows(reader, settings)
    if not is_plain_loop:
        from preflight.scripts.uncounted.uncut_maps import (
            read_uncut_rows,  # loops make rows otherwise
        )

        read_uncut_rows(reader, settings)
    collator = uncut_collator(reader)
    if collator is not None:
        settings.seen["collator"] = collator
    grown = grown_collator(reader)
    if grown is not None:
        settings.uncounted[GROWN_BY_COLLATOR] = Uncounted(grown, "more")
    beside = model_beside(reader, settings.seen.get("model"), "model_by_name" in settings.seen)
    if beside is not None:
        settings.uncounted[SECOND_MODEL] = Uncounted(beside, "more")
    unread = unread_trainer(reader)
    if unread is not None:
        computes = f"what the trainer {unread[0]} computes"
        settings.uncounted[computes] = Uncounted(unread[1], "either")
    if read_unsloth(reader, settings) or read_sentences(reader, settings):
        settings.seen.pop("built_elsewhere", None)
    settings.uncounted.update(left_whole(reader))
    engine = read_olmo_core(reader, settings) or own_engine(reader)
    if engine.engines or engine.spawns is not None:
        settings.engine = engine
    return settings


def _trainer_arguments(reader: ScriptReader, settings: ScriptSettings) -> None:
    changing = reader.possible("set_defaults")
    for call in changing if reader.dataclass_parsers else ():
        for name, known in reader.keywords(call)[0].items():  # of the parser, where no flag says it
            settings.unread[name] = known.place
    calls = [*reader.trainer_calls(), *reader.unsure_trainer_calls()]
    if not calls:
        return
    settings.seen["trainer_arguments"] = reader.place(calls[0])
    settings.refused.update(_refused(reader))
    read = [reader.keywords(call) for call in calls]
    for name in dict.fromkeys(name for values, _ in read for name in values):
        said = [values[name] for values, _ in read if name in values]
        agree = len(said) == len(calls) and all(item.value == said[0].value for item in said)
        known = said[0] if agree else Known(UNKNOWN, said[0].place)
        is_length = name in OF_ROWS
        settings.put("seq_len" if is_length else name, known)
        if is_length:
            settings.seen[OF_ARGUMENTS] = known.place
    for name in {*NUMBERS} & {*settings.unread}:
        from preflight.scripts.settings.alternatives import note_numbers  # few choose when they run

        given = [(keyword_of(call.node, name), call.scope) for call in calls]
        note_numbers(reader, settings, name, given)
    for call in reader.possible("replace"):
        # dataclasses.replace: which of the arguments objects trains is then not known.
        for name, known in reader.keywords(call)[0].items():
            settings.put(settings.read_as(name), Known(UNKNOWN, known.place))
    if any(is_open for _, is_open in read) or any(len(call.node.args) > 1 for call in calls):
        settings.seen["open_arguments"] = reader.place(calls[0])
    elif not reader.parses_trainer_arguments():
        settings.seen["all_arguments"] = reader.place(calls[0])


def _named_model(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read the name that trainers are given in place of a model, whoever makes their arguments."""
    named = [_model_by_name(reader, call) for call in reader.calls if reader.makes_trainer(call)]
    models = [each for each in named if each is not None]
    if models and all(each.value == models[0].value for each in models):
        settings.put("model_name_or_path", models[0])
        if len(models) == len(named):
            settings.seen["model_by_name"] = models[0].place


def _model_by_name(reader: ScriptReader, call: CallFound) -> Known | None:
    """Return the name that a trainer of TRL's, or one that stands on it, is given in place of a model."""
    if not reader.makes_trainer(call) or not classes_of("trl") & reader.kinds_of(call):
        return None
    found = reader.keywords(call)[0].get("model")
    if found is None and call.node.args:
        found = reader.evaluator.evaluate(call.node.args[0], call.scope)
        found = Known(found.value, reader.place(call), found.flag)
    return found if found is not None and isinstance(found.value, str) else None


def _refused(reader: ScriptReader) -> dict[str, Refused]:
    """Return the keywords that a class of arguments does not have, of calls that surely run."""
    refused: dict[str, Refused] = {}
    is_patched = imports_unsloth(reader)
    for call in reader.trainer_calls():
        if is_patched and call.name != "TrainingArguments":
            continue  # it is a subclass that takes more
        held = reader.class_of(call.name, call.scope.path)
        if held is not None and not is_dataclass(held[0]):
            continue  # what its __init__ takes is its own
        taken = field_names(reader, call.node.func, call.scope.path) or frozenset()
        for keyword in call.node.keywords if taken else ():
            if keyword.arg is not None and keyword.arg not in taken:
                place = Place("script", call.scope.path, keyword.arg, keyword.value.lineno)
                refused[keyword.arg] = Refused(call.name, place, taken)
    return refused


def _quantization(reader: ScriptReader, settings: ScriptSettings) -> None:
    calls = [each for each in reader.named("BitsAndBytesConfig") if is_loaded(reader, each)]
    for found in reader.maybe("BitsAndBytesConfig"):
        settings.unread.setdefault("load_in_4bit", reader.place(found))
    for found in (*calls, *reader.maybe("BitsAndBytesConfig")):
        settings.uncounted.update(beside_packed(reader, found))
    if not calls:
        never_made(reader, settings, "BitsAndBytesConfig", "load_in_4bit")
        return
    place = reader.place(calls[0])
    settings.seen["quantization"] = place
    if len(calls) > 1:
        settings.unread["load_in_4bit"] = place
        return
    values, is_open = reader.keywords(calls[0])
    if is_open and not {"load_in_4bit", "load_in_8bit"} & set(values):
        settings.unread["load_in_4bit"] = place
    switches = [values[name] for name in ("load_in_4bit", "load_in_8bit") if name in values]
    if any(switch.value is True for switch in switches):
        for name, default in QUANTIZATION_DEFAULTS.items():
            settings.put(name, Known(default, place))
    for keyword, name in QUANTIZATION.items():
        if keyword in values:
            settings.put(name, values[keyword])


def _accelerator(reader: ScriptReader, settings: ScriptSettings) -> None:
    for found in reader.named("Accelerator"):
        settings.seen["accelerator"] = reader.place(found)
        values, is_open = reader.keywords(found)
        for name in ("mixed_precision", "gradient_accumulation_steps"):
            if name in values and values[name].value is not None:
                settings.put(name, values[name])
        if "cpu" in values and values["cpu"].value is True:
            settings.uncounted[ON_CPU] = Uncounted(values["cpu"].place, "either")
        for name in ("mixed_precision", "gradient_accumulation_steps", "engine") if is_open else ():
            settings.doubt(name, reader.place(found))
    for found in _plugins(reader, settings, "FullyShardedDataParallelPlugin", "fsdp_plugin"):
        settings.seen["fsdp_plugin"] = reader.place(found)
        values, _ = reader.keywords(found)
        told = {keyword: said_of(known) for keyword, known in values.items()}
        settings.fsdp_plugin |= {keyword: said for keyword, said in told.items() if said}
    for found in _plugins(reader, settings, "DeepSpeedPlugin", "deepspeed_plugin"):
        settings.seen["deepspeed_plugin"] = reader.place(found)
        settings.deepspeed_plugin = deepspeed_plugin(reader, found)
    if reader.named("ParallelismConfig"):
        from preflight.scripts.settings.parallelism_config import read_parallelism_config  # few

        read_parallelism_config(reader, settings)


def _plugins(
    reader: ScriptReader, settings: ScriptSettings, name: str, keyword: str
) -> list[CallFound]:
    """Return the plugins that are made and used; the engine is open where an Accelerator may be given none."""
    made = [found for found in reader.named(name) if is_loaded(reader, found)]
    for found in reader.named("Accelerator") if made else ():
        given = keyword_of(found.node, keyword)
        if given is not None and is_given(reader, given, found.scope) is not True:
            settings.unread.setdefault("engine", reader.place(found))
            return []
    return made
