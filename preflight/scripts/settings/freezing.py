"""What a script does not train, and whether flags say it: the parts of vision-language trainings that people copy.

Read in QwenLM/Qwen3-VL qwen-vl-finetune (`tune_mm_*`), haotian-liu/LLaVA and LLaVA-NeXT (`tune_mm_mlp_adapter`),
OpenGVLab/InternVL (`freeze_backbone`, `freeze_llm`, `freeze_mlp`), om-ai-lab/VLM-R1 (`freeze_vision_modules`),
2U1/Qwen2-VL-Finetune (`freeze_vision_tower`, `freeze_merger`, `freeze_llm`) and ms-swift (`freeze_vit`, `freeze_aligner`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.arguments.trainer_spellings import FREEZES, TUNES
from preflight.scripts.python.nodes import children, last_name
from preflight.scripts.python.trees import tree_of
from preflight.values import dataclass

FLAG = lazy_pattern(rf"\b(?:{'|'.join((*FREEZES, *TUNES))})\b")
DEEPEST = 4
"""Functions that call one another between a flag and what it freezes."""


@dataclass(frozen=True)
class _Step:
    """A statement that freezes, or a call of a function that may."""

    name: str
    """Of the function that is called; empty for a statement that freezes."""
    within: str
    """The function that it stands in."""
    is_told: bool
    """Whether a flag is its condition, or its value."""


def is_told_by_flags(files: Iterable[tuple[str, str]]) -> bool:
    """Tell whether all that freezes parameters in some files, each its text and its used lines, hangs on flags that are
    read; False where any cannot be told."""
    steps: list[_Step] = []
    for text, used in files:
        if "requires_grad" not in used and FLAG.search(used) is None:
            continue
        try:
            steps += _steps(tree_of(text), text.split("\n"), used.split("\n"))
        except (SyntaxError, ValueError, RecursionError):
            return False
    calls: dict[str, list[_Step]] = {}
    for step in steps:
        calls.setdefault(step.name, []).append(step)
    freezing = calls.get("", [])
    return bool(freezing) and all(_hangs_on_flag(step, calls, 0) for step in freezing)


def _hangs_on_flag(step: _Step, calls: dict[str, list[_Step]], depth: int) -> bool:
    if step.is_told:
        return True
    above = calls.get(step.within, ()) if step.within and depth < DEEPEST else ()
    return bool(above) and all(_hangs_on_flag(each, calls, depth + 1) for each in above)


def _steps(tree: ast.Module, lines: list[str], used: list[str]) -> Iterator[_Step]:
    waiting: list[tuple[ast.AST, str, bool]] = [(tree, "", False)]
    while waiting:
        node, within, is_told = waiting.pop()
        is_placed = isinstance(node, (ast.expr, ast.stmt))
        name = _freezes_or_calls(node) if is_placed else None
        if name is not None and used[node.lineno - 1].strip():  # type: ignore[attr-defined]
            said = is_told or (not isinstance(node, ast.Name) and _asks_flag(node, lines))
            yield _Step(name, within, said)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            within, is_told = node.name, False
        below = is_told or (isinstance(node, ast.If) and _asks_flag(node.test, lines))
        for child in children(node):
            if not (
                isinstance(node, ast.Call) and child is node.func and isinstance(child, ast.Name)
            ):
                waiting.append((child, within, below))


def _asks_flag(node: ast.AST, lines: list[str]) -> bool:
    """Tell whether the lines of a node name a flag."""
    assert isinstance(node, (ast.expr, ast.stmt))
    end = node.end_lineno or node.lineno
    return any(FLAG.search(line) for line in lines[node.lineno - 1 : end])


def _freezes_or_calls(node: ast.AST) -> str | None:
    """Return the function that a call calls, nothing for what freezes; None for any other node."""
    if isinstance(node, ast.Assign):
        target = node.targets[0]
        is_grad = isinstance(target, ast.Attribute) and target.attr == "requires_grad"
        is_on = isinstance(node.value, ast.Constant) and node.value.value is True
        return "" if is_grad and not is_on else None
    if isinstance(node, ast.Name):
        return node.id  # handed on, and called by somebody else
    if not isinstance(node, ast.Call):
        return None
    name = last_name(node.func)
    if name != "requires_grad_":
        return name or None
    said = node.args[0] if node.args else ast.Constant(True)
    return None if isinstance(said, ast.Constant) and said.value is True else ""
