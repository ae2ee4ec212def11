"""What a script trains for, and what it is compared with: the objective, the reference model, and what of them is not priced."""

from __future__ import annotations

import ast
import re
from typing import Any

from preflight.errors import Problem
from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.formulas.objective import COMPARED, GENERATED_PAIRS, ONLINE
from preflight.formulas.objectives.reward_models import OF_ANOTHER_SIZE
from preflight.launch import LaunchPlan
from preflight.lazy_pattern import lazy_pattern
from preflight.plan_parts import TEACHER
from preflight.reading import Reading
from preflight.scripts.python.nodes import last_name, unparse, walk
from preflight.scripts.python.trees import tree_of
from preflight.setting import Place, Setting
from preflight.trainers.fields import FieldReader, PlanFields
from preflight.trainers.generation import read_generated_pairs, read_generation
from preflight.trainers.kind import MORE_TRL_METHODS, PROSE, TRL_METHODS
from preflight.trainers.lookup import Given
from preflight.trainers.own_loss import is_plain, objective_of_loss
from preflight.trainers.ppo import read_ppo
from preflight.trainers.retrievers import read_retriever
from preflight.trainers.texts import read_texts

FUSES_HEAD_FOR = ("sft", "dpo", "ipo", "kto", "grpo", "rloo")
"""Objectives of TRL whose trainers have SFT's fused head (dpo_trainer.py:973, kto_trainer.py:967, 1.16.0)."""
LEFT_OUT = {
    "distillation": "its teacher and generation",
    "reward": "the score head of a reward model",
}
"""Objective -> what its trainer holds beside SFT's, where that is not a reference model and a reward."""
KEPT = "a reference model that is kept beside its log-probabilities"
WIDER = "a reference model that TRL loads in fp32"
CLASSIFIERS = {
    "ForSequenceClassification": "sequence_classification",
    "ForTokenClassification": "token_classification",
    "ForMaskedLM": "masked_lm",
}
SAVES_LOGITS = ("use_liger_loss", "use_logits_to_keep", "padding_free")
"""Arguments of older releases of TRL's DPO and KTO under which logits or rows are fewer than SFT's."""
_LOADED = lazy_pattern(
    r"\b(\w*(?:For[A-Z]\w+|AutoModel))\s*\.\s*from_pretrained\(\s*([^,)]+?)\s*(?=[,)])"
)


def read_objective(given: Given) -> Reading[PlanFields]:
    """Return the objective and the reference model; a problem names what no formula holds."""
    fields = FieldReader(given)
    kind = given.kind
    if kind.trainer == "transformers" or (kind.trainer == "plain_loop" and is_plain(kind.text)):
        if not read_retriever(fields) and not read_texts(fields):
            _classifier(fields)
        return fields.reading()
    if kind.trainer != "trl":
        return fields.reading()
    names = trainers_in(kind.text) if kind.text and not kind.is_own_script else set()
    names -= kind.unreached
    objectives = {({**TRL_METHODS, **MORE_TRL_METHODS})[name] for name in names}
    objective = str(kind.trl_script or "sft")
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
        return fields.reading()
    if not (names or kind.is_own_script or unpriced.startswith("the trainer")):
        unpriced = _other_trainer(kind.text)  # before what is left out beside TRL's own
    argument = None
    if objective in COMPARED:
        from preflight.trainers.older_pairs import not_priced  # of pairs alone

        argument = not_priced(given, objective, losses)
    unpriced = _subclass(kind.text, names) or unpriced or _not_counted(given, objective, fields)
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
    elif unpriced in (OF_ANOTHER_SIZE, TEACHER):
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
    from preflight.trainers.handed import handed_reference
    from preflight.trainers.older_pairs import keeps_reference, loads_wider_reference

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
    if _SET_LATER.search(PROSE.sub("", text)):
        return "a reference model that the script makes"
    handed = handed_reference(text)
    if handed is None:
        return WIDER if not _is_made_twice(text) and loads_wider_reference(fields) else ""
    place = Place("script", "", handed.text)
    loaded = {argument for _, argument in _LOADED.findall(text)}
    is_loaded_twice = len(loaded) == 1 and len(_LOADED.findall(text)) > 1
    if is_loaded_twice and not _are_loaded_alike(text):
        return "a reference model that the script makes"
    if is_loaded_twice or handed.is_copy or _is_made_twice(text):
        if not handed.may_be_none:  # beside an adapter, which then says which
            fields.put("reference_model", "same", Setting("same", place))
        return ""
    return _own_copy(text, fields, place)


_SET_LATER = lazy_pattern(r"\btrainer\.ref_model\s*=(?!=)")


def _own_copy(text: str, fields: FieldReader, place: Place) -> str:
    """Put a reference that is a copy of the model, or is made by the model's own name; return what it is otherwise.

    Scripts of the alignment-handbook give the trainer two names, and none beside an adapter (`ref_model = model`, then
    `ref_model = None`): whether there is an adapter says which. A name is loaded in fp32 where nobody says its dtype too;
    where it is an adapter's, which they merge first, both are the same object, and less than what is counted
    (trl/trainer/dpo_trainer.py __init__, 0.8.6 to 0.12.2).
    """
    # A module that only a reference of the script's own needs.
    from preflight.scripts.uncounted.reference_copies import COPIES, is_second_copy

    by_name = _IS_NAME.search(text) is not None
    copies = re.compile(rf"\bref_model\s*=\s*[\w.]*\b(?:{'|'.join(sorted(COPIES))})\(")
    try:
        is_copy = is_second_copy([tree_of(text)])
    except (SyntaxError, ValueError, RecursionError):
        is_copy = False
    if not is_copy or not (by_name or copies.search(text)):
        return "a reference model that the script makes"
    if by_name and "ref_model_init_kwargs" not in text:
        return WIDER
    if not re.search(r"\bref_model\s*=\s*None\b", text):
        fields.put("reference_model", "same", Setting("same", place))
    return ""


_IS_NAME = lazy_pattern(r"^[ \t]*model[ \t]*=[ \t]*[\w.]*(?:name|path)\w*[ \t]*$", re.MULTILINE)


_OF_WEIGHTS = frozenset(
    {"torch_dtype", "dtype", "quantization_config", "load_in_4bit", "load_in_8bit", None}
)
"""Keywords of from_pretrained that say what weights are kept in; None is `**options`."""


def _are_loaded_alike(text: str) -> bool:
    """Tell whether all models that a script loads by its own name are kept in the same dtype, packed or not."""
    try:
        nodes = walk(tree_of(text))
    except (SyntaxError, ValueError, RecursionError):
        return False
    ways = {
        tuple(sorted(unparse(k.value) for k in node.keywords if k.arg in _OF_WEIGHTS))
        for node in nodes
        if isinstance(node, ast.Call) and _LOADED.match(unparse(node))
    }
    return len(ways) < 2


def _is_made_twice(text: str) -> bool:
    """Tell whether a trainer is given two models that one and the same call makes: `get_model(args)`, twice."""
    try:
        tree = tree_of(text)
    except (SyntaxError, ValueError, RecursionError):
        return False
    written: dict[str, set[str]] = {}
    for node in walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            written.setdefault(node.targets[0].id, set()).add(unparse(node.value))
    for node in walk(tree):
        if isinstance(node, ast.Call) and last_name(node.func) in TRL_METHODS:
            given = dict(zip(("model", "ref_model"), node.args, strict=False))
            given.update((each.arg, each.value) for each in node.keywords if each.arg)
            made = [
                written.get(each.id, set())
                for each in (given.get("model"), given.get("ref_model"))
                if isinstance(each, ast.Name)
            ]
            alike = made[0] & made[-1] if len(made) == 2 else set()
            return any("(" in call for call in alike) and len(made[0] | made[1]) == 1
    return False


def _classifier(fields: FieldReader) -> None:
    """Put the objective of a script that loads its model with one head, and no other."""
    text, of_loss = fields.given.kind.text, fields.given.kind.text_of_loss
    scored = objective_of_loss(of_loss) if "def compute_loss(" in of_loss else "one"
    if scored is None:
        return
    heads = {name for name, _ in _LOADED.findall(text)}
    for end, objective in CLASSIFIERS.items():
        if heads and all(head.endswith(end) for head in heads):
            head = next(iter(heads))
            if scored != "one" and objective != "sequence_classification":
                return
            objective = objective if scored == "one" else f"scored_{scored}"
            fields.put("objective", objective, Setting(objective, Place("script", "", head)))


def _words(value: Any) -> set[str]:
    if value is None:
        return set()
    items = value if isinstance(value, (list, tuple)) else [value]
    return {str(item).strip("[]'\" ") for item in items}
