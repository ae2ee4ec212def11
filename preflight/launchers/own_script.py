"""What a script of somebody's own speaks of, taken into a plan, and lengths at which nothing cuts its rows: a library's script
needs none of it."""

from __future__ import annotations

from dataclasses import replace

from preflight import unpriced_names as unpriced
from preflight.bool_words import STRTOBOOL
from preflight.engines.own_deepspeed import own_initialize
from preflight.errors import Problem
from preflight.launch import Origin
from preflight.launchers.making import Making
from preflight.launchers.not_read import (
    EVALUATE,
    does_not_train,
    files_nobody_read,
    is_not_asked_to_train,
    settings_of_published,
)
from preflight.launchers.step_losses import (
    beside_scorer,
    doubts_of,
    priced_scorer,
    priced_step,
    settings_of_step,
)
from preflight.launchers.undecided import (
    left_out,
    undecided,
    with_replaced_attention,
    without_gathers,
)
from preflight.scripts.signs import Signs, unread
from preflight.setting import Place, Setting
from preflight.shell.starters.variables import is_on
from preflight.trainers.arguments import TrainerArguments
from preflight.trainers.frozen_parts import has_adapter
from preflight.trainers.own_towers import beside_projector, counted_composites, with_tower


def take_what_the_script_holds(making: Making) -> None:
    """Take what a script of somebody's own speaks of: fields that it may set, what nobody prices, rows that nothing cuts."""
    command, part, fields = making.command, making.part, making.fields
    script = command.argv[part.script_index] if part.script_index < len(command.argv) else ""
    signs = _signs_of(making, script)
    trainer = with_tower(making.trainer, signs.llava_classes)
    published = settings_of_published(script, trainer)
    trainer = replace(trainer, settings={**published, **trainer.settings})
    for name, setting in published.items():
        fields.setdefault(name, setting)
    if trainer.script.tower is not None and "adapter" in making.origins:
        making.origins["adapter"] = beside_projector(making.origins["adapter"])
    ranks, num_ranks = making.origins.get("world_size"), fields.get("world_size")
    own_engine = own_initialize(command, part.script_index)
    has_open_ranks = ranks is not None and bool(ranks.may_be)
    making.origins.update(undecided(trainer, fields, signs.fields, own_engine, has_open_ranks))
    making.origins.update(with_replaced_attention(fields, making.origins, signs.attention))
    is_alone = num_ranks is None or num_ranks.value == 1
    held = {k: v for k, v in signs.unpriced.items() if k != unpriced.REPLICAS or is_alone}
    if "zero_grad_set_to_none" in fields:
        held.pop(unpriced.GRADIENTS_STAY, None)
    if is_on(trainer.environment, "ACCELERATE_USE_PARALLELISM_CONFIG"):
        held = {name: place for name, place in held.items() if name not in unpriced.OF_PARALLELISM}
    origin = making.origins.get("engine")
    engine = fields.get("engine")
    held = without_gathers(held, engine, origin, has_open_ranks)
    uncounted = without_gathers(trainer.script.uncounted, engine, origin, has_open_ranks)
    trainer = replace(trainer, script=replace(trainer.script, uncounted=uncounted))
    if unpriced.FROZEN in held and not has_adapter(trainer):
        frozen = _frozen_by_statements(trainer)
        if frozen is not None:
            held.pop(unpriced.FROZEN)
            trainer = replace(trainer, script=replace(trainer.script, frozen=frozen))
    if trainer.trainer in (None, "plain_loop") and signs.may_train:
        trainer = _as_the_loop_has_it(making, trainer, signs)
    if signs.divided is not None and num_ranks is not None and not has_open_ranks:
        held.pop(unpriced.DIVIDED, None)
        degree = Setting(num_ranks.value, signs.divided)
        trainer = replace(trainer, settings={**trainer.settings, "context_parallel_degree": degree})
        making.put("context_parallel_degree", degree)
    scorer = priced_scorer(trainer, signs.scorer)
    if scorer is not None:
        held = beside_scorer(held, scorer)
        trainer = trainer.without_uncounted([unpriced.adds_to_model(scorer.name)])
        objective = Setting("scored_pairs", scorer.place)
        trainer = _taken(making, trainer, "objective", objective)
    step = priced_step(trainer, signs.step_loss)
    if step is not None:
        of_step = unpriced.OF_STEP | ({unpriced.OUTPUTS} if step.asks_layers else frozenset())
        held = {k: v for k, v in held.items() if k not in of_step}
        for name, setting in settings_of_step(step).items():
            trainer = _taken(making, trainer, name, setting)
        if step.compares == "reference":
            trainer = trainer.without_uncounted([unpriced.SECOND_MODEL])
        if trainer.own is not None:
            making.problems = [p for p in making.problems if p.unpriced != str(trainer.own)]
    twice = [
        each.removesuffix(unpriced.MAKES).split()[-1]
        for each in held
        if each.endswith(unpriced.MAKES)
    ]
    trainer = trainer.without_uncounted([unpriced.adds_to_model(cls) for cls in twice])
    making.problems += left_out(trainer, held, making.problems)
    making.problems += () if step is None else doubts_of(step)
    trains_nothing = not signs.may_train and (trainer.trainer is None or signs.infers)
    if trains_nothing or script in EVALUATE:
        making.problems += (does_not_train(script),)
    unasked = is_not_asked_to_train(script, trainer) if signs.trains_if_asked else None
    making.problems += () if unasked is None else (unasked,)
    facts = replace(
        trainer.script,
        is_text_only=trainer.script.is_text_only or signs.is_text_only,
        step_loss=step,
        composites=counted_composites(trainer, signs.composites),
        towers_keep_outputs=signs.towers_keep_outputs,
        inputs_ask=signs.inputs_ask,
        without_scores={} if signs.attention is None else signs.attention.without_scores,
        caches_keys=signs.caches_keys,
    )
    making.trainer = replace(trainer, script=facts)
    uncut = never_cut(making.trainer, signs)
    if uncut is not None:
        making.problems += (uncut,)
        fields.pop("seq_len"), making.origins.pop("seq_len", None)
        making.trainer = without_length(making.trainer)
    known = (*fields.values(), *trainer.arguments.values(), *trainer.settings.values())
    making.problems += (*files_nobody_read(command, part, fields, known),)


def _signs_of(making: Making, script: str) -> Signs:
    """Return what a script speaks of; one that is not here does without the sixty modules that read it."""
    if not making.command.exists(making.command.script_file(script)):
        return unread(script)
    from preflight.scripts.read_signs import signs_of

    return signs_of(making.command, script, making.trainer.reader)


NEEDS_A_WORD = {"activation_checkpointing": "none", "mixed_precision": "no"}
"""Plan field that a flag or the launcher says -> what a loop has of it in whose text no word brings it about."""


def _as_the_loop_has_it(
    making: Making, trainer: TrainerArguments, signs: Signs
) -> TrainerArguments:
    """Return the arguments of a loop of somebody's own without what a flag or the launcher says and it never takes up."""
    fields = making.fields
    shares = fields.get("context_parallel_degree")
    if shares is not None and not signs.asks_shares and trainer.trainer == "plain_loop":
        # accelerate divides the weights all the same, and rows only in maybe_context_parallel (accelerator.py, 1.15)
        trainer = _taken(making, trainer, "context_parallel_degree", replace(shares, value=1))
    for name, nothing in NEEDS_A_WORD.items() if trainer.is_here else ():
        said = trainer.settings.get(name) if signs.takes_launchers else fields.get(name)
        if said is not None and said.place.kind != "script" and name not in signs.fields:
            trainer = _taken(making, trainer, name, replace(said, value=nothing))
    said = fields.get("activation_checkpointing")
    if signs.stays_in_evaluation and said is not None and said.value != "none":
        trainer = _taken(making, trainer, "activation_checkpointing", replace(said, value="none"))
        making.problems += (
            Problem(
                "nothing is checkpointed: from_pretrained leaves the model in evaluation, and nothing calls model.train()",
                said.place.where,
                "call model.train() before the loop",
                severity="warning",
            ),
        )
    elif signs.turns_to_evaluation is not None and said is not None and said.value != "none":
        reason = "a model that an epoch leaves in evaluation checkpoints nothing in the next"
        where = signs.turns_to_evaluation.where
        making.origins["activation_checkpointing"] = Origin(where, True, reason, ("none",))
    return trainer


def _taken(
    making: Making, trainer: TrainerArguments, name: str, setting: Setting
) -> TrainerArguments:
    """Return the arguments with a field as the script has it, whatever the launcher says of it."""
    making.put(name, setting)
    others = {each: said for each, said in making.engine.fields.items() if each != name}
    making.engine = replace(making.engine, fields=others)
    return replace(trainer, settings={**trainer.settings, name: setting})


def _frozen_by_statements(trainer: TrainerArguments) -> dict[str, Place] | None:
    """Return what statements of the script freeze; few scripts have any, and the rest do without the module."""
    from preflight.scripts.settings.frozen_statements import frozen_by_statements

    return None if trainer.reader is None else frozen_by_statements(trainer.reader)


OF_TOKENIZER = "model_max_length"
JOINS = ("data_flatten", "data_packing")
"""Flags under which a collator puts the rows of a batch behind each other and cuts none
(FlattenedDataCollatorForSupervisedDataset, QwenLM/Qwen3-VL qwen-vl-finetune/qwenvl/data/data_processor.py)."""


def never_cut(trainer: TrainerArguments, signs: Signs) -> Problem | None:
    """Return what to say of a length at which no row is cut; None where one may be."""
    length = trainer.settings.get("seq_len")
    if length is None:
        return None
    why = _of_tokenizer(trainer, signs) if _is_of_tokenizer(length.place.key) else ""
    collator = trainer.script.collator
    if trainer.trainer == "trl" and collator is not None and not signs.is_text_only:
        # of rows with images TRL cuts what its own collator makes (DataCollatorForVisionLanguageModeling, sft_trainer.py,
        # 1.16.0), and prepares nothing before
        why = f"TRL cuts no row that a collator of the script's own makes ({collator.where})"
    made = trainer.script.uncut_rows
    if made is not None and not why:
        maker = f"{made.key} gives them" if made.key else "a tokenizer made them"
        why = f"rows are handed to the trainer as {maker} ({made.where})"
    if not why:
        return None
    named = length.place.key or "max_length"
    return Problem(
        f"{named} {length.value} cuts nothing: {why}",
        length.place.where,
        "say how long the longest one is with --set seq_len=N",
        "PF121",
        "warning",
    )


def without_length(trainer: TrainerArguments) -> TrainerArguments:
    """Return what the script was told without the length of its rows, under other versions too."""
    settings = {name: each for name, each in trainer.settings.items() if name != "seq_len"}
    under = trainer.under
    if under is None:
        return replace(trainer, settings=settings)
    return replace(trainer, settings=settings, under=lambda others: without_length(under(others)))


def _is_of_tokenizer(key: str) -> bool:
    """Tell whether a length is what the script's tokenizer knows, which cuts nothing by itself."""
    return key.lstrip("-").replace("-", "_") == OF_TOKENIZER


def _of_tokenizer(trainer: TrainerArguments, signs: Signs) -> str:
    for name in JOINS:
        setting = trainer.raw.get(name)
        if setting is not None and STRTOBOOL.read(setting.value) is True:
            return f"{name} joins the rows of a batch as they are"
    if not signs.hands_length_on:
        return "no tokenizer of the script is given it"
    return "" if signs.cuts_rows else "neither the script nor what it imports here truncates a row"
