"""How long rows are, and whether they are padded: TRL's max_length, packing and padding_free, release by release."""

from __future__ import annotations

from math import inf

from preflight.errors import Problem
from preflight.formulas.objective import GENERATED_PAIRS, ONLINE
from preflight.reading import Reading
from preflight.setting import Setting
from preflight.trainers.fields import FieldReader, PlanFields
from preflight.trainers.lookup import Given
from preflight.trainers.ppo import has_own_loop
from preflight.units import ceil_div
from preflight.versions.trl_pairs import (
    CUTS_PROMPTS_AT_512,
    DPO_CUTS_ANSWERS,
    DPO_HAS_PADDING_FREE,
    PRM_CUTS_PROMPTS,
)

MAX_LENGTH_DEFAULT = 1024
"""TRL's max_length, and the cap of max_seq_length before it (sft_config.py, 0.9 to 1.16)."""
PROMPT_DEFAULT = 512
NEW_TOKENS_OF_GKD = 128
BLOCK = "block_size"
"""A flag that says how long rows are in scripts of language models, and how many words a diffusion model writes at once."""
PAIRS = ("dpo", "kto", "orpo", "cpo", "bco")
"""Trainings on pairs of answers, or on answers that are labelled, with a length of their own."""


def read_sequence(given: Given) -> Reading[PlanFields]:
    """Return the length at which rows are cut, and whether they are padded."""
    fields = FieldReader(given)
    unprepared = _of_unprepared(fields) if given.kind.trl_script == "sft" else None
    if unprepared is not None:
        fields.assume("sequence_kind", "padded", "TRL prepares no rows", "trl")
        fields.problems.append(unprepared)
        return fields.reading()
    answers = fields.get("target_len", "target_len")
    counted = fields.positive("target_len", "target_len") if answers is not None else None
    if counted is not None:
        fields.put("target_len", counted.value, counted)
    setting = fields.get("seq_len", "seq_len")
    if given.kind.trl_script in ONLINE and setting is not None and BLOCK in setting.place.key:
        setting = None  # of what is generated at once, where rows are prompts with completions
    is_endless = setting is not None and (setting.value is None or _says_no_limit(given, setting))
    if setting is not None and is_endless and not _put_length(fields, None, None):
        said = "empty" if setting.value is None else setting.value
        fields.problems.append(
            Problem(
                f"{setting.place.key or 'the length'} is {said}: sequences are not cut, and the longest one is not known",
                setting.place.where,
                "say how long the longest one is with --set seq_len=N",
                severity="warning",
            )
        )
    elif setting is not None and not is_endless and given.kind.trl_script not in GENERATED_PAIRS:
        counted = fields.positive("seq_len", "seq_len")
        if counted is not None:
            least = 0
            is_named = setting.place.key.strip("-") == "model_max_length"
            if is_named and "seq_len" not in given.known and given.kind.trainer == "trl":
                # of the tokenizer, by its name: the trainer cuts where its own argument says
                least = _default_length(given) or 0
            _put_length(fields, max(counted.value, least), counted)
    elif not is_endless and given.kind.trainer == "trl" and _has_max_length(given):
        _put_length(fields, _default_length(given), None)
    if given.kind.trainer != "trl":
        packing = fields.get("packing", "sequence_kind")
        filled = fields.get("pads_each_row")
        if packing is not None and packing.value is True:
            fields.put("sequence_kind", "packed", packing)
        elif filled is not None and filled.value is True:
            fields.put("sequence_kind", "fixed", filled)
        return fields.reading()
    packing, free = fields.get("packing"), fields.get("padding_free")
    pairs_free = _puts_pairs_into_a_row(given)
    if pairs_free is False:
        free = None
    if packing is not None and packing.value is True:
        wrapped = fields.value("packing_strategy") == "wrapped"
        fields.put("sequence_kind", "fixed" if wrapped else "packed", packing)
    elif free is not None and free.value is True:
        fields.put("sequence_kind", "packed", free)
        if pairs_free is None and fields.value(
            "max_length", MAX_LENGTH_DEFAULT if fields.get("seq_len") is None else None
        ):
            fields.problems.append(
                Problem(
                    "padding_free without packing does not cut sequences at max_length; TRL refuses it",
                    free.place.where,
                    "add --packing true, or set max_length to null in an argument file",
                    "PF440",
                    "error" if given.versions.is_tabled("trl") else "warning",
                )
            )
    else:
        fields.assume("sequence_kind", "padded", "neither packing nor padding_free", "trl")
    return fields.reading()


def _put_length(fields: FieldReader, length: int | None, said: Setting | None) -> bool:
    """Record the length at which rows are cut, by a setting or by TRL's default, or that of their two halves if that is less;
    False where neither is known."""
    answer = fields.get("max_completion_length") if _cuts_answers(fields.given) else None
    count = None if answer is None else answer.value
    if isinstance(count, int) and not isinstance(count, bool) and 0 < count < (length or inf):
        prompt = _longest_prompt(fields)
        if prompt is not None and prompt + count < (length or inf):
            length, said = prompt + count, answer
        elif prompt is None and length is not None:
            # some answer is taken to reach half of its own cap, as some row is of a row's (search/longest.py)
            reason = f"answers are cut at {count} before, and prompts are whole"
            fields.leave_open("seq_len", (ceil_div(count, 2),), reason)
    if length is not None:
        stated = () if said is None else (said,)
        fields.decide("seq_len", _padded(fields, length), stated, "no --max_length", "trl")
    return length is not None


def _cuts_answers(given: Given) -> bool:
    """Tell whether TRL cuts answers by themselves, before it cuts rows: PRM wherever there is one, and DPO for some time."""
    if given.kind.trainer != "trl" or given.kind.trl_script not in ("dpo", "prm"):
        return False
    has = {"trl": given.versions.of("trl")}
    return given.kind.trl_script == "prm" or DPO_CUTS_ANSWERS.holds_in(has)


def _longest_prompt(fields: FieldReader) -> int | None:
    """Return the tokens that TRL leaves of a prompt, where it cuts answers; None where it cuts none."""
    has = {"trl": fields.given.versions.of("trl")}
    if fields.given.kind.trl_script == "prm" and not PRM_CUTS_PROMPTS.holds_in(has):
        return None
    said = fields.get("max_prompt_length")
    if said is None:
        return PROMPT_DEFAULT if CUTS_PROMPTS_AT_512.holds_in(has) else None
    is_count = isinstance(said.value, int) and not isinstance(said.value, bool) and said.value > 0
    return said.value if is_count else None


def _says_no_limit(given: Given, setting: Setting) -> bool:
    """Tell whether a length says that rows stay as they are: -1 or 0 in a script's own code, and less than 0 for TRL, whose
    parser takes it and whose slices count it from the end (sft_trainer.py:1441, 1.16.0)."""
    value = setting.value
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return (
        value < 1 if setting.place.kind == "script" else value < 0 and given.kind.trainer == "trl"
    )


def _padded(fields: FieldReader, length: int) -> int:
    """Return the length that TRL's collators pad the longest row to (trainer/utils.py pad, 0.17 to 1.16); Trainer's own
    have no such argument."""
    is_padded = fields.given.kind.trainer == "trl"
    given = str(fields.value("pad_to_multiple_of", "")) if is_padded else ""
    if fields.given.kind.trl_script == "gkd":
        # what is generated stands behind prompts that are cut there (gkd_config.py, 0.11.4 to 1.16.0)
        said = fields.positive("max_new_tokens", "generation")
        length += NEW_TOKENS_OF_GKD if said is None else said.value
    multiple = int(given) if given.isdecimal() else 0  # `auto` is none on a GPU
    return ceil_div(length, multiple) * multiple if multiple else length


def _has_max_length(given: Given) -> bool:
    """Tell whether TRL's own max_length is there: SFT's trainer gives it to plain TrainingArguments too."""
    if has_own_loop(given) or given.kind.trl_script in GENERATED_PAIRS:
        return False  # what it cuts there are answers to prompts that are whole
    return "max_length" in given.table.arguments or given.kind.trl_script == "sft"


def _default_length(given: Given) -> int | None:
    """Return TRL's length where nobody says one; None where nothing is cut then."""
    script = given.kind.trl_script
    if script not in PAIRS:
        return MAX_LENGTH_DEFAULT
    name = "max_length of dpo" if script == "dpo" else "max_length of pairs"
    length: int | None = given.versions.default("trl", name)
    return length


def _puts_pairs_into_a_row(given: Given) -> bool | None:
    """Tell whether padding_free does anything for pairs of answers; None for another training."""
    if given.kind.trl_script == "dpo":
        return DPO_HAS_PADDING_FREE.holds_in({"trl": given.versions.of("trl")})
    # KTO has no such argument, or says that it is off (kto_trainer.py, 1.16.0)
    return False if given.kind.trl_script == "kto" else None


def _of_unprepared(fields: FieldReader) -> Problem | None:
    """Return what to say where TRL takes rows as they are, neither cut nor packed (sft_trainer.py:1005 and 1438, 1.16.0)."""
    told = fields.get("dataset_kwargs")
    if told is None or not isinstance(told.value, dict):
        return None
    if told.value.get("skip_prepare_dataset") is not True:
        return None
    return Problem(
        "skip_prepare_dataset: TRL neither cuts nor packs rows, and the longest one is not known",
        told.place.where,
        "say how long the longest one is with --set seq_len=N",
        severity="warning",
    )
