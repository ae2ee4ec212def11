"""What the bytes of a type's layers may be counted in, and which fields say how its states go from chunk to chunk."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from preflight.derive.layouts.changed_models import NUM_SOLVED, Seen
from preflight.derive.layouts.common_rows import numbers_of
from preflight.derive.layouts.type_configs import DEPTHS
from preflight.models.families.table_layout import HIDDEN

COUNTS = ("head", "expert", "group", "topk", "moe_k", "num_", "bucket")


def candidate_widths(seen: Seen, table: Mapping[str, Any]) -> list[str]:
    """Return what a layer's bytes may be counted in: its tensors' sides, the config's numbers, counts of both."""
    sides: dict[str, None] = {}
    for entry in table["kinds"]:
        for row in entry["tensors"]:
            sides.update((form, None) for form in row[2] if not form.isdigit() or len(form) > 1)
    numbers = numbers_of(seen.base[:NUM_SOLVED])
    small = {name: v for name, v in numbers.items() if len(set(v)) > 1 and name not in NOT_WIDTHS}
    # what every layer is handed, made for all of them before the first: the same multiple of it in every trace
    of_all = [
        f"{depth}*{name}"
        for depth in DEPTHS
        if depth in numbers
        for name in small
        if PER_LAYER in name
    ]
    found = dict.fromkeys([*of_all, *sides, *small])
    counts = [
        name for name in small if any(part in name for part in COUNTS) and max(small[name]) < 64
    ]
    for count in counts:
        for side in [*sides, *small]:
            if side != count and " + " not in side and count not in side.split("*"):
                found[f"{count}*{side}"] = None
    states = [name for name in small if "state" in name]
    found.update(
        {f"{side}*{state}": None for state in states for side in sides if state not in side}
    )
    heads = [name for name in small if "head" in name]
    for one, two in combinations(heads, 2):
        found.update({f"{one}*{two}*{state}": None for state in states})
    for chunk in (name for name in CHUNKS if name in small):  # each with each of a chunk's tokens
        found.update({f"{head}*{chunk}*{one}": None for head in heads for one in (*heads, *states)})
    positions = next((name for name in NOT_WIDTHS if name in numbers), None)
    if positions is not None:  # tables of positions, as long as the longest row
        by = next((name for name in HIDDEN if name in small), None)
        found[positions] = None
        found.update({f"{positions}*{name}": None for name in (by, *heads) if name})
    # tables of words, and matrices behind the layers whose second gradient is made beside the first
    tables = [entry for entry in table["body"] if entry["role"] in ("embedding", "final_norm")]
    found.update(
        {"*".join(row[2]): None for entry in tables for row in entry["tensors"] if len(row[2]) == 2}
    )
    by_heads = [name for name in found if "head" in name and "//" not in name]
    for name in (*by_heads, *(name for name in HIDDEN if name in small)):
        found.update({f"{name}//{part}": None for part in ROTATED_PARTS})
    return list(found)


PER_LAYER = "_per_layer_input"
ROTATED_PARTS = (2, 4, 8)
"""What a head may be divided by: a part of it is rotated, half by half."""
NOT_WIDTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length")
DELTA = {
    "key_heads": ("linear_num_key_heads", "linear_num_heads"),
    "value_heads": ("linear_num_value_heads", "linear_num_heads"),
    "key_dim": ("linear_key_head_dim", "linear_head_dim"),
    "value_dim": ("linear_value_head_dim", "linear_head_dim"),
    "kernel": ("linear_conv_kernel_dim",),
}
"""What a gated delta rule's sizes are called; its layers loop over chunks of 64 tokens."""
CHUNKS = ("mamba_chunk_size", "chunk_size")


def fields_of_chunks(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return which fields say how states are worked out chunk by chunk; nothing where there are none."""
    chunk = next((name for name in CHUNKS if name in fields), None)
    if chunk is not None:
        return {"chunk": chunk}
    delta = {part: next((n for n in names if n in fields), None) for part, names in DELTA.items()}
    return {"delta": delta} if all(delta.values()) else {}
