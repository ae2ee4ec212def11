"""formulas/costs/*.json, from traces of the installed transformers; `python -m preflight.derive FAMILY ...` writes some.

A small model of every family is traced in four sizes. What is allocated and freed in one of its
layers is the same list of tensors each time, so every tensor's bytes are a sum of named sizes
(preflight/formulas/layers/layer_sizes.py) that is solved exactly, and so is what is alive at any point of the layer.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from preflight.derive.costs.around_layers import (
    ADDED_TO,
    Samples,
    leave_out_what_is_usual,
    samples_of,
    shared_of,
)
from preflight.derive.costs.cost_files import both_ways, known_costs, rendered, together, without
from preflight.derive.costs.cost_forms import SOLVED, NotSolved, summed, taken_off, without_zeros
from preflight.derive.costs.cost_peaks import highest_points
from preflight.derive.costs.cost_traces import Seen, Walked, see_and_walk
from preflight.derive.layouts.small_models import small_config
from preflight.derive.layouts.small_sizes import EVERY_MODEL, LIGER_MODELS, OLDER_MODELS
from preflight.derive.target import Chosen, Files, Say
from preflight.errors import BadInput
from preflight.formulas.adapters.adaptations import (
    ADAPTATIONS,
    ALL_LINEAR,
    USUAL,
    Adaptation,
    targets_of,
)
from preflight.formulas.cost_tables import CHECKPOINTED, METHODS, family_costs, kind_of
from preflight.model import MASKED_LM
from preflight.models import describe
from preflight.trace.log import LAYER_BACKWARD, LAYER_FORWARD, Part

CANNOT_RUN = (
    ArithmeticError,
    AttributeError,
    BadInput,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What transformers and torch raise for a small model of a type that they cannot build or run; the next one is tried."""


def derive(
    model_type: str,
    methods: Iterable[str] = tuple(METHODS),
    adaptation: Adaptation = USUAL,
    head: str = MASKED_LM,
) -> dict[str, Any]:
    """Return the file of one family: facts, and the forms of every kind of layer by method.

    `head`: of an encoder, the objective that is trained.
    """
    entry: dict[str, Any] = {"kinds": {}, "shared": {}}
    for method in methods:
        for checkpointing in (False, True):
            key = method + (CHECKPOINTED if checkpointing else "")
            try:
                seen, walked = see_and_walk(model_type, method, checkpointing, adaptation, head)
                middle = _middle_layers(seen[0])
                solved = {
                    name: _layer(walked, index, samples_of(seen, index))
                    for name, index in middle.items()
                }
                shared = shared_of(seen[0], walked, solved, 0)
                again = shared_of(seen[0], walked, solved, 1)
                shared["adding"] = {name: again[name] for name in ADDED_TO if name in again}
                leave_out_what_is_usual(shared, solved[kind_of(seen[0].units[0])])
            except NotSolved as error:
                sys.stderr.write(f"{model_type}, {key}: not solved: {error}\n")
                continue
            except CANNOT_RUN as error:
                sys.stderr.write(f"{model_type}, {key}: cannot be run: {error}\n")
                continue
            entry["facts"] = _plain(seen[0].model.facts)
            entry["shared"][key] = shared
            for name, forms in solved.items():
                entry["kinds"].setdefault(name, {})[key] = forms
    return entry


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    around = ("top_model_type", "whole")
    return {k: v for k, v in facts.items() if isinstance(v, (bool, str)) and k not in around}


def _middle_layers(seen: Seen) -> dict[str, int]:
    """Return a layer of every kind that is neither the first nor the last of its kind where there is one."""
    places: dict[str, list[int]] = {}
    for index, unit in enumerate(seen.units):
        places.setdefault(kind_of(unit), []).append(index)
    ends = (0, len(seen.units) - 1)
    found = {}
    for kind, own in places.items():
        inner = [index for index in own if index not in ends] or own[-1:]
        found[kind] = inner[1] if len(own) > 2 and inner[0] == own[0] and inner[1:] else inner[0]
    return found


def _layer(walked: Walked, index: int, samples: Samples) -> dict[str, Any]:
    forward = walked.levels[Part(0, 0, LAYER_FORWARD, index)]
    backward = walked.levels[Part(0, 0, LAYER_BACKWARD, index)]
    adding = walked.levels[Part(0, 1, LAYER_BACKWARD, index)]
    left = walked.left.get(index, {})
    saved = taken_off(summed(*forward[-1]), left)
    found = {
        "saved": saved,
        "forward": [summed(*pair) for pair in highest_points(forward, {}, samples)],
        "backward": [list(pair) for pair in highest_points(backward, saved, samples)],
        "adding": [summed(*pair) for pair in highest_points(adding, saved, samples)],
    }
    return {**found, "left": without_zeros(left)} if any(left.values()) else found


def files(say: Say) -> Files:
    """Yield the files of every family."""
    for name in EVERY_MODEL:
        for adaptation in ADAPTATIONS:
            say(f"{name} {adaptation.folder}")
            yield from file_of(name, say, Chosen(), adaptation)


def names() -> tuple[str, ...]:
    """Return the families that may be made alone; those with Liger's modules need them on the path,
    and some an older transformers."""
    return (*EVERY_MODEL, *LIGER_MODELS, *OLDER_MODELS)


def files_of(name: str, chosen: Chosen, say: Say) -> Files:
    """Yield the files of one family: those that are kept of it, or those with adapters where it is said."""
    for adaptation in ADAPTATIONS:
        is_kept = adaptation is USUAL or family_costs(name, adaptation.folder) is not None
        if (adaptation.folder or ALL_LINEAR) in chosen.adapters or (
            not chosen.adapters and is_kept
        ):
            yield from file_of(name, say, chosen, adaptation)


def file_of(name: str, say: Say, chosen: Chosen, adaptation: Adaptation = USUAL) -> Files:
    """Yield the file of a family and a way of adapting it, where any of its layers could be solved."""
    usual = [m for m in METHODS if adaptation is USUAL or "adapter" in METHODS[m]]
    if targets_of(adaptation, describe(small_config(name), name, "small_models.py")) is None:
        return
    entry = chosen_costs(name, chosen, usual, adaptation)
    gc.collect()
    if not entry["kinds"]:
        say(f"{name}: no layer could be solved, and its file stays as it is")
        return
    folder = f"{adaptation.folder}/" if adaptation.folder else ""
    yield f"preflight/formulas/costs/{folder}{name}.json", rendered(entry)


def chosen_costs(
    name: str, chosen: Chosen, usual: Sequence[str], adaptation: Adaptation = USUAL
) -> dict[str, Any]:
    """Return a family's file with what is chosen of it derived anew, and the rest as it is kept."""
    is_whole = not chosen.methods and not chosen.only_missing
    known = None if is_whole else known_costs(name, adaptation.folder)
    asked = chosen.methods or usual
    wanted = [method for method in METHODS if method in asked and method in usual]
    if known is not None and chosen.only_missing:
        wanted = [method for method in wanted if method not in known["shared"]]
    entry = derive(name, wanted, adaptation)
    SOLVED.clear()
    return entry if known is None else together(without(known, both_ways(wanted)), entry)
