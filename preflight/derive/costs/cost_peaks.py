"""Which points of a layer's forward or backward can be its peak, for layers of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from preflight.formulas.layers.layer_sizes import CHUNK, Form

NEGLIGIBLE_SHARE = 0.002
"""Of what a layer has at its peak."""
ROWS_OF_IMAGE = 6404
"""What Llama 3.2 Vision's layers attend to of one image."""
NUM_SAMPLES = 600
"""Of the sizes that peaks are looked for in."""


def highest_points(
    live: Sequence[tuple[Form, Form]],
    base: Form,
    samples: Sequence[Mapping[str, int]] | None,
) -> list[tuple[Form, Form]]:
    """Keep the fewest points of a part whose highest is its peak, beside `base`, for layers of any size.

    With gradients and without; what is within NEGLIGIBLE_SHARE of the peak is as good as the peak. `samples` are
    layers in all proportions, where the usual ones are not this type's.
    """
    import numpy

    points = _tops(live)
    names = sorted({name for pair in (*points, (base,)) for form in pair for name in form})
    layers = _samples(set(names)) if samples is None else samples
    sizes = numpy.array([[one.get(name, 0) for name in names] for one in layers], float)

    def values(forms: Sequence[Form]) -> Any:
        counts = [[form.get(name, 0) for name in names] for form in forms]
        return sizes @ numpy.array(counts, float).T

    others = values([others for others, _ in points])
    both = others + values([gradients for _, gradients in points])
    levels = numpy.concatenate([others, both])
    peaks = levels.max(axis=1, keepdims=True)
    whole = numpy.concatenate([values([base])] * 2) + peaks
    missing = levels >= peaks - NEGLIGIBLE_SHARE * whole.clip(min=0)
    kept: list[int] = []
    while len(missing):
        best = int(missing.sum(axis=0).argmax())
        kept.append(best)
        missing = missing[~missing[:, best]]
    return [points[index] for index in sorted(kept)]


def _tops(live: Sequence[tuple[Form, Form]]) -> list[tuple[Form, Form]]:
    """Return the points of a part after which something is freed, or the part ends."""
    tops: list[tuple[Form, Form]] = []
    for index, pair in enumerate(live):
        after = live[index + 1] if index + 1 < len(live) else ({}, {})
        if _is_less(after, pair) and pair not in tops:
            tops.append(pair)
    return tops or [live[-1]]


def _is_less(after: tuple[Form, Form], before: tuple[Form, Form]) -> bool:
    """Tell whether something of what was alive before is gone after."""
    return any(
        new.get(name, 0) < old.get(name, 0)
        for old, new in zip(before, after, strict=True)
        for name in {**old, **new}
    )


def _samples(names: set[str]) -> Iterator[dict[str, int]]:
    """Yield sizes of layers from small to very large: tokens, widths and lengths in all proportions."""
    import random

    generator = random.Random(0)
    for number in range(NUM_SAMPLES):
        rows = ROWS_OF_IMAGE * (1 + number % 3)
        hidden = generator.choice((256, 1024, 2048, 4096, 8192, 16384))
        length = generator.choice((128, 512, 2048, 8192, 32768))
        tokens = length * generator.choice((1, 2, 4, 8, 32))
        heads = hidden // generator.choice((64, 128))
        groups = generator.choice((1, 2, 4, 8))
        head = generator.choice((64, 128, 256))
        wide = int(hidden * generator.choice((1, 2, 2.7, 3.5, 4, 6)))
        narrow = int(hidden * generator.choice((0.1, 0.25, 0.5, 1, 1.5, 2, 2.8, 3.5)))
        experts = generator.choice((8, 16, 64, 128))
        chosen = min(experts, generator.choice((1, 2, 4, 8)))
        width = {
            "1": 1, "h": hidden, "q": heads * head, "kv": heads * head // groups,
            "v": heads * head // groups, "o": heads * head, "I": wide, "S": narrow, "M": narrow,
            "nh": heads, "nkv": max(1, heads // groups), "d": head, "E": experts, "k": chosen,
            "kh": chosen * hidden, "kM": chosen * narrow, "Eh": experts * hidden,
            "EM": experts * narrow, "qr": hidden // 4, "kvr": hidden // 8, "rope": 64,
            "r": (rank := generator.choice((8, 64, 256))), "kr": chosen * rank, "V": 128_000, "rot": head // 2,
            "rotq": heads * head // 2, "restq": heads * head // 2,
            "rotkv": heads * head // groups // 2, "restkv": heads * head // groups // 2,
            "kE": chosen * experts, "ih": 64, "id": 128, "ihd": 8192, "idrope": 64, "ihdrope": 4096, "idrest": 64,
            "ihdrest": 4096, "topk": min(length, 2048),
            "lk": hidden, "lv": 2 * hidden, "lrk": 2 * hidden, "lnv": heads, "lnk": heads // 2,
            "lcc": CHUNK * heads, "mix": 4 * hidden, "ls": 2 * hidden * head,
        }  # fmt: skip
        sizes = {
            "C": 1,
            "B": tokens // length,
            "E": experts,
            "d": head,
            "LL": length * length,
            "V": 128_000,
            "hV": hidden * 128_000,
            "hP": hidden * max(length, 2048),
            "TX": tokens * rows,
            "TXp": tokens * rows,
        }
        for name in names:
            scale, _, what = name.partition("*")
            if what:
                scales = {
                    "T": tokens, "TL": tokens * length, "L": length, "Tp": tokens, "Tk": tokens,
                    "B": tokens // length, "Bc": tokens // length * CHUNK, "N": tokens // CHUNK,
                    "Te": tokens * chosen // experts, "X": tokens // length * rows,
                }  # fmt: skip
                sizes[name] = scales[scale] * width[what]
            elif name.startswith("e:"):
                sizes[name] = _weight(name, width) // experts
            elif name.startswith(("w:", "u:")):
                sizes[name] = _weight(name, width)
            elif name.startswith(("s:", "us:")):
                sizes[name] = _weight(name, width) // 64
        yield sizes


def _weight(name: str, width: Mapping[str, int]) -> int:
    is_of_stack = "expert" in name and "shared" not in name
    if ".lora_" in name:
        stacked = is_of_stack and not _is_of_one(name)
        return width["r"] * width["h"] * (width["E"] if stacked else 1)
    if is_of_stack and _is_of_one(name):
        return width["M"] * width["h"]
    if is_of_stack:
        double = 2 if "gate_up" in name else 1
        return width["EM"] * double * (1 if name.endswith("bias") else width["h"])
    if "router" in name or name.endswith("mlp.gate.weight"):
        return width["Eh"]
    if "indexer" in name:
        return width["id"] * width["h"] if "norm" not in name else width["id"]
    if name.endswith("_gate"):
        return 1
    if "norm" in name or name.endswith("bias"):
        return width["h"]
    for part, size in (("k_proj", "kv"), ("v_proj", "kv"), ("q_proj", "q"), ("o_proj", "q")):
        if part in name:
            return width[size] * width["h"]
    if "shared" in name:
        return width["S"] * width["h"]
    return width["h"] * width["I"]


def _is_of_one(name: str) -> bool:
    """Tell a parameter of one expert that is a module from one of all: `mlp.experts.0.up_proj.weight`."""
    return name.partition(".experts.")[2].partition(".")[0].isdigit()
