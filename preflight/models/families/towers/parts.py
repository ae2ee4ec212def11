"""What the layouts of vision towers are put together from: units, tables, convolutions, and sizes of tiled images."""

from __future__ import annotations

from collections.abc import Callable

from preflight.model import EMBEDDING, NORM, ModelUnit, ParameterTensor, Tower
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import Tensors, linear, norm, other
from preflight.plan_parts import PROJECTOR, TOWER

Layout = tuple[tuple[ModelUnit, ...], Tower | None]
LayOut = Callable[[ConfigView, ConfigView, int], Layout]
"""View of the whole config, of its vision section, hidden size of the decoder -> units and sizes."""


def tower_unit(role: str, path: str, *tensors: ParameterTensor, count: int = 1) -> ModelUnit:
    return ModelUnit(path, role, tensors, count)


def vectors(name: str, hidden: int, bias: bool = True) -> Tensors:
    return norm(name, hidden, bias=bias)


def table(name: str, *shape: int) -> Tensors:
    return (ParameterTensor(name, shape, EMBEDDING),)


def side(vision: ConfigView, name: str) -> int:
    """Return a size that some files give for both sides."""
    value = vision.get(name)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], int):
        return max(1, value[0])
    return vision.size(name)


def patches_of(vision: ConfigView) -> int:
    return (side(vision, "image_size") // side(vision, "patch_size")) ** 2


def patch_values(vision: ConfigView) -> int:
    frames = vision.count("temporal_patch_size") or 1
    channels = vision.optional_size("in_channels") or vision.size("num_channels")
    return channels * frames * side(vision, "patch_size") ** 2


def patch_conv(name: str, vision: ConfigView, hidden: int, bias: bool) -> Tensors:
    """Return the convolution that makes a vector of a patch; of two frames' patches where films are taken."""
    frames = vision.count("temporal_patch_size")
    patch = side(vision, "patch_size")
    channels = vision.size("in_channels" if frames else "num_channels")
    shape = (hidden, channels, *((frames,) if frames else ()), patch, patch)
    return other(f"{name}.weight", *shape) + (other(f"{name}.bias", hidden) if bias else ())


def norm_alone(hidden: int, bias: bool = True) -> Tensors:
    names = ("weight", "bias") if bias else ("weight",)
    return tuple(ParameterTensor(name, (hidden,), NORM) for name in names)


def tower_layers(vision: ConfigView, path: str, block: Callable[[int, int], Tensors]) -> ModelUnit:
    tensors = block(vision.size("hidden_size"), vision.size("intermediate_size"))
    return tower_unit(TOWER, f"{path}.*", *tensors, count=vision.size("num_hidden_layers"))


def tiled_sizes(
    kind: str,
    vision: ConfigView,
    text_hidden: int,
    tile_rows: int,
    tile_tokens: int,
    most_tiles: int = 1,
) -> Tower:
    """Return the sizes of a tower whose images are cut into tiles of one size."""
    return Tower(
        kind=kind,
        depth=vision.size("num_hidden_layers"),
        hidden_size=vision.size("hidden_size"),
        num_heads=vision.size("num_attention_heads"),
        intermediate_size=vision.size("intermediate_size"),
        patch_values=patch_values(vision),
        token_size=text_hidden,
        tile_rows=tile_rows,
        tile_patches=patches_of(vision),
        tile_tokens=tile_tokens,
        most_tiles=most_tiles,
    )


def two_linears(
    path: str, num_in: int, hidden: int, bias: bool, *before: ParameterTensor
) -> ModelUnit:
    return tower_unit(
        PROJECTOR,
        path,
        *before,
        *linear("linear_1", hidden, num_in, bias),
        *linear("linear_2", hidden, hidden, bias),
    )
