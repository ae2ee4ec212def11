"""Editing a command line word by word: flags keep the spelling and the form in which the user wrote them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from preflight.bool_words import STRTOBOOL
from preflight.lazy_pattern import lazy_pattern
from preflight.values import dataclass

_NEGATIVE_NUMBER = lazy_pattern(r"-(\d+|\d*\.\d+)$")


@dataclass(frozen=True)
class Occurrence:
    """One place of a command line where a flag is given."""

    index: int
    flag: str
    """As typed, without `=value`."""
    values: tuple[str, ...]
    """The words that are its values; one where the value is attached, none for a bare switch."""
    is_attached: bool = False
    """`--flag=value`."""
    is_negated: bool = False
    """`--no_flag`, which stands for false."""

    @property
    def value(self) -> str | None:
        """Return the first value, or None for a bare switch."""
        return self.values[0] if self.values else None

    @property
    def num_words(self) -> int:
        return 1 if self.is_attached else 1 + len(self.values)


def spellings(name: str) -> tuple[str, ...]:
    """Return the spellings of an option: with underscores and with dashes."""
    bare = name.lstrip("-")
    return (f"--{bare.replace('-', '_')}", f"--{bare.replace('_', '-')}")


def is_flag(word: str) -> bool:
    """Tell whether argparse takes a word for an option rather than for a value."""
    return (
        word.startswith("-")
        and len(word) > 1
        and " " not in word
        and not _NEGATIVE_NUMBER.match(word)
    )


def find_flag(
    argv: Sequence[str], start: int, stop: int, names: Iterable[str], takes_many: bool = False
) -> list[Occurrence]:
    """Return every place in argv[start:stop] that gives one of the options, `--no_` forms included."""
    plain = {spelling for name in names for spelling in spellings(name)}
    negated = {f"--no_{flag[2:]}" for flag in plain} | {f"--no-{flag[2:]}" for flag in plain}
    found = []
    for index in range(start, stop):
        word = argv[index]
        if word == "--":
            break
        flag = word.partition("=")[0]
        if flag in plain:
            found.append(occurrence_at(argv, index, stop, takes_many))
        elif word in negated - plain:
            found.append(Occurrence(index, word, (), is_negated=True))
    return found


def occurrence_at(
    argv: Sequence[str], index: int, stop: int, takes_many: bool = False
) -> Occurrence:
    """Return the flag at an index with the values behind it."""
    flag, has_value, attached = argv[index].partition("=")
    if has_value:
        return Occurrence(index, flag, (attached,), is_attached=True)
    values: list[str] = []
    for word in argv[index + 1 : stop]:
        if is_flag(word) or (values and not takes_many):
            break
        values.append(word)
    return Occurrence(index, flag, tuple(values))


def with_values(occurrence: Occurrence, values: Sequence[str]) -> list[str]:
    """Return the words that give a flag other values, in the form that the user used."""
    flag = occurrence.flag
    if occurrence.is_negated:
        flag = f"--{flag[5:]}"
    if occurrence.is_attached and len(values) == 1:
        return [f"{flag}={values[0]}"]
    return [flag, *values]


def with_bool(occurrence: Occurrence, value: bool) -> list[str]:
    """Return the words that switch a flag on or off; a flag that says so already stays as it is."""
    words = [occurrence.flag, *occurrence.values]
    if occurrence.is_attached:
        words = [f"{occurrence.flag}={occurrence.value}"]
    if occurrence.is_negated:
        return with_values(occurrence, ["true"]) if value else words
    old = occurrence.value
    if (old is None and value) or (old is not None and (STRTOBOOL.read(old) is True) == value):
        return words
    text = "true" if value else "false"
    # The user's own way of writing it: True, TRUE or true.
    if old is not None and old[:1].isupper():
        text = text.upper() if old.isupper() and len(old) > 1 else text.capitalize()
    return with_values(occurrence, [text])


def prefers_dashes(argv: Sequence[str]) -> bool:
    """Tell whether the user writes `--two-words` rather than `--two_words`."""
    flags = [word.partition("=")[0][2:] for word in argv if word.startswith("--")]
    return any("-" in flag for flag in flags) and not any("_" in flag for flag in flags)


def merged_list_setting(text: str, key: str, value: str) -> str:
    """Return `a:1,b:[2,3]` with one key set, as PYTORCH_ALLOC_CONF is written."""
    items = [item for item in re.split(r",(?![^\[]*\])", text) if item.strip()]
    kept = [item for item in items if item.partition(":")[0].strip() != key]
    return ",".join([*kept, f"{key}:{value}"])


def shown(words: Iterable[str]) -> str:
    """Return words as a shell takes them."""
    return " ".join(shlex.quote(word) for word in words)
