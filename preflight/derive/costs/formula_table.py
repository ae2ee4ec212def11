"""Formulas against traces, family by family, for docs/formulas.md; `python -m preflight.derive.costs.formula_table` prints some."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from preflight.derive.layouts.small_models import objective_of, small_config, small_launch
from preflight.derive.layouts.small_sizes import NUM_VARIANTS, SMALL_MODELS
from preflight.derive.target import ROOT, Files, Say, put_between, read
from preflight.errors import BadInput
from preflight.formulas.adapters.adapters import recorded_layers
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import Level, MemoryTerm, Moment
from preflight.model import MASKED_LM, ModelSpec
from preflight.models import describe
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.trace.job import job_of
from preflight.trace.log import (
    EMBEDDING_BACKWARD,
    LAYER_BACKWARD,
    LAYER_FORWARD,
    LOSS,
    LOSS_BACKWARD,
    OPTIMIZER,
    OUTPUTS,
)
from preflight.values import dataclass

COLUMNS = (
    "full", "full, autocast", "LoRA", "LoRA, autocast", "QLoRA", "QLoRA, autocast",
    "QLoRA, prepared, autocast",
)  # fmt: skip
"""Methods of the table; every method of METHODS has coefficients."""
PAGE = "docs/formulas.md"
BEGIN, END = "<!-- formulas against traces -->", "<!-- end of formulas against traces -->"


@dataclass(frozen=True)
class Compared:
    """One moment of one small launch: live bytes of the formulas and of the trace."""

    model_type: str
    method: str
    checkpointing: bool
    moment: Moment
    formula_bytes: int
    traced_bytes: int

    @property
    def error(self) -> float:
        """The formula's relative error, signed."""
        return self.formula_bytes / self.traced_bytes - 1


def compare(
    model_type: str,
    method: str,
    checkpointing: bool,
    plugins: PluginManager,
    config: Mapping[str, Any] | None = None,
    head: str = MASKED_LM,
    **changes: Any,
) -> list[Compared]:
    """Trace one small launch, with changes to its config and plan, and set every moment beside the formulas.

    `head`: of an encoder, the objective that is trained.
    """
    from preflight.trace.run import trace

    whole = {**small_config(model_type, NUM_VARIANTS, head), **(config or {})}
    if head != MASKED_LM:
        changes = {"objective": objective_of(head), **changes}
    spec = describe(whole, model_type, "small_models.py")
    plan = replace(small_launch(model_type, method, checkpointing), **changes)
    traced = moments_of(trace(job_of(plan, spec)).levels, ends_of_kinds(plan, spec))
    formulas = formulas_of(plan, spec, plugins)
    return [
        Compared(model_type, method, checkpointing, moment, formulas[moment], num_bytes)
        for moment, num_bytes in traced.items()
    ]


def formulas_of(plan: LaunchPlan, spec: ModelSpec, plugins: PluginManager) -> dict[Moment, int]:
    """Return live tensors at every moment of the first step, as `preflight check` adds them up."""
    terms = estimate_memory(plan, spec, None, plugins, ()).terms
    found = {each: live_at(terms, each, each is Moment.OPTIMIZER_STEP) for each in Moment}
    found[Moment.LOSS_BACKWARD] = max(found[Moment.LOSS_BACKWARD], found[Moment.HEAD_BACKWARD])
    return found


def live_at(terms: Iterable[MemoryTerm], moment: Moment, is_second_step: bool) -> int:
    """Return the bytes of live tensors at a moment of the first step, or of the second."""
    return sum(
        term.num_bytes
        for term in terms
        if term.level is Level.ALLOCATED
        and moment in term.moments
        and (is_second_step or not term.from_second_step)
    )


def ends_of_kinds(plan: LaunchPlan, spec: ModelSpec) -> tuple[frozenset[int], frozenset[int]]:
    """Return the places of the last layer of every kind that has a backward, and of the first."""
    places = [kept.places for _, kept in recorded_layers(plan, spec) if kept.places]
    return frozenset(map(max, places)), frozenset(map(min, places))


def moments_of(
    levels: Iterable[Any],
    ends: tuple[Collection[int], Collection[int]] = ((), ()),
) -> dict[Moment, int]:
    """Return the highest level of every moment of the first step; the loss's backward has one with its head's.

    The last layer's backward is that of the last layer of every kind, and the first's that of the first: a smaller
    kind may come after the one, and before the other.
    """
    last_of_kinds, first_of_kinds = ends
    levels = [level for level in levels if level.part.step == 0]
    last = max(level.part.layer for level in levels)
    found: dict[Moment, int] = {}
    for level in levels:
        name, layer = level.part.name, level.part.layer
        moment = {
            LAYER_FORWARD: Moment.FORWARD,
            LOSS: Moment.LOSS_FORWARD,
            OUTPUTS: Moment.LOSS_FORWARD,
            LOSS_BACKWARD: Moment.LOSS_BACKWARD,
            EMBEDDING_BACKWARD: Moment.EMBEDDING_BACKWARD,
            OPTIMIZER: Moment.OPTIMIZER_STEP,
        }.get(name)
        of_layer = name == LAYER_BACKWARD
        at = [moment] if moment is not None else []
        if of_layer and layer in (0, *first_of_kinds):
            at.append(Moment.FIRST_LAYER_BACKWARD)
        if of_layer and layer in (last, *last_of_kinds) and (layer > 0 or 0 in last_of_kinds):
            at.append(Moment.LAST_LAYER_BACKWARD)
        for one in at:
            found[one] = max(found.get(one, 0), level.peak_bytes)
    return found


def compare_all(
    model_types: Iterable[str], plugins: PluginManager, say: Callable[[str], None]
) -> tuple[list[Compared], dict[tuple[str, str], str]]:
    """Compare families by method, with and without checkpointing; return what cannot be run beside it."""
    found: list[Compared] = []
    not_run: dict[tuple[str, str], str] = {}
    for model_type in model_types:
        for method in COLUMNS:
            say(f"{model_type}, {method}")
            for checkpointing in (False, True):
                try:
                    found += compare(model_type, method, checkpointing, plugins)
                except (AttributeError, BadInput) as error:
                    not_run[model_type, method] = str(error)
    return found, not_run


def worst(compared: Iterable[Compared], model_type: str, method: str) -> Compared | None:
    """Return the moment of a family and method at which formulas are off most."""
    own = [c for c in compared if (c.model_type, c.method) == (model_type, method)]
    return max(own, key=lambda c: abs(c.error), default=None)


def table_lines(compared: Sequence[Compared], not_run: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the table in Markdown."""
    names = dict.fromkeys([c.model_type for c in compared] + [name for name, _ in not_run])
    lines = [
        "| % off | " + " | ".join(COLUMNS) + " |",
        "|---" + "|--:" * len(COLUMNS) + "|",
    ]
    for name in names:
        cells = []
        for method in COLUMNS:
            found = worst(compared, name, method)
            cells.append("cannot be run" if found is None else _said(found))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _said(compared: Compared) -> str:
    percent = abs(100 * compared.error)
    return "0.00" if percent < SMALLEST_PERCENT else f"{100 * compared.error:+.2f}"


SMALLEST_PERCENT = 0.005


def files(say: Say) -> Files:
    """Yield the page with a row for every family."""
    compared, not_run = compare_all(SMALL_MODELS, load_plugins(str(ROOT)), say)
    yield PAGE, put_between(read(PAGE), BEGIN, END, table_lines(compared, not_run))


def main() -> int:
    """Print the table of the named families, or of all; return the exit code."""
    import argparse
    import warnings

    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    parser = argparse.ArgumentParser(
        prog="python -m preflight.derive.costs.formula_table", description=__doc__
    )
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="all when none is named")
    parser.add_argument("--json", action="store_true", help="every moment, as JSON")
    options = parser.parse_args()
    plugins = load_plugins(os.getcwd())
    compared, not_run = compare_all(
        options.families or SMALL_MODELS, plugins, lambda text: print(text, file=sys.stderr)
    )
    lines = table_lines(compared, not_run)
    if options.json:
        print(json.dumps([_plain(c) for c in compared], indent=1))
    else:
        print("\n".join(lines))
    return 0


def _plain(compared: Compared) -> dict[str, Any]:
    return {
        "model_type": compared.model_type,
        "method": compared.method,
        "checkpointing": compared.checkpointing,
        "moment": compared.moment.value,
        "formula_bytes": compared.formula_bytes,
        "traced_bytes": compared.traced_bytes,
        "error": compared.error,
    }


if __name__ == "__main__":
    raise SystemExit(main())
