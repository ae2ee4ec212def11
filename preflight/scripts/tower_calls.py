"""Vision towers in the code of a script: whose layers' outputs it asks for, and whether it builds LLaVA's parts alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping

from preflight.scripts.files import last_name
from preflight.scripts.nodes import unparse, walk
from preflight.scripts.trees import tree_of

ASKED = re.compile(r"\boutput_(?:hidden_states|attentions)\s*=\s*True")
SEES = re.compile(r"(?i)vision|visual|\bvit\b|clip|image_encoder|image_tower")
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
        try:
            calls = [node for node in walk(tree_of(text)) if isinstance(node, ast.Call)]
        except (SyntaxError, ValueError, RecursionError):
            return False
        num_towers += sum(_is_of_tower(call, kept) for call in calls)
    return 0 < num_asked == num_towers


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
_LOADS = re.compile(r"\b(\w+)\s*\.\s*from_pretrained\(")


def llava_classes(files: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Return the classes of a script's own that it loads language models with, where they add LLaVA's parts and no others
    and leave the loss to the class below; none where any of them is another."""
    classes: dict[str, ast.ClassDef] = {}
    loaded: set[str] = set()
    for text, used in files:
        try:
            found = [node for node in walk(tree_of(text)) if isinstance(node, ast.ClassDef)]
        except (SyntaxError, ValueError, RecursionError):
            return frozenset()
        classes.update((cls.name, cls) for cls in found)
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
