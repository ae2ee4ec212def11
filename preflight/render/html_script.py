"""The sliders of a report: memory terms as coefficients, and a script that adds them up at the place asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from preflight.formulas.allocator import LOSS, is_gradient
from preflight.formulas.engines.buckets import BUCKET_WORDS, BUCKETS, bucket_of
from preflight.memory import (
    ALWAYS,
    EVERY_STEP,
    FIRST_STEP,
    HOST_ALLOWANCE,
    MOMENTS,
    ONLINE,
    PHASE_MOMENTS,
    STEP_MOMENTS,
    Level,
    MemoryTerm,
    Moment,
    Phase,
)
from preflight.peaks import doubtful_bytes, phases_of
from preflight.render.html_bars import unit_of
from preflight.render.words import phase_name
from preflight.studies.piecewise import Coefficients
from preflight.studies.what_if import WhatIf
from preflight.verdict import Answer

AXIS_WORDS = {
    "seq_len": "tokens of a sequence",
    "micro_batch_size": "micro batch of a rank",
    "world_size": "ranks",
}
OWN_WORDS = {"full": "all parameters", "lora": "adapters", "qlora": "adapters on a packed base"}
METHOD_WORDS = {
    "lora": "LoRA, rank 16 on all linear layers",
    "qlora": "QLoRA: a base in NF4, LoRA of rank 16",
}
EXPLAINED = (
    "Other lengths, micro batches, numbers of ranks and methods, everything else as it is."
    " The page adds up memory terms from the coefficients in it, as the command would."
)


def script() -> str:
    """Return the script of the sliders."""
    return Path(__file__).with_name("what_if.js").read_text(encoding="utf-8")


def sliders(what_ifs: Mapping[str, WhatIf]) -> list[str]:
    """Return the sliders with their data, the launch's own method first; hidden where no script runs."""
    lines = ['<section class="sliders"><h2>What if</h2>', f"<p>{escape(EXPLAINED)}</p>"]
    what_if = next(iter(what_ifs.values()))
    if len(what_ifs) > 1:
        options = "".join(
            f'<option value="{number}">{escape(words_of(method, number == 0))}</option>'
            for number, method in enumerate(what_ifs)
        )
        lines.append(f'<label><span>method</span><select name="method">{options}</select></label>')
    for axis, values in what_if.axes.items():
        if len(values) < 2:
            continue
        own = values.index(what_if.own[axis])
        lines.append(
            f"<label><span>{escape(AXIS_WORDS[axis])}</span>"
            f'<input type="range" name="{axis}" min="0" max="{len(values) - 1}" step="1" value="{own}">'
            f"<output>{values[own]:,}</output></label>"
        )
    lines.append('<p id="what-if-says" role="status"></p>')
    lines.append(
        '<div class="scroll"><table><tbody id="what-if-bars"></tbody></table></div></section>'
    )
    # `<` would end the script where a string holds a tag.
    methods = [exported(each) for each in what_ifs.values()]
    text = json.dumps(methods, separators=(",", ":")).replace("<", "\\u003c")
    return [*lines, f'<script type="application/json" id="what-if">{text}</script>']


def words_of(method: str, is_own: bool) -> str:
    """Return a method as the page names it; an adapter of the launch's own has its own rank."""
    if is_own:
        return f"as it is: {OWN_WORDS[method]}"
    return METHOD_WORDS[method]


def exported(what_if: WhatIf) -> dict[str, Any]:
    """Return all that the script knows: terms, their coefficients, and what they are judged by."""
    numbers: dict[Coefficients, int] = {}
    curves = {
        f"{micro},{ranks}": [
            [
                number,
                *(
                    [piece.last, numbers.setdefault(piece.coefficients, len(numbers))]
                    for piece in pieces
                ),
            ]
            for number, pieces in curve
        ]
        for (micro, ranks), curve in what_if.curves.items()
    }
    unit, unit_name = unit_of(what_if.capacity_bytes)
    phases = phases_of(what_if.terms)
    absent = {PHASE_MOMENTS[phase][0] for phase in ONLINE if phase not in phases}
    shown = tuple(moment for moment in MOMENTS if moment not in absent)

    def bits(moments: Iterable[Moment]) -> int:
        return sum(1 << shown.index(moment) for moment in set(moments) - absent)

    return {
        "axes": {name: list(values) for name, values in what_if.axes.items()},
        "moments": [moment.value for moment in shown],
        "sets": {
            "always": bits(ALWAYS),
            "loss": bits(LOSS),
            "step": bits(STEP_MOMENTS),
            "forward": bits([Moment.FORWARD]),
            "optimizer_step": bits([Moment.OPTIMIZER_STEP]),
            "prepare": bits([Moment.PREPARE]),
        },
        "phases": [
            {
                "name": phase_name(phase),
                "moments": bits(PHASE_MOMENTS.get(phase, EVERY_STEP)),
                "is_first_step": phase in FIRST_STEP,
                "is_shown": what_if.evaluates or phase is not Phase.EVALUATION,
            }
            for phase in phases
        ],
        "terms": [_term(term, bits(term.moments)) for term in what_if.terms],
        "coefficients": [[_short(number) for number in one] for one in numbers],
        "curves": curves,
        "expandable_segments": what_if.expandable_segments,
        "is_cuda": what_if.is_cuda,
        "allocator_factor": what_if.allocator_factor,
        "capacity": what_if.capacity_bytes or 0,
        "margin": what_if.margin_bytes,
        "host_bytes": what_if.host_bytes,
        "missing": what_if.missing or bool({"more", "either"} & what_if.may_take),
        "is_open": what_if.is_open,
        "may_take_less": bool({"less", "either"} & what_if.may_take),
        "buckets": list(BUCKETS),
        "bucket_words": [BUCKET_WORDS[bucket] for bucket in BUCKETS],
        "words": {answer.value: answer.words for answer in Answer},
        "unit": unit,
        "unit_name": unit_name,
    }


def _term(term: MemoryTerm, moments: int) -> dict[str, Any]:
    return {
        "name": term.name,
        "bucket": bucket_of(term),
        "level": term.level.value,
        "moments": moments,
        "from_second_step": term.from_second_step,
        "stream": term.stream,
        "is_gradient": is_gradient(term),
        "doubtful": doubtful_bytes(term),
        "is_allowance": term.level is Level.HOST and term.name == HOST_ALLOWANCE,
    }


def _short(number: float) -> int | float:
    """Return a whole number without its `.0`."""
    return int(number) if number.is_integer() else number
