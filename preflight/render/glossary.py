"""The words of reports, as people ask for them: `explain oom`, `explain reading`; a file beside this one has them."""

from __future__ import annotations

import os
from functools import lru_cache

from preflight.values import dataclass

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "glossary.tsv")


@dataclass(frozen=True)
class Word:
    """One word of a report."""

    name: str
    also: tuple[str, ...]
    """What else it is called, by launchers or by people."""
    meaning: str

    @property
    def page(self) -> str:
        """Its page, as `explain` prints it."""
        return f"{self.meaning}\n\nalso: {', '.join(self.also)}" if self.also else self.meaning


@lru_cache(maxsize=1)
def glossary() -> tuple[Word, ...]:
    """Return every word, in the order of the file."""
    with open(FILE, encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    return tuple(
        Word(name, tuple(word for word in also.split(", ") if word), meaning.replace("\\n", "\n"))
        for name, also, meaning in rows
    )


def word_of(name: str) -> Word | None:
    """Return the word that a name is, or is another name of; None where there is none."""
    words = glossary()
    own = next((word for word in words if word.name == name), None)
    return own or next((word for word in words if name in word.also), None)
