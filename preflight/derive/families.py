"""A model type as tables: `python -m preflight.derive.families TYPE ...` lays it out, traces it, and compares.

The layout comes from models of the type that transformers builds (layouts.py), the costs of its layers from traces of
small ones (costs.py). What is written has been compared with traces in sizes that it was not solved from: a method
whose formulas are off by more than MOST_OFF anywhere is left out, and so is a type without any.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from preflight.derive import type_samples
from preflight.derive.cost_files import known_costs, rendered, together
from preflight.derive.cost_forms import SOLVED
from preflight.derive.costs import CANNOT_RUN, derive
from preflight.derive.formula_table import Compared, compare
from preflight.derive.layouts import NotLaidOut, layout_of
from preflight.derive.model_behaviour import adapts_experts, mark_idle, traced_switches
from preflight.derive.target import ROOT
from preflight.errors import ModelNotKnown
from preflight.formulas import layer_coefficients
from preflight.formulas.layer_coefficients import CHECKPOINTED, METHODS
from preflight.models import describe
from preflight.models.families.family_tables import family_table
from preflight.models.registry import all_models
from preflight.plugins import load_plugins

MOST_OFF = 0.01
LAYOUTS, COSTS = "preflight/models/families/tables", "preflight/formulas/costs"
USUAL = (
    "full", "full, autocast", "LoRA", "LoRA, autocast", "full, bf16 under autocast", "LoRA, fp32 adapters",
)  # fmt: skip
SCALES = ("T*", "TL*", "L*", "B*", "N*", "S*", "M*")


def make(model_type: str, methods: Sequence[str], anew: bool) -> str:
    """Write the tables of a type; return what became of it, in words."""
    began = time.monotonic()
    layout = ROOT / LAYOUTS / f"{model_type}.json"
    if anew or not layout.exists():
        table = layout_of(model_type)
        table["adapts_experts"] = adapts_experts(model_type)
        table["traced"] = traced_switches(model_type)
        mark_idle(model_type, table)
        _write(layout, _in_rows(table))
        if (other := unlike_published(model_type)) is not None:
            layout.unlink()
            family_table.cache_clear()
            raise NotLaidOut(other)
    else:
        table = dict(family_table(model_type) or {})
    known = None if anew else known_costs(model_type)
    wanted = [m for m in methods if known is None or m not in known["shared"]]
    if wanted and known is not None:  # what is still to be solved may need more than what was
        table["widths"] = layout_of(model_type)["widths"]
        _write(layout, _in_rows(table))
    entry = derive(model_type, wanted)
    SOLVED.clear()
    costs = entry if known is None else together(known, entry)
    path = ROOT / COSTS / f"{model_type}.json"
    if costs["kinds"]:
        _write(path, rendered(costs))
    off: dict[str, Compared | None] = {}
    for method in wanted:
        if method not in costs["shared"]:
            off[method] = None
            continue
        off[method] = worst_of(model_type, method)
    costs = _without(
        costs, [m for m, worst in off.items() if worst is None or abs(worst.error) > MOST_OFF]
    )
    if costs["kinds"] and costs["shared"]:
        _write(path, rendered(costs))
    else:
        path.unlink(missing_ok=True)
    table["widths"] = sorted(_used(costs).intersection(table["widths"]))
    _write(layout, _in_rows(table))
    plain = [m for m in off if m in costs["shared"] and m + CHECKPOINTED not in costs["shared"]]
    without = f"; not checkpointed: {', '.join(plain)}" if plain else ""
    words = ", ".join(f"{method}: {_said(worst)}" for method, worst in off.items())
    return f"{words}{without} ({time.monotonic() - began:.0f} s)"


def unlike_published(model_type: str) -> str | None:
    """Return the first model of the registry whose count a type's table does not give; None where it gives all."""
    for entry in all_models():
        named = (entry.config.get("architectures") or [""])[0]
        if entry.config.get("model_type") != model_type or not named.endswith(WITH_HEAD):
            continue
        try:
            own = describe(entry.config, entry.id, "the registry").num_params
        except ModelNotKnown as error:
            print(f"{model_type}, {entry.id}: {error.problems[0].message}", file=sys.stderr)
            continue
        if own != entry.num_params:
            return f"{entry.id} has {entry.num_params:,} parameters, and {own:,} by the table"
    return None


WITH_HEAD = ("ForCausalLM", "LMHeadModel", "LMHead")


def worst_of(model_type: str, method: str) -> Compared | None:
    """Return the moment at which a method's formulas are off most, in sizes that nothing was solved from."""
    plugins = load_plugins(str(ROOT))
    found: list[Compared] = []
    known = known_costs(model_type)
    for checkpointing in (False, True):
        if checkpointing and known and method + CHECKPOINTED not in known["shared"]:
            continue  # a class that cannot be checkpointed, or is not said to be
        try:
            found += compare(model_type, method, checkpointing, plugins)
        except CANNOT_RUN as error:
            print(f"{model_type}, {method}: not compared: {error}", file=sys.stderr)
            return None
    return max(found, key=lambda c: abs(c.error), default=None)


def _said(worst: Compared | None) -> str:
    if worst is None:
        return "no forms"
    return f"{100 * worst.error:+.2f} % {worst.moment.value}{', checkpointed' if worst.checkpointing else ''}"


def _without(costs: Mapping[str, Any], methods: Collection[str]) -> dict[str, Any]:
    dropped = {m + suffix for m in methods for suffix in ("", CHECKPOINTED)}

    def kept(forms: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in forms.items() if key not in dropped}

    kinds = {kind: kept(forms) for kind, forms in costs["kinds"].items()}
    return {
        **costs,
        "kinds": {k: v for k, v in kinds.items() if v},
        "shared": kept(costs["shared"]),
    }


def _used(costs: Mapping[str, Any]) -> set[str]:
    """Return the widths that a type's costs are counted in."""
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                scale = next((s for s in SCALES if name.startswith(s)), None)
                if scale is not None and isinstance(item, int):
                    found.add(name.removeprefix(scale))
                look(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                look(item)

    look(costs["kinds"])
    look(costs["shared"])
    return found


def _in_rows(table: Mapping[str, Any]) -> str:
    """Return a table's text: a unit, a kind of layer or a rule to a line."""
    parts = []
    for name, value in table.items():
        if name in ("body", "kinds", "places"):
            rows = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in value)
            parts.append(f" {json.dumps(name)}: [\n  {rows}\n ]")
        else:
            parts.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _write(path: Any, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    family_table.cache_clear()
    type_samples.forget()
    layer_coefficients.family_costs.cache_clear()
    layer_coefficients._of_method.cache_clear()


def main(args: Iterable[str] | None = None) -> int:
    """Make the tables of the named types; return the exit code."""
    import argparse
    import os
    import warnings

    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    parser = argparse.ArgumentParser(
        prog="python -m preflight.derive.families", description=__doc__
    )
    parser.add_argument("types", nargs="+", metavar="TYPE")
    parser.add_argument("--method", action="append", choices=tuple(METHODS), help="these alone")
    parser.add_argument("--missing", action="store_true", help="only what a type's files lack")
    options = parser.parse_args(None if args is None else [*args])
    for model_type in options.types:
        try:
            said = make(model_type, options.method or USUAL, not options.missing)
        except NotLaidOut as error:
            said = f"not laid out: {error}"
        except (
            Exception
        ) as error:  # whatever a type's own code raises: the others are made all the same
            traceback.print_exc()
            said = f"failed: {error!r}"
        print(f"{model_type}: {said}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
