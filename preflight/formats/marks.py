"""The entries of a file while it is read: one limit for how many, and one word on a key that is given twice."""

from __future__ import annotations

from preflight.errors import BadInput, Problem
from preflight.formats.document import KeyPath, Mark, at, dotted

MAX_ENTRIES = 200_000
"""Of one file, aliases counted as often as they are used: above this it is an attack, not a config."""
MAX_LISTED = 1_000_000
"""Of a file that lists things, as measured runs do, and is as long as so many need."""
LEAST_CHARACTERS = 8
"""Of an entry in such a list; what has fewer is made of aliases."""
MAX_DUPLICATES = 200


class Entries:
    """Marks by key path, and the problems that do not keep the file from being read."""

    def __init__(self, path: str, text: str, severity: str) -> None:
        self.path = path
        self._most = min(MAX_LISTED, max(MAX_ENTRIES, len(text) // LEAST_CHARACTERS))
        self.marks: dict[KeyPath, Mark] = {}
        self._severity = severity
        self._duplicates: list[tuple[int, Problem]] = []

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The keys that are given twice, in file order."""
        return tuple(problem for _, problem in sorted(self._duplicates, key=lambda item: item[0]))

    def refuse_more(self) -> None:
        """Raise BadInput where the file has as many entries as a file may have."""
        if len(self.marks) >= self._most:
            raise BadInput.one(f"{self.path} has more than {self._most:,} entries", self.path)

    def given_twice(self, key_path: KeyPath, first: int, second: int) -> None:
        """Note a key that a mapping has on two lines, and drop the marks of its first value: the second counts."""
        key = dotted(key_path)
        if first == second:
            message = f"{key} is given twice; the last one counts"
        else:
            message = f"{key} is given twice, on lines {first} and {second}; line {second} counts"
        where = at(self.path, second)
        problem = Problem(message, where, f"remove one of the two {key}", severity=self._severity)
        self._duplicates.append((second, problem))
        if len(self._duplicates) > MAX_DUPLICATES:
            raise BadInput.one(f"{self.path} gives {MAX_DUPLICATES} keys twice", self.path)
        depth = len(key_path)
        for below in [path for path in self.marks if path[:depth] == key_path]:
            del self.marks[below]
