"""What a GPU costs an hour: the shipped listings, and prices of one's own in their place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from preflight.devices.gpu_table import gpu_table
from preflight.errors import Problem, raise_if_any
from preflight.formats.load import read_data_file
from preflight.near_names import nearest_fix
from preflight.values import dataclass

KINDS = ("on-demand", "serverless")
"""Of listings, the preferred first."""


@dataclass(frozen=True)
class Price:
    """One GPU for one hour."""

    usd_per_hour: float
    provider: str
    as_of: str
    source: str

    @property
    def words(self) -> str:
        """Whose price it is: `Verda, 2026`, or the file that it was given in."""
        return f"{self.provider}, {self.as_of}" if self.provider else self.source


@lru_cache(maxsize=1)
def listed_prices() -> Mapping[str, Price]:
    """Return the lowest listed price of every card by its key; on-demand before serverless."""
    folder = os.path.dirname(os.path.abspath(__file__))
    best: dict[str, tuple[int, float, Price]] = {}
    with open(os.path.join(folder, "prices.tsv"), encoding="utf-8") as file:
        next(file)
        for line in file:
            key, usd, kind, provider, as_of, source = line.rstrip("\n").split("\t")
            rank = KINDS.index(kind), float(usd)
            if key not in best or rank < best[key][:2]:
                best[key] = (*rank, Price(float(usd), provider, as_of, source))
    return {key: price for key, (_, _, price) in best.items()}


def read_prices(path: str) -> Mapping[str, Price]:
    """Return the prices of a user's file, `GPU KEY: dollars`; raise BadInput naming every wrong entry at once."""
    file = read_data_file(path)
    known = tuple(entry.key for entry in gpu_table())
    problems: list[Problem] = []
    prices: dict[str, Price] = {}
    for key, usd in file.value.items():
        where = file.place(key)
        if key not in known:
            fix = nearest_fix(str(key), known) or "a key of the GPU table such as h100-sxm-80"
            problems.append(Problem(f"no device has the key {key!r}", where, fix))
        elif not _is_price(usd):
            problems.append(
                Problem(
                    f"{key} must be dollars per GPU and hour, not {usd!r}", where, f"{key}: 2.5"
                )
            )
        else:
            prices[key] = Price(float(usd), "", "", path)
    raise_if_any(problems)
    return prices


def _is_price(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value < float("inf")
