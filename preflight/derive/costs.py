"""formulas/costs/*.json, from traces of the installed transformers; `python -m preflight.derive FAMILY ...` writes some.

A small model of every family is traced in four sizes. What is allocated and freed in one of its
layers is the same list of tensors each time, so every tensor's bytes are a sum of named sizes
(preflight/formulas/layer_sizes.py) that is solved exactly, and so is what is alive at any point of the layer.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from preflight.derive.cost_files import known_costs, rendered, together, without
from preflight.derive.cost_forms import SOLVED, NotSolved, summed, taken_off, without_zeros
from preflight.derive.cost_peaks import highest_points
from preflight.derive.cost_traces import Seen, Walked, see_and_walk
from preflight.derive.small_models import EVERY_MODEL, LIGER_MODELS, OLDER_MODELS, small_config
from preflight.derive.target import Chosen, Files, Say
from preflight.derive.type_samples import layer_samples
from preflight.errors import BadInput
from preflight.formulas.adaptations import ADAPTATIONS, ALL_LINEAR, USUAL, Adaptation, targets_of
from preflight.formulas.layer_coefficients import (
    CHECKPOINTED,
    METHODS,
    family_costs,
    kind_of,
)
from preflight.formulas.layer_sizes import Form, bytes_of, layer_sizes
from preflight.model import MASKED_LM
from preflight.models import describe
from preflight.trace.log import (
    EMBEDDING_BACKWARD,
    LAYER_BACKWARD,
    LAYER_FORWARD,
    LOSS,
    LOSS_BACKWARD,
    OUTPUTS,
    REGION_END,
    Part,
)

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
                    name: _layer(walked, index, _samples_of(seen[0], index))
                    for name, index in middle.items()
                }
                shared = _shared(seen[0], walked, solved, 0)
                again = _shared(seen[0], walked, solved, 1)
                shared["adding"] = {name: again[name] for name in ADDED_TO if name in again}
                _leave_out_what_is_usual(shared, solved[kind_of(seen[0].units[0])])
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
    return {k: v for k, v in facts.items() if isinstance(v, (bool, str)) and k != "top_model_type"}


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


ADDED_TO = ("head", "embedding", "first_backward")
"""Where a gradient that finds another is alive beside it."""


Samples = Sequence[Mapping[str, int]] | None


def _samples_of(seen: Seen, index: int) -> Samples:
    """Return layers of a type that a table lays out in all proportions; None where the usual ones do."""
    if seen.model.facts.get("layout") != "table":
        return None
    name = str(seen.model.facts.get("costs", seen.model.model_type))
    return layer_samples(name, seen.plan, kind_of(seen.units[index]))


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


def _shared(
    seen: Seen, walked: Walked, solved: Mapping[str, Mapping[str, Any]], micro: int
) -> dict[str, Any]:
    """Return what is alive outside of layers, parameters and gradients: inputs, tables, masks, the last norm.

    `forward` when the last layer begins, `loss`, `loss_backward` and `head` at the peaks of the loss
    and of the head's gradient beside their `logits`, `backward` when the last layer's backward begins:
    what each layer is said to keep is taken off. `behind`, by kind, what more there is when the backward of a kind's last
    layer begins behind layers of another: what those hold on to. `first` when the first layer's backward begins, with
    what that layer kept; `embedding` at the end.
    """
    now: dict[str, int] = {}
    found: dict[str, Any] = {"logits": {}, "embedding": {}}
    kept: dict[str, int] = {}
    gone: dict[str, int] = {}
    handed: dict[int, Form] = {}
    last_of_kinds = {kind_of(unit): index for index, unit in enumerate(seen.units)}
    for part, levels in walked.levels.items():
        if part.micro != micro:
            continue
        of_layer = solved[kind_of(seen.units[part.layer])] if part.layer >= 0 else {}
        if part.name == LAYER_FORWARD:
            found["forward"] = now
        elif part.name in (LOSS, OUTPUTS):
            _keep_peak(found, "loss", now, _peak(levels, BY_LOGITS))
        elif part.name == LOSS_BACKWARD:
            _keep_peak(found, "loss_backward", now, _peak(levels, BY_LOGITS))
            if any("hV" in form for pair in levels for form in pair):
                _keep_peak(found, "head", now, _peak(levels, BY_HEAD))
        elif part.name == LAYER_BACKWARD:
            found.setdefault("backward", now)
            kind = kind_of(seen.units[part.layer])
            more = taken_off(summed(now, gone), found["backward"])
            # keys and values that this layer handed on are made anew, and those of the forward are gone: by its peak,
            # where it still keeps the new ones as every layer does
            beside = found["backward"]
            own = {k: n for k, n in handed[part.layer].items() if beside.get(k, 0) >= n}
            if -2 * _beyond(seen, part.layer, levels, of_layer["backward"]) > _bytes(
                seen, part, own
            ):
                more = taken_off(more, own)
            if more and last_of_kinds[kind] == part.layer:
                found.setdefault("behind", {})[kind] = more
            gone = summed(gone, of_layer["saved"])
            if part.layer == 0:
                found["first"] = now
                highest = highest_points(levels, of_layer["saved"], _samples_of(seen, 0))
                found["first_backward"] = [list(pair) for pair in highest]
        elif part.name == EMBEDDING_BACKWARD:
            found["embedding"] = _without_logits(summed(now, _peak(levels, BY_HEAD)))
        now = summed(now, levels[-1][0])
        if part.name == LAYER_FORWARD:
            now = taken_off(now, of_layer["saved"], of_layer.get("left", {}))
            kept = summed(kept, of_layer["saved"])
            beyond = taken_off(levels[-1][0], of_layer["saved"], of_layer.get("left", {}))
            handed[part.layer] = {k: n for k, n in beyond.items() if k != "T*h" and n > 0}
            # the last of a kind may keep keys and values besides, for layers that have none of their own
            more = {k: n for k, n in taken_off(now, found["forward"]).items() if k != "T*h"}
            is_more = bool(more) and min(more.values()) >= 0
            above = _beyond(seen, part.layer, levels, of_layer["forward"])
            if is_more and 2 * above >= _bytes(seen, part, more):  # at its peak, too
                found["forward"] = summed(found["forward"], more)
        elif part.name == REGION_END:
            left = [solved[kind_of(unit)].get("left", {}) for unit in seen.units]
            now = summed(now, *left)
    # nothing is taken off any more where the first layer's backward begins
    for point in ("first", "embedding"):
        if found.get(point):
            found[point] = summed(found[point], kept)
    return found


def _bytes(seen: Seen, part: Part, form: Form) -> int:
    return bytes_of(form, layer_sizes(seen.plan, seen.model, seen.units[part.layer]))


def _beyond(
    seen: Seen, index: int, levels: Sequence[tuple[Form, Form]], usual: Sequence[Any]
) -> int:
    """Return by how much the peak of a layer is above that of the layer that stands for its kind."""
    sizes = layer_sizes(seen.plan, seen.model, seen.units[index])

    def highest(points: Sequence[Any]) -> int:
        return max(
            bytes_of(point, sizes)
            if isinstance(point, Mapping)
            else sum(bytes_of(form, sizes) for form in point)
            for point in points
        )

    return highest(levels) - highest(usual)


def _leave_out_what_is_usual(shared: dict[str, Any], of_first: Mapping[str, Any]) -> None:
    """Drop the first layer's backward where it is that of any layer of its kind."""
    if shared.get("first_backward") == of_first["backward"]:
        del shared["first_backward"]
    adding = shared["adding"]
    if [summed(*pair) for pair in adding.get("first_backward", ())] == of_first["adding"]:
        del adding["first_backward"]


def _keep_peak(found: dict[str, Any], point: str, now: Form, peak: Form) -> None:
    level = summed(now, peak)
    logits = sum(level.get(name, 0) for name in LOGITS)
    if logits > found["logits"].get(point, -1):
        found["logits"][point] = logits
        found[point] = _without_logits(level)


LOGITS = ("T*V", "Y*V")
"""Of a decoder, and of one beside an encoder."""
BY_LOGITS = {"T*V": 10**9, "Y*V": 10**9, "hV": 10**6, "T*h": 10**4, "Y*h": 10**4}
"""For a vocabulary much larger than the layers."""
BY_HEAD = {"hV": 10**9, "hP": 10**7, "T*V": 10**6, "Y*V": 10**6, "T*h": 10**4, "Y*h": 10**4}


def _peak(levels: Sequence[tuple[Form, Form]], sizes: Mapping[str, int]) -> Form:
    """Return the highest level of a part."""
    return max(levels, key=lambda pair: bytes_of(pair[0], sizes) + bytes_of(pair[1], sizes))[0]


def _without_logits(form: Form) -> Form:
    return {name: count for name, count in form.items() if name not in LOGITS}


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
    wanted = [method for method in chosen.methods or usual if method in usual]
    if known is not None and chosen.only_missing:
        wanted = [method for method in wanted if method not in known["shared"]]
    entry = derive(name, wanted, adaptation)
    SOLVED.clear()
    return entry if known is None else together(without(known, wanted), entry)
