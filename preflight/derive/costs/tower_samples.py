"""Sizes of published towers and of images, from small to as large as they get: where peaks are looked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from preflight.formulas.tower_sizes import sizes_of_rows
from preflight.model import ModelSpec, Tower
from preflight.models import describe
from preflight.models.registry import all_models

TOKENS = (64, 1024, 8192, 65536)
RANKS = (0, 16, 128)


@lru_cache(maxsize=16)
def samples(kind: str) -> tuple[Mapping[str, int], ...]:
    """Return the named sizes of every published tower of a kind, of any kind where none is, with few images and many."""
    own = {s.tower: s for s in _published() if s.tower is not None and s.tower.kind == kind}
    return tuple(
        sizes_of_rows(spec, *rows_of(spec.tower, tokens), rank)
        for spec in own.values()
        if spec.tower is not None
        for tokens in TOKENS
        for rank in RANKS
    )


def rows_of(tower: Tower, tokens: int) -> tuple[int, int, int, int]:
    """Return rows, patches, tokens and tiles of images that become so many tokens."""
    if tower.patches_per_token:
        patches = tokens * tower.patches_per_token
        return patches, patches, tokens, 1
    tiles = max(1, tokens // tower.tile_tokens)
    return tiles * tower.tile_rows, tiles * tower.tile_patches, tiles * tower.tile_tokens, tiles


@lru_cache(maxsize=1)
def _published() -> tuple[ModelSpec, ...]:
    return tuple(_described())


def _described() -> Iterator[ModelSpec]:
    for entry in all_models():
        if "vision_config" in entry.config:
            yield describe(entry.config, entry.id, "registry", entry.num_params)
