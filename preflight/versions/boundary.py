"""Releases of a library in which something is so, with where that was read; how versions are compared."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from preflight.values import dataclass

Version = tuple[int, ...]
"""The first three numbers of a release, so that versions compare as they should: `2.13.0+cpu` is (2, 13, 0)."""
NEWEST: Version = (999, 0, 0)
"""Stands for a library that nobody named where the newest is the likeliest one."""
OLDEST: Version = (0, 0, 0)
"""Stands for it where what is oldest needs most memory."""


@dataclass(frozen=True)
class Boundary:
    """The first release of a library in which something is so, and the first after it in which it no longer is."""

    library: str
    """Its import name, as in a plan's `versions`; the module here in which the boundary stands is named
    after it."""
    since: str
    what: str
    """What is so from this release on, and what was before where that matters."""
    evidence: str
    """Files and lines, each with its release, or what was run."""
    read_in: str = ""
    """The newest release in which it was seen to hold; empty: in the first alone."""
    until: str = ""
    """The first release in which it is no longer so; empty where that has not come."""

    __hash__ = object.__hash__  # each stands once, and is asked often

    @property
    def release(self) -> Version:
        """The first release as numbers."""
        return release(self.since)

    @property
    def newest_reading(self) -> str:
        """The newest release in which it was seen to hold."""
        return self.read_in or self.since

    def holds_in(self, versions: Mapping[str, str], unknown: Version = NEWEST) -> bool:
        """Tell whether it is so in these releases; `unknown` stands for a library that is not named."""
        notes = getattr(versions, "holds", None)  # preflight/remembered.py AskedVersions
        if notes is not None:
            return bool(notes(self, unknown))
        version = version_in(versions, self.library, unknown)
        return version >= self.release and not (self.until and version >= release(self.until))


def version_in(versions: Mapping[str, str], library: str, unknown: Version = NEWEST) -> Version:
    """Return a library's version as numbers; `unknown` where nobody named it.

    The only place that decides what a missing version means. A version without a number is a branch's
    name (`main`), which is newer than any release.
    """
    text = versions.get(library)
    return release(text) if text else unknown


def has_begun(
    since: Boundary | None, versions: Mapping[str, str], unknown: Version = NEWEST
) -> bool:
    """Tell whether a row of a table holds in these releases; a row without a boundary holds from the beginning."""
    return since is None or since.holds_in(versions, unknown)


@lru_cache(maxsize=256)
def release(text: str) -> Version:
    """Return the leading numbers of a version: `5.0` -> (5, 0, 0), `1.0.0rc1` -> (1, 0, 0), `main` -> NEWEST."""
    numbers = []
    for part in text.split("+")[0].split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if not digits or digits != part:
            break
    if not numbers:
        return NEWEST
    return (*numbers, 0, 0)[:3]
