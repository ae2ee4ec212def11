"""Which columns of a dataset say how long its rows are, and which hold what is no text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from preflight.errors import BadInput
from preflight.values import dataclass

ID_COLUMNS = ("input_ids", "token_ids")
LENGTH_COLUMNS = (
    "length", "num_tokens", "n_tokens", "token_count", "num_input_tokens", "seq_len", "seq_length", "token_length",
    "input_length",
)  # fmt: skip
"""`length` is the Trainer's own default (length_column_name)."""

TEXT_COLUMNS = ("text", "content")
CHAT_COLUMNS = ("messages", "conversations")

MODALITIES = {
    "images": ("image", "images", "pixel_values", "image_grid_thw"),
    "audio": ("audio", "audios", "input_features", "speech"),
    "videos": ("video", "videos", "pixel_values_videos"),
}
"""What becomes tokens in a number that only the model's processor knows -> columns that hold it."""


@dataclass(frozen=True)
class Measure:
    """How a row's length is found."""

    kind: str
    """number, ids, text (one or more columns, joined) or chat (a list of messages)."""
    columns: tuple[str, ...]

    @property
    def words(self) -> str:
        """What is counted, as a report says it."""
        columns = " + ".join(self.columns)
        if self.kind == "number":
            return f"the number in {columns}"
        if self.kind == "ids":
            return f"the length of {columns}"
        return f"the tokens of {columns}"

    @property
    def needs_tokenizer(self) -> bool:
        return self.kind in ("text", "chat")


def choose_measure(
    kinds: Mapping[str, str], where: str, wanted: str | None, has_tokenizer: bool
) -> Measure:
    """Return how to measure rows with these columns (name -> number, ids, text, chat, other).

    Token ids are what the model gets, so they come before a number that somebody wrote down;
    a tokenizer asks for text. Raises BadInput naming the columns found.
    """
    found = f"columns: {', '.join(kinds) or 'none'}"
    if wanted is not None:
        kind = kinds.get(wanted)
        if kind is None:
            raise BadInput.of(where, f"has no column {wanted!r}; {found}")
        if kind == "other":
            raise BadInput.one(
                f"column {wanted!r} holds neither numbers nor token ids nor text", where
            )
        measure = Measure(kind, (wanted,))
    else:
        measure = _known_measure(kinds, has_tokenizer, found, where)
    if measure.needs_tokenizer and not has_tokenizer:
        raise BadInput.of(
            where,
            f"says how long rows are only by {' + '.join(measure.columns)}; {found}",
            "--tokenizer FOLDER with the model's tokenizer, or --column NAME for a column of lengths",
        )
    return measure


def _known_measure(
    kinds: Mapping[str, str], has_tokenizer: bool, found: str, where: str
) -> Measure:
    def first(names: Iterable[str], kind: str) -> list[Measure]:
        return [Measure(kind, (name,)) for name in names if kinds.get(name) == kind][:1]

    texts = first(CHAT_COLUMNS, "chat")
    for kind in ("text", "chat"):
        if kinds.get("prompt") == kind and kinds.get("completion") == kind:
            texts.append(Measure(kind, ("prompt", "completion")))
    texts += first(TEXT_COLUMNS, "text")
    counted = first(ID_COLUMNS, "ids") + first(LENGTH_COLUMNS, "number")
    choices = texts + counted if has_tokenizer else counted + texts
    if not choices:
        raise BadInput.one(
            f"no column says how long a row is; {found}",
            where,
            "--column NAME for the column with lengths, token ids or (with --tokenizer) text",
        )
    return choices[0]


def kind_of_value(value: Any) -> str:
    """Return the kind of a column by one of its values."""
    if isinstance(value, bool):
        return "other"
    if isinstance(value, int):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Sequence):
        if value and isinstance(value[0], Mapping):
            return "chat" if {"role", "from"} & set(value[0]) else "other"
        return "ids" if all(type(item) is int for item in value[:8]) else "other"
    return "other"


def modalities_of(columns: Iterable[str], declared: Mapping[str, str] | None) -> list[str]:
    """Return what a dataset holds beside text, with its column; `declared` says it of other names."""
    found = []
    for column in columns:
        kind = (declared or {}).get(column)
        kind = kind or next((k for k, names in MODALITIES.items() if column in names), None)
        if kind is not None:
            found.append(f"{kind} (column {column})")
    return found
