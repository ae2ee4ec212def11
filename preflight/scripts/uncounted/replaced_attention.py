"""Attention that a script puts in place of a model's own: `LlamaAttention.forward = forward`, which people copied from one
another while transformers had no faster one.

Read in lm-sys/FastChat train/llama_flash_attn_monkey_patch.py and llama_xformers_attn_monkey_patch.py, from which most
others are; in dvlab-research/LongLoRA llama_attn_replace.py and philschmid training/utils/falcon_patch.py.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import field

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import last_name, unparse, walk
from preflight.setting import Place
from preflight.values import dataclass

REPLACES = lazy_pattern(
    r"Att(?:entio)?n\w*\.forward\s*=[^=]|\bmodeling_\w+\.\w*Att(?:entio)?n\w*\s*=[^=]"
)
"""An attention's forward, or its class in the module where its model finds it."""
SCORES = lazy_pattern(r"\bsoftmax\(")
KERNELS = lazy_pattern(
    r"flash_attn|flash_attention|memory_efficient_attention|scaled_dot_product_attention"
)
"""Functions that keep no scores; to memory they are alike."""


@dataclass(frozen=True)
class ReplacedAttention:
    """Where a class of a model is given another attention, and what that may be."""

    place: Place
    may_be: tuple[str, ...]
    """`sdpa` for whatever keeps no scores, `eager` for what does, or may."""
    without_scores: Mapping[str, Place] = field(default_factory=dict)
    """Class, in lower case, whose forward is surely another one, which keeps no scores -> where that is put."""


def replaced_attention(
    files: Iterable[tuple[str, ast.Module, Container[int]]],
    sure_lines: Container[tuple[str, int]] = (),
) -> ReplacedAttention | None:
    """Return what files, each its path, tree and the lines of it that a launch may run, put in place of a model's attention;
    None where they do not. `sure_lines` has path and line of the assignments that surely run.

    A release whose class for the attention that is used is another one does not run it: the model's own stays possible.
    """
    place: Place | None = None
    may_be: set[str] = set()
    kinds_of: dict[str, set[str]] = {}
    sure: dict[str, Place] = {}
    for path, tree, lines in files:
        for assign in _replacements(tree, lines):
            target = unparse(assign.targets[0])
            where = Place("script", path, target, assign.lineno)
            place = place or where
            kinds = _kinds(assign.value, tree)
            may_be |= kinds
            owner, _, attribute = target.rpartition(".")
            is_forward = attribute == "forward"
            name = (owner.rpartition(".")[2] if is_forward else attribute).lower()
            kinds_of.setdefault(name, set()).update(kinds)
            if is_forward and (path, assign.lineno) in sure_lines:
                sure.setdefault(name, where)
    if place is None:
        return None
    without_scores = {name: at for name, at in sure.items() if kinds_of[name] == {"sdpa"}}
    return ReplacedAttention(place, tuple(sorted(may_be, reverse=True)), without_scores)


def _replacements(tree: ast.Module, lines: Container[int]) -> Iterator[ast.Assign]:
    for node in walk(tree):
        if not isinstance(node, ast.Assign) or node.lineno not in lines:
            continue
        if REPLACES.search(f"{unparse(node.targets[0])} = x"):
            yield node


def _kinds(value: ast.expr, tree: ast.Module) -> set[str]:
    """Return what the function or class may be that an expression names: either way of a condition; both where it is not here."""
    if isinstance(value, ast.IfExp):
        return _kinds(value.body, tree) | _kinds(value.orelse, tree)
    name = last_name(value)
    kinds = (ast.FunctionDef, ast.ClassDef)
    bodies = [n for n in walk(tree) if isinstance(n, kinds) and n.name == name]
    text = "\n".join(unparse(each) for each in bodies)
    found = set()
    if KERNELS.search(text):
        found.add("sdpa")
    if SCORES.search(text) or not found:
        found.add("eager")
    return found if bodies else {"sdpa", "eager"}
