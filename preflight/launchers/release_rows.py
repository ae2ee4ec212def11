"""Arguments of a framework by release: each has rows of first and last release, kind, default and choices between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from preflight.scripts.arguments.trainer_tables import Argument
from preflight.values import dataclass
from preflight.versions.boundary import release

Rows = Mapping[str, list[list[Any]]]


@dataclass(frozen=True)
class ReleaseRows:
    """The arguments of one command of a framework."""

    rows: Rows
    newest: str
    """The newest release that the table has."""

    def arguments(self) -> dict[str, Argument]:
        """Return every argument of any release, each as its newest has it."""
        return {
            name: Argument(
                name, rows[-1][2], rows[-1][3], tuple(rows[-1][4]) if rows[-1][4:] else None
            )
            for name, rows in self.rows.items()
        }

    def span(self, name: str) -> tuple[str, str] | None:
        """Return the first and the last release that have an argument; None where none has."""
        rows = self.rows.get(name)
        return None if rows is None else (rows[0][0], rows[-1][1])

    def newest_with(self, names: Collection[str]) -> str:
        """Return the newest release that has all of some arguments; the newest of all where none has."""
        spans = [span for name in names if (span := self.span(name)) is not None]
        last = min((span[1] for span in spans), key=release, default=self.newest)
        is_one = all(release(first) <= release(last) for first, _ in spans)
        return last if is_one else self.newest

    def oldest_with(self, names: Collection[str]) -> str:
        """Return the oldest release that has all of some arguments; the oldest of all where none is given."""
        firsts = [span[0] for name in names if (span := self.span(name)) is not None]
        oldest = min((rows[0][0] for rows in self.rows.values()), key=release)
        return max(firsts, key=release, default=oldest)

    def has(self, name: str, version: str) -> bool:
        """Tell whether a release has an argument; one that is newer than the table has those of its newest."""
        asked = min(release(version), release(self.newest))
        return any(release(row[0]) <= asked <= release(row[1]) for row in self.rows[name])

    def default(self, name: str, version: str) -> Any:
        """Return an argument's default in a release, or in the first that has it where that is a newer one."""
        rows = self.rows[name]
        found = [row for row in rows if release(row[0]) <= release(version)]
        return (found or rows)[-1][3]
