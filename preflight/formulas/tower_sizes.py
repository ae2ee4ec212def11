"""The named sizes that a vision tower's bytes are counted in: `6 T*h + 2 T*I + 2 w:mlp.fc1.weight`.

T*x    rows of the blocks' matrices times x: 1, h hidden, I the MLP's width, nh heads, d head size, rot half of that
P*x    patches times x, where a class token makes more rows of them: 1, h, px the numbers of a patch, dot its pixels
M*x    image tokens times x: 1, t a token's size, m what is merged into one
B*x    tiles times x: 1, h
L*x    rows of one tile times x: 1, h
Q*x    image tokens and what pads them times x: 1, h; TQ what says which row goes to which of a tile's
TT     the square of the rows: a mask over all of them; TL rows times those of a tile: a mask over each
w:name one parameter: of a block by its name in it, else by the end of its path
r      the rank of an adapter, times T and M
C      one byte
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.formulas.adapters.adapters import lora_tensors
from preflight.launch import LaunchPlan
from preflight.model import LINEAR, ModelSpec
from preflight.remembered import remembered

MODES = ("still", "projector", "passed", "adapted", "trained")
"""What trains: nothing and nothing in front asks for gradients, the projector alone, nothing but gradients pass, adapters,
everything."""
FULL = ("bf16", "bf16 autocast", "fp32 autocast", "fp32")
"""Dtype of the weights, and whether the forward is inside autocast."""
DTYPES = {False: FULL, True: (*FULL, "bf16 fp32 adapters", "bf16 autocast fp32 adapters")}
"""The same by whether there are adapters, which may be wider than the weights."""


def key_of(mode: str, dtype: str, attention: str, checkpointed: bool) -> str:
    """Return the name of a method in the file of a tower."""
    return ", ".join((mode, dtype, attention, *(("checkpointed",) if checkpointed else ())))


def attended_rows(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the image tokens of one sequence that layers of transformers' own attend to; 0 where there are none, or nobody
    says how many images there are. Those of torchtune's are bounded (tune_images.py)."""
    if model.tower is None or not model.tower.is_apart or plan.vision is None:
        return 0
    if plan.trainer == "torchtune":
        return 0
    return (plan.vision.images_per_sequence or 0) * model.tower.tile_tokens


@remembered
def sizes_of_rows(
    model: ModelSpec, rows: int, patches: int, tokens: int, tiles: int, rank: int
) -> dict[str, int]:
    """Return every named size; of names with equal sizes, the first is meant."""
    tower = model.tower
    assert tower is not None
    hidden, heads = tower.hidden_size, tower.num_heads
    head = hidden // heads
    sizes = {"C": 1}
    widths = {"h": hidden, "I": tower.intermediate_size, "1": 1, "nh": heads, "d": head}
    widths.update({"rot": head // 2, "r": rank})
    sizes.update((f"T*{name}", rows * size) for name, size in widths.items())
    tile = tower.tile_rows or rows
    sizes["TT"] = rows * rows
    sizes.update(
        (
            ("P*h", patches * hidden),
            ("P*1", patches),
            ("P*px", patches * tower.patch_values),
            ("P*dot", patches * tower.patch_values // 3),
        )
    )
    merged = hidden * max(1, patches // max(1, tokens))
    for name, size in (
        ("t", tower.token_size),
        ("m", merged),
        ("h", hidden),
        ("1", 1),
        ("r", rank),
    ):
        sizes[f"M*{name}"] = tokens * size
    sizes.update((("Q*h", tiles * tower.tile_tokens * hidden), ("Q*1", tiles * tower.tile_tokens)))
    sizes.update((("TL", rows * tile), ("TQ", rows * tower.tile_tokens)))
    sizes.update((("B*h", tiles * hidden), ("B*1", tiles), ("L*h", tile * hidden), ("L*1", tile)))
    if rows % 4 == 0:
        sizes.update((f"W*{name}", rows * size // 4) for name, size in widths.items())
    for name, size in _weights(model, rank):
        sizes.setdefault(f"w:{name}", size)
    return sizes


def _weights(model: ModelSpec, rank: int) -> Iterator[tuple[str, int]]:
    """Yield the elements of every weight, and of the two beside a linear one; those that are traced have none beside a
    convolution."""
    for unit in model.units:
        if unit.role not in ("tower", "projector"):
            continue
        within = "" if unit.name.endswith("*") else f"{unit.name.rpartition('.')[2]}."
        for tensor in unit.tensors:
            yield f"{within}{tensor.name}", tensor.num_params
            if rank and tensor.kind == LINEAR:
                for extra in lora_tensors(tensor, rank):
                    yield f"{within}{extra.name}", extra.num_params
