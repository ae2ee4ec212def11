"""Every boundary in preflight/versions, and those that were read in an older release than the installed one."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module

from preflight import versions
from preflight.versions.boundary import Boundary, release
from preflight.versions.installed import KNOWN_VERSIONS

Named = Mapping[tuple[str, str], Boundary]
"""(file, name of the boundary) -> boundary."""


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
        and not boundary.until
        and release(boundary.newest_reading)[:2] < release(installed[boundary.library])[:2]
    }


def known_versions_behind(installed: Mapping[str, str]) -> list[str]:
    """Return the libraries of which a newer minor release is installed than is taken where none is."""
    return [
        name
        for name, version in KNOWN_VERSIONS.items()
        if name in installed and release(version)[:2] < release(installed[name])[:2]
    ]


def rules_to_read(installed: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines about rules that may not hold in the releases that are installed here."""
    found = read_in_older_ones(installed, boundaries())
    for file in dict.fromkeys(file for file, _ in found):
        library = next(rule.library for (owner, _), rule in found.items() if owner == file)
        yield ""
        yield f"preflight/versions/{file}.py was read in an older release than {installed[library]}:"
        for (owner, name), rule in found.items():
            if owner == file:
                yield f"  {name}: since {rule.since}, read in {rule.newest_reading}: {rule.what}"
                yield f"    {rule.evidence}"
    behind = known_versions_behind(installed)
    if behind:
        yield ""
        yield "preflight/versions/installed.py takes where a library is not installed:"
        for library in behind:
            yield f"  {library} {KNOWN_VERSIONS[library]}; {installed[library]} is installed here"
    if not found and not behind:
        yield "every rule about versions was read in the release that is installed here"
