"""Every boundary in preflight/versions, and those that were read in an older release than the installed one."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module

from preflight import versions
from preflight.versions.boundary import Boundary, release

Named = Mapping[tuple[str, str], Boundary]
"""(library, name of the boundary) -> boundary."""


def boundaries() -> Named:
    """Return every boundary of every library, in the order of the files."""
    found = {}
    for module in pkgutil.iter_modules(versions.__path__):
        for name, value in vars(import_module(f"{versions.__name__}.{module.name}")).items():
            if isinstance(value, Boundary):
                found[module.name, name] = value
    return found


def read_in_older_ones(installed: Mapping[str, str], named: Named) -> Named:
    """Return the boundaries whose newest reading is of an older minor release than the installed library."""
    return {
        key: boundary
        for key, boundary in named.items()
        if boundary.library in installed
        and release(boundary.newest_reading)[:2] < release(installed[boundary.library])[:2]
    }
