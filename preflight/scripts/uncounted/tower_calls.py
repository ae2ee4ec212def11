"""Vision towers in the code of a script: whose layers' outputs it asks for, whether it builds LLaVA's parts alone, and
whether a class of its own is a tower, a language model and a projector."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.own_losses import own_losses
from preflight.scripts.python.nodes import (
    branches_of,
    last_name,
    methods_of,
    targets_of,
    unparse,
    walk,
)
from preflight.scripts.python.trees import nodes_of, under_if
from preflight.unpriced_names import NARROW_LOSS

ASKED = lazy_pattern(r"\boutput_(?:hidden_states|attentions)\s*=\s*True")
SEES = lazy_pattern(r"(?i)vision|visual|\bvit\b|clip|image_encoder|image_tower")
"""Names by which scripts call what sees."""


def only_towers_keep_outputs(files: Iterable[tuple[str, str]]) -> bool:
    """Tell whether all that is asked for every layer's output in some files, each its text and its used lines, sees images.

    Attention scores are none of it: they are far larger than hidden states.
    """
    num_asked = num_towers = 0
    for text, used in files:
        found = ASKED.findall(used)
        if not found:
            continue
        num_asked += len(found)
        kept = used.split("\n")
        calls = [node for node in nodes_of(text) if isinstance(node, ast.Call)]
        num_towers += sum(_is_of_tower(call, kept) for call in calls)
    return 0 < num_asked == num_towers


_FOR_VISION = lazy_pattern(r"^self\.is_vision_model$")


def without_vision(text: str, used: str) -> str:
    """Return the used lines of a file without those that a trainer of TRL's runs for a model that sees, which a plan's model
    tells (trl/trainer/dpo_trainer.py and kto_trainer.py, 0.9.4 to 0.28: by the type of its config)."""
    if "self.is_vision_model" not in used:
        return used
    kept = used.split("\n")
    for node in under_if(nodes_of(text), _FOR_VISION):
        kept[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)  # fmt: skip
    return "\n".join(kept)


def _is_of_tower(call: ast.Call, kept: list[str]) -> bool:
    asks = any(
        each.arg == "output_hidden_states"
        and isinstance(each.value, ast.Constant)
        and each.value.value is True
        and kept[each.value.lineno - 1].strip()
        for each in call.keywords
    )
    return bool(asks) and SEES.search(last_name(call.func)) is not None


PARTS = frozenset({"model", "lm_head", "vision_tower", "mm_projector", "image_newline"})
"""What LLaVA's classes make (llava/model/llava_arch.py and language_model/llava_llama.py, 1.2)."""
_LOADS = lazy_pattern(r"\b(\w+)\s*\.\s*from_pretrained\(")


def llava_classes(files: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Return the classes of a script's own that it loads language models with, where they add LLaVA's parts and no others
    and leave the loss to the class below; none where any of them is another."""
    classes: dict[str, ast.ClassDef] = {}
    loaded: set[str] = set()
    for text, used in files:
        nodes = nodes_of(text)
        if not nodes:
            return frozenset()
        classes.update((node.name, node) for node in nodes if isinstance(node, ast.ClassDef))
        loaded.update(_LOADS.findall(used))
    heads = {
        name
        for name in loaded & set(classes)
        if any(last_name(base).endswith("ForCausalLM") for base in classes[name].bases)
    }
    is_llava = all(_hands_on(classes[name]) and _adds_parts(name, classes) for name in heads)
    return frozenset(heads) if is_llava else frozenset()


def _hands_on(cls: ast.ClassDef) -> bool:
    forwards = [node for node in cls.body if getattr(node, "name", "") == "forward"]
    return all("super().forward(" in unparse(node) for node in forwards)


def _adds_parts(name: str, classes: Mapping[str, ast.ClassDef]) -> bool:
    """Tell whether a class, those that it stands on and the model that it makes set LLaVA's parts alone."""
    waiting, seen = [name], {name}
    while waiting:
        cls = classes[waiting.pop()]
        named = [last_name(base) for base in cls.bases]
        for node in walk(cls):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
                continue
            targets = [each for each in node.targets if isinstance(each, ast.Attribute)]
            own = {each.attr for each in targets if unparse(each.value) == "self"}
            if own - PARTS:
                return False
            named += [last_name(node.value.func)] if own else []
        new = (set(named) & set(classes)) - seen
        seen |= new
        waiting += new
    return True


_ADDS = lazy_pattern(r"\b(?:add_module|register_module|register_parameter|setattr)\(")
_NO_WEIGHTS = frozenset({"GELU", "SiLU", "ReLU", "Dropout", "Identity"})
_MAKES_NO_PART = lazy_pattern(
    r"^(?:int|float|bool|str|len|getattr|hasattr|get_peft_model)$|template|config|token|logger|version"
)
"""Calls of functions whose value is no module, and PEFT's, which is given one that is there."""
KINDS = 3
"""A tower, a projector and a language model."""
_PROJECTS = frozenset({"LayerNorm", "Linear"}) | _NO_WEIGHTS


def composites(files: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the classes of a script's own that hold a vision tower, a language model and a row of modules between them, and
    leave the loss a cross entropy of the logits, each with what in that row has weights."""
    found: dict[str, tuple[str, ...]] = {}
    for text, used in files:
        if "Sequential(" not in used or "PreTrainedModel" not in used or SEES.search(used) is None:
            continue
        for cls in (each for each in nodes_of(text) if isinstance(each, ast.ClassDef)):
            projector = _projector_of(cls)
            if projector is not None and _takes_plain_loss(cls):
                found[cls.name] = projector
    return found


def _projector_of(cls: ast.ClassDef) -> tuple[str, ...] | None:
    """Return the modules with weights between a tower and a language model; None where a class has other parts, or not these."""
    if "PreTrainedModel" not in map(last_name, cls.bases) or _ADDS.search(unparse(cls)):
        return None
    places: dict[str, set[str]] = {}
    rows: set[tuple[str, ...]] = set()
    for place, made in _made(cls):
        name = last_name(made.func)
        row = [last_name(each.func) if isinstance(each, ast.Call) else "" for each in made.args]
        if _MAKES_NO_PART.search(name):
            continue
        if name == "Sequential" and _PROJECTS.issuperset(row):
            kind = "projector"
            rows.add(tuple(each for each in row if each not in _NO_WEIGHTS))
        elif name.endswith("ForCausalLM"):
            kind = "language model"
        elif SEES.search(name):
            kind = "tower"
        else:
            return None
        places.setdefault(kind, set()).add(place)
    is_whole = len(places) == KINDS and all(len(each) == 1 for each in places.values())
    return rows.pop() if is_whole and len(rows) == 1 else None


def _made(cls: ast.ClassDef) -> Iterator[tuple[str, ast.Call]]:
    """Yield the attributes that a class sets to what a call gives, with that call."""
    for node in walk(cls):
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if value is None:
            continue
        ways, targets = branches_of(value), targets_of(node)
        for place in (last_name(each) for each in targets if isinstance(each, ast.Attribute)):
            yield from ((place, way) for way in ways if isinstance(way, ast.Call))


def _takes_plain_loss(cls: ast.ClassDef) -> bool:
    """Tell whether the one forward of a class takes the cross entropy of the logits, and makes nothing else of them."""
    forward = methods_of(cls).get("forward")
    if forward is None:
        return False
    return {name for name, _ in own_losses(forward.body, walk(cls))} <= {NARROW_LOSS}
