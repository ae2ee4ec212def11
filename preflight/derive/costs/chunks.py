"""Layers that loop over chunks of a sequence: how they are traced, and what grows with the chunks."""

from __future__ import annotations

from preflight.derive.costs.loops import NotAlike, Turns
from preflight.formulas.layers.layer_sizes import CHUNK
from preflight.model import ModelSpec

FEW, MANY = 3, 5
"""Chunks of the sequences that are traced. What grows between them grows with every chunk more; neither divides
the bytes of what one chunk takes, so that a chunk's tensor is not mistaken for a whole sequence's."""
BATCHES = (2, 3, 5)
UNPACKING_BATCHES = (9, 11, 14)
"""The same on a packed base: more tokens than its fused product takes."""
GROWS_INTO = {"B*ls": "N*ls", "B*lnv": "N*lnv", "B*lrk": "N*lrk"}
"""What one chunk of every sequence takes -> what all chunks do; `Bc*x` grows into `T*x`."""


def loops_over_chunks(model: ModelSpec) -> bool:
    """Tell whether a model has layers that work on a sequence chunk by chunk."""
    return "delta" in model.facts


def shapes_of(num_chunks: int, is_packed: bool) -> tuple[tuple[int, int], ...]:
    """Return sequences and their length by variant: whole chunks, so that nothing is padded."""
    batches = UNPACKING_BATCHES if is_packed else BATCHES
    return tuple((batch, num_chunks * CHUNK) for batch in batches)


def _of_all_chunks(name: str, each: int) -> tuple[str, int]:
    if name.startswith("Bc*"):
        return f"T*{name.removeprefix('Bc*')}", each
    if name == "C" and each % CHUNK == 0:
        return "L*1", each // CHUNK
    if name not in GROWS_INTO:
        raise NotAlike(f"{name} grows with the chunks")
    return GROWS_INTO[name], each


TURNS = Turns(FEW, MANY, _of_all_chunks)
