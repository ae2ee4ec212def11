"""Lengths that a launch names and at which nothing cuts its rows: how long these are is then not known."""

from __future__ import annotations

from dataclasses import replace

from preflight.bool_words import STRTOBOOL
from preflight.errors import Problem
from preflight.scripts.signs import Signs
from preflight.trainers.arguments import TrainerArguments

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
        why = f"rows are handed to the trainer as a tokenizer made them ({made.where})"
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
