"""Sets of versions that a launch may have where nobody says them: what pip would have installed on some days."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from preflight import versions as rules
from preflight.libraries.pins import Pinned
from preflight.versions.boundary import Boundary, release
from preflight.versions.days import DAYS, NEEDS, OLDER_DAYS

Versions = Mapping[str, str]


def version_sets(exact: Versions, pinned: Mapping[str, Pinned]) -> tuple[Versions, ...]:
    """Return the sets that may be, oldest first, the one that is taken last.

    On each day, what is said is kept, a library that the repository bounds has the newest release of the day that is
    allowed, and the rest is as it was then: somebody may have one new library beside old ones. Where a bounded
    library changed since the day before, a set of its own stands for the time between. A bound that no release of these
    days keeps is of an older launch, which may have all of its libraries from days before.
    """
    sets: list[Versions] = []
    before: Versions = {}
    is_older = any(name not in exact and _is_older(name, pin) for name, pin in pinned.items())
    for day in (*(OLDER_DAYS.values() if is_older else ()), *DAYS.values()):
        versions = _on(day, exact, pinned)
        if versions is not None:
            for name, pin in pinned.items():
                sides = [
                    {**versions, name: version}
                    for version in _sides(name, pin)
                    if _is_between(version, before.get(name), day.get(name))
                    and not _is_alike(name, versions[name], version)
                ]
                sets += [
                    each
                    for each in sides
                    if not any(name in need and _asks(each, need) for need in NEEDS)
                ]
            sets.append(versions)
        before = day
    return tuple(sets) or ({**list(DAYS.values())[-1], **exact},)


def _on(day: Versions, exact: Versions, pinned: Mapping[str, Pinned]) -> Versions | None:
    """Return what may have been installed on a day; None where what is said did not go with what there was."""
    versions = {
        **day,
        **{n: _taken(n, day[n], pin) for n, pin in pinned.items() if n in day},
        **exact,
    }
    for need in NEEDS:
        if not _asks(versions, need):
            continue
        name, since, needed, _ = need
        if name in exact:
            if needed not in exact:
                return None
            continue  # somebody says both
        older = _before(name, since, pinned.get(name))
        if older is None:
            return None
        versions[name] = older
    return versions


def _asks(versions: Versions, need: tuple[str, str, str, str]) -> bool:
    """Tell whether a library asks for a newer release of another than that has."""
    name, since, needed, least = need
    is_asked = release(versions[name]) >= release(since)
    return is_asked and release(versions[needed]) < release(least)


def _is_older(name: str, pin: Pinned) -> bool:
    """Tell whether a library is bounded to releases before all that somebody may have today."""
    oldest = next(iter(DAYS.values())).get(name)
    if oldest is None or any(pin.allows(day[name]) for day in DAYS.values()):
        return False
    ends = [c for one in pin.specifiers for c in one.clauses if c.operator in ("<", "<=", "=*")]
    return any(release(clause.version) <= release(oldest) for clause in ends)


def _taken(name: str, newest: str, pin: Pinned) -> str:
    """Return the newest release up to one that a pin allows; the oldest that it allows where none is so old.

    A pin that allows nothing that is known here has the release nearest to it.
    """
    named = (
        clause.version
        for one in pin.specifiers
        for clause in one.clauses
        if clause.operator in ("==", ">=", "=*") and one.allows(clause.version)
    )
    known = [day[name] for day in (*OLDER_DAYS.values(), *DAYS.values())]
    by_release = {release(v): v for v in (*named, *known) if pin.allows(v)}
    allowed = [by_release[numbers] for numbers in sorted(by_release)]
    there = [version for version in allowed if release(version) <= release(newest)]
    if there or allowed:
        return there[-1] if there else allowed[0]
    return known[0] if _is_older(name, pin) else newest


def _before(name: str, since: str, pin: Pinned | None) -> str | None:
    """Return the newest release before one, as far as it is allowed."""
    older = [day[name] for day in DAYS.values() if release(day[name]) < release(since)]
    allowed = [version for version in older if pin is None or pin.allows(version)]
    return max(allowed, key=release, default=None)


def _sides(name: str, pin: Pinned) -> Iterator[str]:
    """Yield the releases that a library's bounds name, and those with which it changed where they end, as far as allowed.

    What is bounded from below alone has the newest release of each day, as what nothing bounds.
    """
    clauses = [clause for one in pin.specifiers for clause in one.clauses]
    named = [clause.version for clause in clauses if clause.operator in (">=", "=*")]
    ends = any(clause.operator not in (">=", ">", "!=") for clause in clauses)
    changed = [boundary.since for boundary in _boundaries(name)] if ends else []
    for version in [*changed, *named]:
        if pin.allows(version):
            yield version


def _is_between(version: str, before: str | None, day: str | None) -> bool:
    """Tell whether a release came between two days."""
    if before is None or day is None:
        return False
    return release(before) < release(version) < release(day)


def unlike(sets: Sequence[Versions]) -> tuple[Versions, ...]:
    """Return the sets that lie on different sides of some change, of those that are alike the newest."""
    kept: dict[tuple[bool, ...], Versions] = {}
    for versions in sets:
        sides = (b.holds_in(versions) for name in versions for b in _boundaries(name))
        key = tuple(sides)
        kept.pop(key, None)
        kept[key] = versions
    return tuple(kept.values())


@lru_cache(maxsize=16)
def _boundaries(name: str) -> list[Boundary]:
    """Return what changed in a library, from the modules that are named after it."""
    files = (module.name for module in iter_modules(rules.__path__))
    modules = [
        import_module(f"{rules.__name__}.{file}") for file in files if file.split("_")[0] == name
    ]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Boundary)
    ]


def _is_alike(name: str, version: str, other: str) -> bool:
    """Tell whether two releases of a library lie on the same side of all that changed in it."""
    return all(
        boundary.holds_in({name: version}) == boundary.holds_in({name: other})
        for boundary in _boundaries(name)
    )
