"""Make the rows of float8_linears.jsonl: bytes of torchao's float8 linear layers beside torch's own, on no tensors.

    PYTHONPATH=FOLDER_WITH_TORCHAO python tests/formulas/float8_linears.py

Rows of releases that agree are one row there.
"""

from __future__ import annotations

import json
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchao import __version__
from torchao.float8 import Float8LinearConfig, convert_to_float8_training

SHAPES = ((64, 1024, 1024), (4096, 256, 256), (512, 256, 2048))
RECIPES = ("tensorwise", "rowwise", "rowwise_with_gw_hp")


class Alive(TorchDispatchMode):
    """Bytes of the storages that operations make, without those that were given."""

    def __init__(self, *given: torch.Tensor) -> None:
        super().__init__()
        self.known: dict[int, Any] = {one.untyped_storage()._cdata: None for one in given}
        self.now = self.peak = 0

    def hold(self, value: Any) -> None:
        if isinstance(value, (list, tuple)):
            for one in value:
                self.hold(one)
        elif isinstance(getattr(value, "_data", None), torch.Tensor):
            self.hold(value._data)
        elif isinstance(value, torch.Tensor) and value.untyped_storage()._cdata not in self.known:
            storage = value.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)

            def gone(_: Any) -> None:
                del self.known[key]
                self.now -= size

            self.known[key] = weakref.ref(storage, gone)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.hold(result)
        return result


def row(shape: tuple[int, int, int], recipe: str | None, trains: bool) -> dict[str, int]:
    """Return what a layer keeps, and the most that its forward and its backward hold, of bytes that it made."""
    tokens, inputs, outputs = shape
    layer = torch.nn.Linear(inputs, outputs, bias=False, device="meta", dtype=torch.bfloat16)
    layer.requires_grad_(trains)
    model = torch.nn.Sequential(layer)
    if recipe is not None:
        convert_to_float8_training(model, config=config(recipe))
    given = torch.empty(tokens, inputs, device="meta", dtype=torch.bfloat16, requires_grad=True)
    weight = model[0].weight
    before = given * 1.0  # what only the layer may keep
    with Alive(given, weight) as forward:
        made = before * 1.0
        forward.peak = 0
        out = model(made)
        del made
    gradient = torch.empty_like(out)
    kept = forward.now - out.nbytes
    with Alive(given, weight, gradient) as backward:
        out.backward(gradient)
    return {"kept": kept, "forward": forward.peak, "backward": backward.peak}


def config(recipe: str) -> Any:
    """Return a recipe's config, by the function that its release has."""
    if hasattr(Float8LinearConfig, "from_recipe_name"):
        return Float8LinearConfig.from_recipe_name(recipe)
    from torchao.float8.config import Float8LinearRecipeName, recipe_name_to_linear_config

    name = {"tensorwise": "ALL_TENSORWISE", "rowwise": "ALL_AXISWISE"}.get(
        recipe, "LW_AXISWISE_WITH_GW_HP"
    )
    return recipe_name_to_linear_config(Float8LinearRecipeName[name])


if __name__ == "__main__":
    for recipe in RECIPES:
        for trains in (True, False):
            for shape in SHAPES:
                size = dict(zip(("tokens", "inputs", "outputs"), shape, strict=True))
                what = {
                    "torchao": [__version__.partition("+")[0]],
                    "recipe": recipe,
                    "trains": trains,
                }
                counted = {**row(shape, recipe, trains), "plain": row(shape, None, trains)}
                print(json.dumps({**what, **size, **counted}))
