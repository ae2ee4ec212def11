"""What the text of a script says of its objective: the head that it loads its model with, and what it is compared with."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import last_name, unparse
from preflight.scripts.python.trees import nodes_of, tree_of
from preflight.setting import Place, Setting
from preflight.trainers.fields import FieldReader
from preflight.trainers.handed import handed_reference, ways_of
from preflight.trainers.kind import PROSE, TRL_METHODS
from preflight.trainers.older_pairs import WIDER, loads_wider_reference
from preflight.trainers.own_loss import objective_of_loss

CLASSIFIERS = {
    "ForSequenceClassification": "sequence_classification",
    "ForTokenClassification": "token_classification",
    "ForMaskedLM": "masked_lm",
}
_LOADED = lazy_pattern(
    r"\b(\w*(?:For[A-Z]\w+|AutoModel))\s*\.\s*from_pretrained\(\s*([^,)]+?)\s*(?=[,)])"
)


def put_classifier(fields: FieldReader) -> None:
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


def reference_of_script(text: str, fields: FieldReader) -> str:
    """Put the reference model that a script gives its trainer; return in words what is not known of it."""
    if _SET_LATER.search(PROSE.sub("", text)):
        return "a reference model that the script makes"
    handed = handed_reference(text)
    if handed is None:
        return WIDER if not _is_made_twice(text) and loads_wider_reference(fields) else ""
    place = Place("script", "", handed.text)
    loaded = {argument for _, argument in _LOADED.findall(text)}
    loaded = {*loaded} - _names_of_model(text, loaded, fields)
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


def _names_of_model(text: str, loaded: Collection[str], fields: FieldReader) -> set[str]:
    """Return the variables among the names that models are loaded by which are surely the model's own name: set to that, or
    to an argument that is given and says the same."""
    model = fields.value("model_name_or_path")
    nodes = nodes_of(text)
    found = set()
    for name in loaded if model is not None else ():
        ways = ways_of(ast.Name(name), nodes) if name.isidentifier() else []
        others = {unparse(way) for way in ways} & {*loaded}
        rest = [way for way in ways if unparse(way) not in others]
        said = (fields.given.others.get(last_name(way)) for way in rest)
        if others and all(each is not None and each.value == model for each in said):
            found.add(name)
    return found


_IN_16_BITS = lazy_pattern(r"^[\"']?(?:torch\.)?(?:b?float16|half)[\"']?$")


def _are_loaded_alike(text: str) -> bool:
    """Tell whether all models that a script loads by its own name are kept in as many bits, packed or not."""
    nodes = nodes_of(text)
    ways = {
        tuple(
            sorted(
                _IN_16_BITS.sub("16", unparse(k.value))
                for k in node.keywords
                if k.arg in _OF_WEIGHTS
            )
        )
        for node in nodes
        if isinstance(node, ast.Call) and _LOADED.match(unparse(node))
    }
    return bool(nodes) and len(ways) < 2


def _is_made_twice(text: str) -> bool:
    """Tell whether a trainer is given two models that one and the same call makes: `get_model(args)`, twice."""
    nodes = nodes_of(text)
    written: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            written.setdefault(node.targets[0].id, set()).add(unparse(node.value))
    for node in nodes:
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
