"""Every plan that a search may reach, tried one by one: what the search is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from preflight.search.lattice import Doses, Lattice, Reached


def every_plan(lattice: Lattice) -> Iterator[tuple[Doses, Reached]]:
    """Yield every plan of a lattice."""
    for doses in product(*(range(lever.num_doses + 1) for lever in lattice.levers)):
        reached = lattice.reach(doses)
        if reached is not None:
            yield doses, reached
