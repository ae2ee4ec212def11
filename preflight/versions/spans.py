"""What not every release of transformers, TRL and PEFT has: arguments, keywords, imported names, types of models.

release_spans.json has them (`python -m preflight.derive release_spans`): of what came after the oldest release that a
launch may have, and of what has left.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial

from preflight.own_tables import table_beside
from preflight.values import NamedTuple
from preflight.versions.boundary import release

IMPORTED = "import"
"""What stands in the table for the names that a package gives, where others stand for those of a class."""
TYPES = "model_types"
OF_A_SCRIPT = ("ModelConfig", "ScriptArguments")
"""Classes of TRL whose arguments its own scripts take beside those of the trainer, from and to which they move."""


class Span(NamedTuple):
    """The releases that have something: from the first that was read with it, to the first after it without it."""

    since: str = ""
    """Empty where the oldest that was read has it."""
    until: str = ""
    """Empty where the newest has it."""

    def __str__(self) -> str:
        """Return the releases as a pin asks for them: `>=0.16.0,<0.28.0`."""
        return ",".join(
            [f">={self.since}"] * bool(self.since) + [f"<{self.until}"] * bool(self.until)
        )

    def is_over(self, version: str) -> bool:
        """Tell whether a release came after all that have it."""
        return bool(self.until) and release(version) >= release(self.until)

    def holds_in(self, version: str) -> bool:
        """Tell whether a release has it."""
        is_there = not self.since or release(version) >= release(self.since)
        return is_there and not self.is_over(version)


Spans = Mapping[str, Span]
"""Argument, keyword or name -> the releases that have it; all of them where it is not in here."""


_table = partial(table_beside, __file__, "release_spans.json")


@lru_cache(maxsize=128)
def spans_of(library: str, name: str) -> Spans:
    """Return what a class of a library takes in some of its releases alone, or what the library gives in them."""
    return {each: _span(text) for each, text in _table()[library].get(name, {}).items()}


def _span(text: str) -> Span:
    since = until = ""
    for clause in text.split(","):
        if clause.startswith(">="):
            since = clause[2:]
        else:
            until = clause[1:]
    return Span(since, until)


def classes_of(library: str) -> frozenset[str]:
    """Return the classes of a library whose arguments or keywords are not in every release."""
    return frozenset(_table()[library]) - {IMPORTED}


def words_of(library: str) -> frozenset[str]:
    """Return all that not every release of a library has: classes with their arguments, and names to import."""
    rows = _table()[library]
    return frozenset(rows).union(*rows.values())


@lru_cache(maxsize=1)
def moved_arguments() -> frozenset[str]:
    """Return the arguments of TRL's classes that not every release has."""
    names = (name for name in classes_of("trl") if name.endswith("Config"))
    return frozenset(argument for name in names for argument in spans_of("trl", name))


def knows_type(version: str, model_type: str) -> bool:
    """Tell whether a release of transformers may know a type of models: it is newer than the last that was read without."""
    without = _table()[TYPES].get(model_type)
    return without is None or release(version) > release(without)


def config_of(method: str) -> str:
    """Return the class of the arguments of one of TRL's methods: `SFTConfig` of sft; empty of what is none."""
    wanted = f"{method.replace('_', '').replace('-', '')}config"
    return next((name for name in sorted(classes_of("trl")) if name.lower() == wanted), "")


def home_of(argument: str, method: str | None) -> tuple[str, Span] | None:
    """Return the library that has an argument of a trainer in some of its releases alone, and in which.

    `method` is that of a trainer of TRL's; None for transformers' own. None where every release has it, or none.
    """
    homes = [("trl", config_of(method)), ("trl", "ModelConfig")] if method else []
    for library, name in (*homes, ("transformers", "TrainingArguments")):
        span = spans_of(library, name).get(argument) if name else None
        if span is not None:
            return library, span
    return None
