"""What an assignment does to the variables of a shell: texts, elements of arrays, whole arrays, maps."""

from __future__ import annotations

from collections.abc import Sequence

from preflight.shell.grammar.syntax import Assignment, Word
from preflight.shell.grammar.text import Array, Text, Value, not_known
from preflight.shell.meaning.expansion import expand, number_of, text_of, unset_name
from preflight.shell.meaning.state import State


def own_values(state: State, assignments: Sequence[Assignment]) -> dict[str, Value]:
    """Return the variables in front of a command, which it alone has."""
    if not assignments:
        return {}
    before, exported = dict(state.values), set(state.exported)
    for one in assignments:
        assign(state, one)
    own = {one.name: state.values[one.name] for one in assignments}
    state.values, state.exported = before, exported
    return own


def assign(state: State, one: Assignment) -> None:
    """Set a variable, an element of an array, or a whole one."""
    old = state.values.get(one.name)
    if isinstance(one.value, tuple):
        _assign_array(state, one, old)
    elif one.index is not None:
        state.set_item(one.name, _key(state, one.index, old), text_of(one.value, state), one.is_added)  # fmt: skip
    else:
        value = text_of(one.value, state)
        unset = unset_name(one.value.pieces, state)
        if unset:
            state.world.emptied[one.name] = unset
        state.set(one.name, state.text(one.name) + value if one.is_added else value)


def _assign_array(state: State, one: Assignment, old: Value | None) -> None:
    assert isinstance(one.value, tuple)
    is_map = isinstance(old, Array) and old.is_map
    items: dict[int | str, Text] = {}
    if one.is_added and old is not None:
        items = dict(old.items) if isinstance(old, Array) else {0: old}
    following = max((int(key) for key in items), default=-1) + 1 if not is_map else 0
    if is_map and any(index is None for index, _ in one.value):
        # `declare -A M=(key value key value)`
        texts = expand([word for _, word in one.value], state)
        for name, value in zip(texts[::2], texts[1::2], strict=False):
            items[name.shown] = value
        state.values[one.name] = Array(items, True)
        return
    for index, word in one.value:
        if index is None:
            for text in expand([word], state):
                items[following] = text
                following += 1
            continue
        key = _key(state, index, old)
        if key is None:
            state.values[one.name] = not_known(f"${{{one.name}[@]}}")
            return
        items[key] = text_of(word, state)
        following = key + 1 if isinstance(key, int) else 0
    state.world.steps.spend(len(items))
    state.values[one.name] = Array(items, is_map)


def _key(state: State, index: Word, old: Value | None) -> int | str | None:
    """Return an index as a number, or as the word that it is in a map; None where it is not known."""
    if isinstance(old, Array) and old.is_map:
        text = text_of(index, state).known
        return None if text is None else text.strip("\"'")
    return number_of(index, state)
