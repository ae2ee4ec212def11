"""What `${name...}` stands for: defaults, lengths, parts that are cut off, replaced or put in capitals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from preflight.shell.grammar.arithmetic import NoNumber
from preflight.shell.grammar.patterns import NoPattern, glob, reversed_glob
from preflight.shell.grammar.syntax import Parameter, Quoted, Word
from preflight.shell.grammar.text import EMPTY, Array, Text, Value, known, not_known
from preflight.shell.meaning.state import State

TextOf = Callable[[Word, State], Text]
Parts = Sequence[tuple[str, bool]]
PatternOf = Callable[[Word, State], "Parts | None"]
_DEFAULTS = ("-", "=", "+", "?")


class _NotKnown(Exception):
    """What an operator gives cannot be told."""


def value_of(
    piece: Parameter, state: State, text_of: TextOf, pattern_of: PatternOf
) -> Text | tuple[Text, ...] | Word:
    """Return what a parameter stands for: a text, several words, or the word that stands in for it."""
    try:
        return _value(piece, state, text_of, pattern_of)
    except (_NotKnown, NoNumber, NoPattern):
        return not_known(piece.raw)


def _value(
    piece: Parameter, state: State, text_of: TextOf, pattern_of: PatternOf
) -> Text | tuple[Text, ...] | Word:
    name, index = piece.name, piece.index
    if piece.operator == "bad":
        raise _NotKnown
    if piece.operator == "!*":
        names = sorted(key for key in state.values if key.startswith(name))
        return tuple(known(key) for key in names)
    if piece.prefix == "!":
        if index is not None and index.raw in "@*":
            return _keys(state.get(name))
        name = _known(state.text(name))
        name, _, rest = name.partition("[")
        index = Word(0, 0, rest[:-1], (Quoted(rest[:-1]),)) if rest else None
        if not (name.isidentifier() or name.isdecimal()):
            raise _NotKnown
    if name in "@*" or (index is not None and index.raw in ("@", "*")):
        texts = tuple(state.arguments) if name in "@*" else _items(state, name, piece)
        if name in "@*" and not texts and state.world.is_inline:
            raise _NotKnown
        return _of_many(texts, piece, state, text_of, pattern_of)
    value = _element(state, name, index, text_of) if index is not None else _single(state, name)
    if piece.prefix == "#":
        return known(str(len(_known(EMPTY if value is None else value))))
    operator = piece.operator
    if operator and operator[-1] in _DEFAULTS and operator[0] in (":", operator[-1]):
        return _default(piece, value, name, state, text_of)
    if value is None:
        if state.world.is_partial:
            raise _NotKnown
        return EMPTY
    return _changed(value, piece, state, text_of, pattern_of) if operator else value


def _known(text: Text) -> str:
    value = text.known
    if value is None:
        raise _NotKnown
    return value


def _single(state: State, name: str) -> Text | None:
    return None if state.get(name) is None else state.text(name)


def _items(state: State, name: str, piece: Parameter) -> tuple[Text, ...]:
    value = state.get(name)
    if value is None:
        if state.world.is_partial:
            raise _NotKnown
        return ()
    if isinstance(value, Array):
        return value.texts
    if value.known is None and value.unknown == (f"${name}",):
        return (not_known(piece.raw),)
    return (value,)


def _keys(value: Value | None) -> tuple[Text, ...]:
    if value is None:
        return ()
    if isinstance(value, Text):
        _known(value)
        return (known("0"),)
    keys = value.items if value.is_map else sorted(value.items, key=lambda key: int(key))
    return tuple(known(str(key)) for key in keys)


def _element(state: State, name: str, index: Word, text_of: TextOf) -> Text | None:
    value = state.get(name)
    key = text_of(index, state)
    if isinstance(value, Array) and value.is_map:
        return value.items.get(_known(key).strip("\"'"))
    number = state.number(key)
    if number is None:
        raise _NotKnown
    if isinstance(value, Array):
        if number < 0:
            number += max((int(item) for item in value.items), default=-1) + 1
        return value.items.get(number)
    if value is not None:
        _known(value)
    return value if number == 0 else None


def _default(
    piece: Parameter, value: Text | None, name: str, state: State, text_of: TextOf
) -> Text | Word:
    """Return what `:-`, `-`, `:=`, `=`, `:?`, `?`, `:+` and `+` give."""
    operator, word = piece.operator, piece.argument
    assert word is not None
    is_set = value is not None and not (operator[0] == ":" and value == EMPTY)
    if operator[-1] == "+":
        return word if is_set else EMPTY
    if is_set:
        assert value is not None
        return value
    if operator[-1] == "?":
        raise _NotKnown
    if operator[-1] == "=":
        state.set(name, text_of(word, state))
        return state.text(name)
    return word


def _of_many(
    texts: tuple[Text, ...], piece: Parameter, state: State, text_of: TextOf, pattern_of: PatternOf
) -> Text | tuple[Text, ...] | Word:
    """Return what an operator makes of `$@` or of the elements of an array."""
    operator = piece.operator
    if piece.prefix == "#":
        return known(str(len(texts)))
    if not operator:
        return texts
    if operator[-1] in _DEFAULTS and operator[0] in (":", operator[-1]):
        assert piece.argument is not None
        is_set = bool(texts) and not (operator[0] == ":" and all(one == EMPTY for one in texts))
        if operator[-1] == "+":
            return piece.argument if is_set else ()
        return texts if is_set else piece.argument
    if operator == ":":
        if piece.name in "@*":
            texts = (state.name, *texts)
        start, end = _slice(piece, state, text_of, len(texts))
        return texts[start:end]
    return tuple(_changed(text, piece, state, text_of, pattern_of) for text in texts)


def _slice(piece: Parameter, state: State, text_of: TextOf, size: int) -> tuple[int, int]:
    """Return where `:offset:length` begins and ends."""
    assert piece.argument is not None
    start = state.number(text_of(piece.argument, state))
    if start is None:
        raise _NotKnown
    start = start if start >= 0 else size + start
    if start < 0:
        return 0, 0
    if piece.second is None:
        return start, size
    length = state.number(text_of(piece.second, state))
    if length is None:
        raise _NotKnown
    return start, start + length if length >= 0 else size + length


def _changed(
    text: Text, piece: Parameter, state: State, text_of: TextOf, pattern_of: PatternOf
) -> Text:
    """Return a text with an operator applied."""
    value, operator = _known(text), piece.operator
    steps = state.world.steps
    assert piece.argument is not None
    if operator == ":":
        start, end = _slice(piece, state, text_of, len(value))
        return known(value[start:end])
    if operator[0] in "^,":
        change = str.upper if operator[0] == "^" else str.lower
        if piece.argument.raw:
            raise _NotKnown
        return known(change(value) if len(operator) > 1 else change(value[:1]) + value[1:])
    if operator == "@":
        raise _NotKnown
    parts = pattern_of(piece.argument, state)
    if parts is None:
        raise _NotKnown
    if operator in ("#", "##"):
        ends = glob(parts).ends(value, steps)
        return known(value[ends[-1 if operator == "##" else 0] :] if ends else value)
    if operator in ("%", "%%"):
        backwards = reversed_glob(parts)
        if backwards is None:
            raise _NotKnown
        ends = backwards.ends(value[::-1], steps)
        return known(value[: len(value) - ends[-1 if operator == "%%" else 0]] if ends else value)
    return _replaced(value, piece, parts, state, text_of)


def _replaced(value: str, piece: Parameter, parts: Parts, state: State, text_of: TextOf) -> Text:
    """Return a text with `/from/to`, `//from/to`, `/#from/to` or `/%from/to` applied."""
    new = text_of(piece.second, state) if piece.second is not None else EMPTY
    steps = state.world.steps
    if not "".join(part for part, _ in parts) and piece.operator[-1] == "/":
        return known(value)
    if piece.operator.endswith("%"):
        backwards = reversed_glob(parts)
        if backwards is None:
            raise _NotKnown
        ends = backwards.ends(value[::-1], steps)
        return known(value[: len(value) - ends[-1]]) + new if ends else known(value)
    pattern = glob(parts)
    if piece.operator.endswith("#"):
        ends = pattern.ends(value, steps)
        return new + known(value[ends[-1] :]) if ends else known(value)
    made, at = EMPTY, 0
    while at <= len(value):
        match = pattern.search(value, steps, at)
        if match is None or match.start == len(value):
            break
        made = made + known(value[at : match.start]) + new
        at = match.end
        if match.end == match.start:
            made, at = made + known(value[at : at + 1]), at + 1
        if piece.operator == "/":
            break
    return made + known(value[at:])
