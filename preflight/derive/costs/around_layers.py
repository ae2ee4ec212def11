"""What a step has alive outside of layers, parameters and gradients, as sums of named sizes: from the first layer to the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preflight.derive.costs.cost_forms import summed, taken_off
from preflight.derive.costs.cost_peaks import highest_points
from preflight.derive.costs.cost_traces import Seen, Walked
from preflight.derive.layouts.type_samples import layer_samples
from preflight.formulas.cost_tables import kind_of
from preflight.formulas.layers.layer_sizes import Form, bytes_of, layer_sizes
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

ADDED_TO = ("head", "embedding", "first_backward")
"""Where a gradient that finds another is alive beside it."""


Samples = Sequence[Mapping[str, int]] | None


def samples_of(seen: Sequence[Seen], index: int) -> Samples:
    """Return layers of a type that a table lays out in all proportions, the traced ones among them; None where the usual
    ones do."""
    one = seen[0]
    if one.model.facts.get("layout") != "table":
        return None
    name = str(one.model.facts.get("costs", one.model.model_type))
    traced = [layer_sizes(each.plan, each.model, each.units[index]) for each in seen]
    return [*layer_samples(name, one.plan, kind_of(one.units[index])), *traced]


def shared_of(
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
    recorded = {part.layer for part in walked.levels if part.name == LAYER_BACKWARD}
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
                highest = highest_points(levels, of_layer["saved"], samples_of([seen], 0))
                found["first_backward"] = [list(pair) for pair in highest]
        elif part.name == EMBEDDING_BACKWARD:
            found["embedding"] = _without_logits(summed(now, _peak(levels, BY_HEAD)))
        now = summed(now, levels[-1][0])
        if part.name == LAYER_FORWARD and part.layer in recorded:
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


def leave_out_what_is_usual(shared: dict[str, Any], of_first: Mapping[str, Any]) -> None:
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
BY_LOGITS = {"T*V": 10**9, "Y*V": 10**9, "hV": 10**6, "TL*nh": 10**5, "T*h": 10**4, "Y*h": 10**4}
"""For a vocabulary much larger than the layers, and rows longer than a head is wide."""
BY_HEAD = {"hV": 10**9, "hP": 10**7, "T*V": 10**6, "Y*V": 10**6, "T*h": 10**4, "Y*h": 10**4}


def _peak(levels: Sequence[tuple[Form, Form]], sizes: Mapping[str, int]) -> Form:
    """Return the highest level of a part."""
    return max(levels, key=lambda pair: bytes_of(pair[0], sizes) + bytes_of(pair[1], sizes))[0]


def _without_logits(form: Form) -> Form:
    return {name: count for name, count in form.items() if name not in LOGITS}
