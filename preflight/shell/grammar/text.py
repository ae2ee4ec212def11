"""Text of a shell of which parts may not be known: the one mark for "not known" of all that is read here.

A part that is not known keeps what stands for it in the script, to be shown and named; it is never a
character inside a string, so it cannot be cut, compared or printed by mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from preflight.values import dataclass

LONGEST = 1 << 20
"""Characters of one text; a longer one is not known."""
MOST_PARTS = 1_000
"""Of one text, too."""


@dataclass(frozen=True)
class Unknown:
    """What only the running job can fill in."""

    source: str
    """As written: `$(date +%s)`; empty for the output of a command, before it is known what asks for it."""
    is_line: bool = False
    """No line ends in it, so that lines can be counted."""


Part = str | Unknown


@dataclass(frozen=True)
class Text:
    """Parts in order; strings beside each other are one."""

    parts: tuple[Part, ...] = ()

    def __str__(self) -> str:
        raise TypeError("a Text is no str: take .known or .shown")

    def __add__(self, other: Text) -> Text:
        return text_of_parts((*self.parts, *other.parts))

    @property
    def known(self) -> str | None:
        """The text; None where a part is not known."""
        if not self.parts:
            return ""
        only = self.parts[0]
        return only if len(self.parts) == 1 and isinstance(only, str) else None

    @property
    def shown(self) -> str:
        """The text with what is not known as it is written."""
        return "".join([part if isinstance(part, str) else part.source for part in self.parts])

    @property
    def unknown(self) -> tuple[str, ...]:
        """What is not known in it, as written."""
        return tuple([part.source for part in self.parts if isinstance(part, Unknown)])


@dataclass(frozen=True)
class Array:
    """The value of an array variable."""

    items: Mapping[int | str, Text]
    is_map: bool = False
    """Made by `declare -A`: its keys are words."""

    @property
    def texts(self) -> tuple[Text, ...]:
        keys = self.items if self.is_map else sorted(self.items, key=lambda key: int(key))
        return tuple(self.items[key] for key in keys)


Value = Text | Array
EMPTY = Text()


def text_of_parts(parts: Iterable[Part]) -> Text:
    """Return a text of parts, with strings beside each other joined."""
    joined: list[Part] = []
    for part in parts:
        if isinstance(part, str):
            if not part:
                continue
            if joined and isinstance(joined[-1], str):
                joined[-1] += part
                continue
        joined.append(part)
    made = Text(tuple(joined))
    if (
        len(joined) > MOST_PARTS
        or sum(len(part) for part in joined if isinstance(part, str)) > LONGEST
    ):
        return not_known("a text that is too long")
    return made


def known(text: str) -> Text:
    """Return a text all of which is known."""
    return text_of_parts((text,))


def not_known(source: str) -> Text:
    """Return a text that is not known at all."""
    return Text((Unknown(source),))


def array(texts: Sequence[Text]) -> Array:
    """Return an array of texts, numbered from 0."""
    return Array(dict(enumerate(texts)))


def joined(texts: Sequence[Text], between: str = " ") -> Text:
    """Return texts as one."""
    parts: list[Part] = []
    for index, text in enumerate(texts):
        parts += [between] if index else []
        parts += text.parts
    return text_of_parts(parts)


def all_known(texts: Iterable[Text]) -> list[str] | None:
    """Return the texts as strings; None where one is not known."""
    found = []
    for text in texts:
        value = text.known
        if value is None:
            return None
        found.append(value)
    return found


class Steps:
    """What one reading may still cost: every command, every compared character and every copied text counts."""

    MOST = 2_000_000

    def __init__(self, most: int = MOST) -> None:
        self.left = most

    def spend(self, number: int) -> None:
        self.left -= number
        if self.left < 0:
            raise TooManySteps


class TooManySteps(Exception):
    """The script is longer, or goes round more often, than is followed."""
