"""formulas/costs/towers/*.json, from vision towers of the installed transformers; `python -m preflight.derive KIND ...`
writes some.

A small tower of every kind runs on this CPU in three sizes, with real pixels: what it allocates and frees is the same
list of tensors each time, so every tensor's bytes are a sum of named sizes (preflight/formulas/tower_sizes.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from preflight.derive.costs.cost_files import names_in, numbered
from preflight.derive.costs.cost_forms import (
    SOLVED,
    NotSolved,
    solve,
    summed,
    taken_off,
    without_zeros,
)
from preflight.derive.costs.small_towers import (
    DEPTH,
    FAMILIES,
    NUM_BEHIND,
    NUM_VARIANTS,
    attentions,
)
from preflight.derive.costs.tower_samples import samples
from preflight.derive.costs.traced_towers import WITH_BEHIND, trace_tower
from preflight.derive.target import Chosen, Files, Say
from preflight.formulas.layers.layer_sizes import Form, bytes_of
from preflight.formulas.tower_sizes import DTYPES, MODES, key_of
from preflight.trace.log import (
    EMBEDDING_BACKWARD,
    END,
    GRADIENTS,
    LAYER_BACKWARD,
    LAYER_FORWARD,
    LOSS,
    LOSS_BACKWARD,
    PRELUDE,
    REGION_END,
    AllocationLog,
    Part,
)

MIDDLE = 2
"""A block that is like its neighbours: not the first, not the last, and no features are taken behind it."""
FOLDER = "preflight/formulas/costs/towers"
FORWARD = (PRELUDE, LAYER_FORWARD, LOSS, REGION_END)
LARGEST_TABLE = 16
"""Bytes for every row up to which a tensor is some positions or lengths: two numbers of 64 bits."""


def derive(kind: str) -> dict[str, Any]:
    """Return the file of one kind of tower: the forms of its parts by what trains, dtypes, attention, checkpointing."""
    found: dict[str, Any] = {}
    for attention in attentions(kind):
        for mode in MODES:
            for dtype in DTYPES[mode == "adapted"]:
                for checkpointed in (False, True):
                    if checkpointed and mode == "still":
                        continue  # checkpointing makes gradients pass
                    key = key_of(mode, dtype, attention, checkpointed)
                    try:
                        found[key] = _forms(kind, mode, dtype, attention, checkpointed)
                    except NotSolved as error:
                        sys.stderr.write(f"{kind}, {key}: not solved: {error}\n")
    return found


def _forms(kind: str, mode: str, dtype: str, attention: str, checkpointed: bool) -> dict[str, Any]:
    logs, sizes = [], []
    for variant in range(NUM_VARIANTS):
        log, named = trace_tower(kind, variant, mode, dtype, attention, checkpointed)
        logs.append(log)
        sizes.append(named)
    levels = _walk(logs, sizes)
    found: dict[str, Any] = {"still": {}}
    prelude = levels[Part(0, 0, PRELUDE)]
    block = levels[Part(0, 0, LAYER_FORWARD, MIDDLE)]
    first = levels[Part(0, 0, LAYER_FORWARD, 0)]
    tail = levels[Part(0, 0, LOSS)]
    saved = block[-1][0]
    deep = taken_off(first[-1][0], saved) if kind == "qwen3_vl" else {}
    forward = [part for part in levels if part.name in FORWARD]
    # what the first and the last block keep otherwise goes to the tail, where the library lets go of it
    every = summed(*(levels[part][-1][0] for part in forward))
    others = [prelude[-1][0], deep, *[saved] * DEPTH]
    behind: dict[str, Any] = {}
    held: Form = {}
    if kind in WITH_BEHIND:
        second = levels[Part(0, 0, LAYER_FORWARD, DEPTH + 1)]
        behind = {"saved": second[-1][0], "forward": _peaks(kind, second)}
        others += [behind["saved"]] * NUM_BEHIND
        if Part(0, 0, LAYER_BACKWARD, MIDDLE) not in levels:
            # nobody saves the outputs of blocks, which wait for the last one
            others, held = [prelude[-1][0]], saved
            saved = behind["saved"] = {}
    found = {
        "prelude": {"saved": prelude[-1][0], "forward": _peaks(kind, prelude)},
        "block": {"saved": saved, "forward": _peaks(kind, block)},
        "deep": deep,
        "tail": {"saved": taken_off(every, *others), "forward": _peaks(kind, tail)},
    }
    if behind:
        found["behind"] = behind
        found["held"] = held
    backward = levels.get(Part(0, 0, LAYER_BACKWARD, MIDDLE))
    if backward and behind:
        behind["backward"] = _peaks(kind, levels[Part(0, 0, LAYER_BACKWARD, DEPTH + 1)])
    if backward:
        found["block"]["backward"] = _peaks(kind, backward)
        found["prelude"]["backward"] = _peaks(
            kind, levels.get(Part(0, 0, EMBEDDING_BACKWARD), [({}, {})])
        )
    if Part(0, 0, LOSS_BACKWARD) in levels:
        found["tail"]["backward"] = _peaks(kind, levels[Part(0, 0, LOSS_BACKWARD)])
    return found


def _walk(
    logs: Sequence[AllocationLog], sizes: Sequence[Mapping[str, int]]
) -> dict[Part, list[tuple[Form, Form]]]:
    """Return what is alive after every event of a part beyond what was when it began: (others, gradients)."""
    forms: dict[int, Form] = {}
    found: dict[Part, list[tuple[Form, Form]]] = {}
    categories = logs[0].settled_categories()
    for parts in zip(*(log.changes() for log in logs), strict=True):
        part = parts[0][0]
        if len({len(changes) for _, changes in parts}) != 1:
            raise NotSolved(f"{part}: events differ with the sizes")
        if part.step < 0 or part.name == END:
            continue
        now: tuple[dict[str, int], dict[str, int]] = ({}, {})
        levels: list[tuple[Form, Form]] = [({}, {})]
        for events in zip(*(changes for _, changes in parts), strict=True):
            number, sign = events[0]
            if number not in forms:
                vector = tuple(log.sizes[n] for log, (n, _) in zip(logs, events, strict=True))
                try:
                    forms[number] = _named(vector, sizes)
                except NotSolved as error:
                    raise NotSolved(f"{part} {logs[0].operations[number]} {error}") from error
            side = now[categories[number] == GRADIENTS]
            for name, count in forms[number].items():
                side[name] = side.get(name, 0) + sign * count
            levels.append((_whole(now[0]), _whole(now[1])))
        found[part] = levels
    return found


def _named(vector: tuple[int, ...], sizes: Sequence[Mapping[str, int]]) -> Form:
    """Return a tensor's bytes as a sum of named sizes; one that has none, and is small, as so much of every row.

    Such are positions and lengths, of which every tower makes some.
    """
    for name, first in sizes[0].items():
        if first and not vector[0] % first:
            count = vector[0] // first
            if all(size == count * one[name] for size, one in zip(vector, sizes, strict=True)):
                return {name: count}
    most = max(-(-size // one["T*1"]) for size, one in zip(vector, sizes, strict=True))
    return {"T*1": most} if most <= LARGEST_TABLE else solve(vector, sizes)


def _whole(form: Mapping[str, int]) -> dict[str, int]:
    """Return a form with windows as the rows that they are together."""
    found: dict[str, int] = {}
    for name, count in form.items():
        if name.startswith("W*"):
            name, count = f"T*{name[2:]}", -(-count // 4)
        found[name] = found.get(name, 0) + count
    return without_zeros(found)


def _peaks(kind: str, levels: Sequence[tuple[Form, Form]]) -> list[list[Form]]:
    """Return the points of a part that are its highest for some published tower: (others, gradients)."""
    kept: list[tuple[Form, Form]] = []
    for sizes in samples(kind):
        best = max(levels, key=lambda pair: bytes_of(pair[0], sizes) + bytes_of(pair[1], sizes))
        if best not in kept:
            kept.append(best)
    return [list(pair) for pair in kept]


def rendered(found: Mapping[str, Any]) -> str:
    """Return the text of one file: a line per method, named sizes by their place in `names`; what repeats once."""
    names = sorted({*names_in(found)})
    places = {name: index for index, name in enumerate(names)}
    lines: list[str] = []
    known: dict[str, str] = {}
    for key, forms in found.items():
        text = json.dumps(numbered(forms, places), separators=(",", ":"))
        lines.append(f" {json.dumps(key)}: {json.dumps(known[text]) if text in known else text}")
        known.setdefault(text, key)
    return '{"names": ' + json.dumps(names) + ',\n"methods": {\n' + ",\n".join(lines) + "}}\n"


def names() -> tuple[str, ...]:
    """Return the kinds of towers."""
    return tuple(FAMILIES)


def files(say: Say) -> Files:
    """Yield the file of every kind of tower."""
    for kind in FAMILIES:
        say(kind)
        yield from files_of(kind, Chosen(), say)


def files_of(kind: str, chosen: Chosen, say: Say) -> Files:
    """Yield the file of one kind of tower, whole."""
    found = derive(kind)
    SOLVED.clear()
    yield f"{FOLDER}/{kind}.json", rendered(found)
