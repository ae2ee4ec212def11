"""What a script trains for, and what it is compared with: the objective, the reference model, and what of them is not priced."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from preflight.errors import Problem
from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.formulas.objective import COMPARED, GENERATED_PAIRS, ONLINE
from preflight.launch import LaunchPlan
from preflight.lazy_pattern import lazy_pattern
from preflight.reading import Reading
from preflight.setting import Place, Setting
from preflight.trainers.fields import FieldReader, PlanFields
from preflight.trainers.generation import read_generated_pairs, read_generation
from preflight.trainers.kind import MORE_TRL_METHODS, PROSE, TRL_METHODS, TrainerKind
from preflight.trainers.lookup import Given
from preflight.trainers.ppo import read_ppo
from preflight.trainers.retrievers import read_retriever
from preflight.unpriced_names import OTHER_REWARD_MODEL, TEACHER

if TYPE_CHECKING:
    from preflight.trainers.own_subclasses import OwnTrainer

FUSES_HEAD_FOR = ("sft", "dpo", "ipo", "kto", "grpo", "rloo")
"""Objectives of TRL whose trainers have SFT's fused head (dpo_trainer.py:973, kto_trainer.py:967, 1.16.0)."""
LEFT_OUT = {
    "distillation": "its teacher and generation",
    "reward": "the score head of a reward model",
}
"""Objective -> what its trainer holds beside SFT's, where that is not a reference model and a reward."""
KEPT = "a reference model that is kept beside its log-probabilities"
SAVES_LOGITS = ("use_liger_loss", "use_logits_to_keep", "padding_free")
"""Arguments of older releases of TRL's DPO and KTO under which logits or rows are fewer than SFT's."""


def read_objective(given: Given) -> Reading[PlanFields]:
    """Return the objective and the reference model; a problem names what no formula holds."""
    fields = FieldReader(given)
    kind = given.kind
    if kind.trainer == "transformers" or (kind.trainer == "plain_loop" and _is_plain(kind.text)):
        if not read_retriever(fields) and not _read_texts(fields) and kind.text:
            from preflight.trainers.script_objective import put_classifier

            put_classifier(fields)
        return fields.reading()
    if kind.trainer != "trl":
        return fields.reading()
    names = trainers_in(kind.text) if kind.text and not kind.is_own_script else set()
    names -= kind.unreached
    objectives = {({**TRL_METHODS, **MORE_TRL_METHODS})[name] for name in names}
    objective = str(kind.trl_script or "sft")
    own = own_trainer(kind, names)
    if own is not None:
        objectives = {({**TRL_METHODS, **MORE_TRL_METHODS})[own.base]}
    if len(objectives) == 1:
        objective = next(iter(objectives))
    of_losses = fields.get("loss_type") or given.others.get("loss_type")
    losses = _words(None if of_losses is None else of_losses.value)
    if objective == "dpo" and losses == {"ipo"}:
        objective = "ipo"
    if objective == "cpo" and losses == {"simpo"}:
        objective = "simpo"
    because = Setting(objective, Place("script", "", kind.because))
    unpriced = "" if names or kind.is_own_script else _unknown_of_trl(kind.text)
    if len(objectives) > 1:
        unpriced = "one of several trainers"  # and which one, only running tells
    elif not unpriced:
        fields.put("objective", objective, because)
        if objective in COMPARED:
            unpriced = _reference(fields)
        if objective == "ppo":
            unpriced = read_ppo(fields)
        elif objective in GENERATED_PAIRS:
            unpriced = read_generated_pairs(fields, _reference(fields))
        elif objective in ONLINE:
            unpriced = read_generation(fields, objective)
        elif objective == "gkd":
            from preflight.trainers.teachers import read_teacher  # of GKD alone

            unpriced = read_teacher(fields)
    if objective == "sft" and not unpriced:
        if own is not None and any(each.is_of_rows for each in own.overrides):
            fields.problems.append(_of_own(own, objective))
        return fields.reading()
    if not (names or own or kind.is_own_script or unpriced.startswith("the trainer")):
        unpriced = _other_trainer(kind.text)  # before what is left out beside TRL's own
    argument = None
    if objective in COMPARED:
        from preflight.trainers.older_pairs import not_priced  # of pairs alone

        argument = not_priced(given, objective, losses)
    if own is not None:
        fields.problems.append(_of_own(own, objective))
    subclass = "" if own else _subclass(kind.text, names)
    unpriced = subclass or unpriced or _not_counted(given, objective, fields)
    if argument is not None and not unpriced:
        fields.problems.append(
            Problem(
                f"TRL's {objective} trainer is estimated without {argument.name}",
                id="PF438",
                severity="warning",
                unpriced=argument.name,
                takes=argument.takes,
            )
        )
    if not unpriced:
        return fields.reading()
    left_out = LEFT_OUT.get(objective, "its reference model, generation and reward")
    # what an older release or a trainer of somebody's own takes may be less, too
    is_unread = unpriced.startswith(
        ("a class", "the log-prob", "a trainer", "the trainer", "one of")
    )
    saves = objective in ("reward", "prm") or (objective not in ONLINE and _saves(given))
    if objective in (*COMPARED, *ONLINE, "prm", "gkd") or unpriced.startswith("the trainer"):
        left_out = unpriced
    message = f"TRL's {objective} trainer is estimated in part, without {unpriced}"
    if left_out != unpriced:
        message = f"TRL's {objective} trainer is estimated in part: {left_out} are not counted ({unpriced})"
    elif unpriced in (OTHER_REWARD_MODEL, TEACHER):
        message = f"{unpriced} is estimated at its most, and where its shapes are known"
    fields.problems.append(
        Problem(
            message,
            id="PF438",
            severity="warning",
            unpriced=left_out,
            takes="either" if is_unread or saves else "more",
        )
    )
    return fields.reading()


def own_trainer(kind: TrainerKind, names: Collection[str]) -> OwnTrainer | None:
    """Return the one trainer of a script's repository that it makes, where it makes none of TRL's beside its base."""
    own = kind.own[0] if len(kind.own) == 1 else None
    return own if own is not None and {own.base} >= {*names} else None


def _of_own(own: OwnTrainer, objective: str) -> Problem:
    message = f"TRL's {objective} trainer is estimated in part, without {own}"
    return Problem(message, id="PF438", severity="warning", unpriced=str(own), takes="either")


def _is_plain(text: str) -> bool:
    from preflight.trainers.own_loss import is_plain  # a library's trainer is not asked

    return is_plain(text)


def _other_trainer(text: str) -> str:
    """Return in words the trainer that a script makes and that is none of TRL's by its name."""
    made = set(re.findall(r"(?<!class )\b([A-Z]\w*Trainer)\s*\(", PROSE.sub("", text)))
    return f"the trainer {made.pop()}" if len(made) == 1 else "a trainer that the script chooses"


_FROM_TRL = lazy_pattern(
    r"^[ \t]*from[ \t]+trl\b[\w.]*[ \t]+import[ \t]+(\([^)]*|[^\n]*)", re.MULTILINE
)


def _unknown_of_trl(text: str) -> str:
    """Return in words the trainer that a script takes from TRL where it is none of those with an objective here."""
    taken = re.findall(r"\b[A-Z]\w*Trainer\b", " ".join(_FROM_TRL.findall(PROSE.sub("", text))))
    unknown = [name for name in taken if name not in (*TRL_METHODS, *MORE_TRL_METHODS)]
    return f"the trainer {unknown[0]}" if unknown else ""


def trainers_in(text: str) -> set[str]:
    """Return TRL's trainers that a script makes, or derives one of its own from."""
    code = PROSE.sub("", text)
    names = "|".join((*TRL_METHODS, *MORE_TRL_METHODS))
    made = re.findall(rf"\b({names})\s*\(", code)
    derived = re.findall(rf"\bclass\s+\w+\([^)]*\b({names})\b", code)
    return {*made, *derived}


def _subclass(text: str, names: set[str]) -> str:
    """Say where a script derives a trainer of its own from TRL's: what that computes is not known."""
    for name in names:
        if re.search(rf"\bclass\s+\w+\([^)]*\b{name}\b", text):
            return f"a class that is derived from {name}"
    return ""


def _not_counted(given: Given, objective: str, fields: FieldReader) -> str:
    if objective in ("dpo", "ipo") and FieldReader(given).value("use_weighting") is True:
        return "the statistics of use_weighting"
    of = given.versions.of
    versions = {"trl": of("trl"), "transformers": of("transformers")}
    known = fields.reading().value
    plan = LaunchPlan(
        objective=objective,
        trainer="trl",
        versions=versions,
        generation=known.value("generation"),
        reward_models=known.value("reward_models"),
    )
    return unpriced_objective(plan)


def _saves(given: Given) -> bool:
    said = (given.known.get(name) or given.others.get(name) for name in SAVES_LOGITS)
    return any(setting is not None and setting.value not in (False, None) for setting in said)


def _reference(fields: FieldReader) -> str:
    """Put the reference model that the script or the arguments say; return in words what is not known of it."""
    # Of pairs alone.
    from preflight.trainers.older_pairs import WIDER, keeps_reference, loads_wider_reference

    precomputes = fields.get("precompute_ref_log_probs")
    if precomputes is not None and precomputes.value is True:
        fields.put("reference_model", "none", precomputes)
        at_once = fields.value("precompute_ref_batch_size")
        if isinstance(at_once, int) and at_once > fields.value("per_device_train_batch_size", 8):
            return f"log-probabilities of {at_once} rows at once"
        return KEPT if keeps_reference(fields) else ""
    text = fields.given.kind.text
    if fields.given.kind.is_own_script or not text:
        return WIDER if loads_wider_reference(fields) else ""
    from preflight.trainers.script_objective import reference_of_script

    return reference_of_script(text, fields)


def _words(value: Any) -> set[str]:
    if value is None:
        return set()
    items = value if isinstance(value, (list, tuple)) else [value]
    return {str(item).strip("[]'\" ") for item in items}


def _read_texts(fields: FieldReader) -> bool:
    """Put the objective and the texts of a row as the trainer's loss and model say them; tell whether a script trains with
    sentence-transformers."""
    objective = fields.given.known.get("sentence_objective")
    if objective is None:
        return False
    fields.put("objective", objective.value, objective)
    for name in ("texts_per_row", "cached_rows"):
        if name in fields.given.known:
            count = fields.positive(name, name)
            if count is not None:
                fields.put(name, count.value, count)
    fields.assume(
        "sequence_kind", "padded", "every column is padded to its longest text", "transformers"
    )
    return True
