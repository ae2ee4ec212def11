"""What the words of a script stand for: quotes taken off, variables filled in, split where the shell splits.

The order is that of bash(1), EXPANSION: braces make words, then each word is filled in from left to right
into fields, a field being parts that remember whether they were quoted; unquoted values are split at IFS;
patterns in unquoted parts are matched with files. A part that is not known is never split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from preflight.shell.grammar.arithmetic import NoNumber
from preflight.shell.grammar.syntax import (
    Calculation,
    Double,
    Given,
    Literal,
    Parameter,
    Piece,
    Quoted,
    Substitution,
    Word,
)
from preflight.shell.grammar.text import Part, Text, joined, known, not_known, text_of_parts
from preflight.shell.meaning.braces import brace_words
from preflight.shell.meaning.parameters import value_of
from preflight.shell.meaning.state import BLANKS, State

MOST_WORDS = 10_000
Field = list[tuple[Part, bool]]
"""Parts with whether each was quoted."""


class _Fields:
    """Words being made of one word of the script."""

    def __init__(self, state: State, splits: bool) -> None:
        self.state = state
        self.splits = splits
        self.fields: list[Field] = [[]]
        self.kept = [False]
        """Per field whether it stays where it is empty: something in it was quoted."""
        self.break_ = ""
        """A separator that has been met: the next part begins a field behind it. `hard`: one that is no blank."""

    def begin(self) -> None:
        self.fields.append([])
        self.kept.append(False)
        self.break_ = ""
        if len(self.fields) > MOST_WORDS:
            self.state.world.steps.spend(len(self.fields))

    def put(self, part: Part, is_quoted: bool) -> None:
        if self.break_:
            self.begin()
        self.fields[-1].append((part, is_quoted))

    def keep(self) -> None:
        """Note that something quoted stands here, be it empty."""
        if self.break_:
            self.begin()
        self.kept[-1] = True

    def add(self, text: Text, is_quoted: bool) -> None:
        """Add what was filled in."""
        for part in text.parts:
            if is_quoted or not self.splits or not isinstance(part, str):
                self.put(part, is_quoted)
            else:
                self.split(part)

    def split(self, part: str) -> None:
        """Cut a text at IFS: blanks in a row are one separator, any other character is one of its own."""
        ifs = self.state.ifs()
        start = 0
        for at, character in enumerate(part):
            if character not in ifs:
                continue
            if at > start:
                self.put(part[start:at], False)
            start = at + 1
            has_content = bool(self.fields[-1]) or self.kept[-1]
            if character in BLANKS:
                self.break_ = self.break_ or ("soft" if has_content else "")
            elif self.break_ == "hard" or not has_content:
                if self.break_:
                    self.begin()
                self.kept[-1] = True
                self.break_ = "hard"
            else:
                self.break_ = "hard"
        if start < len(part):
            self.put(part[start:], False)

    def several(self, texts: Sequence[Text], is_quoted: bool) -> None:
        """Add the words of `$@` or of an array."""
        for index, text in enumerate(texts):
            if index and (is_quoted or self.fields[-1] or self.break_):
                self.begin() if is_quoted else setattr(self, "break_", self.break_ or "soft")
            if is_quoted:
                self.keep()
            self.add(text, is_quoted)

    def walk(self, pieces: Iterable[Piece], is_quoted: bool = False, splits: bool = False) -> None:
        """Fill in pieces; of `${x:-a b}` the word that stands in is split too."""
        for piece in pieces:
            if isinstance(piece, Literal):
                if splits:
                    self.add(known(piece.text), is_quoted)
                else:
                    self.put(piece.text, is_quoted)
            elif isinstance(piece, Quoted):
                self.keep()
                if piece.text:
                    self.put(piece.text, True)
            elif isinstance(piece, Given):
                if piece.is_quoted:
                    self.keep()
                self.put(piece.unknown, is_quoted or piece.is_quoted)
            elif isinstance(piece, Double):
                if not _is_all_words(piece):
                    self.keep()
                self.walk(piece.pieces, True)
            else:
                self.fill(piece, is_quoted)

    def fill(self, piece: Parameter | Calculation | Substitution, is_quoted: bool) -> None:
        """Add what `$...` stands for."""
        if isinstance(piece, Parameter):
            value = value_of(piece, self.state, text_of, pattern_of)
            if isinstance(value, Word):
                self.walk(value.pieces, is_quoted, splits=True)
            elif isinstance(value, Text):
                self.add(value, is_quoted)
            elif is_quoted and (piece.name == "*" or (piece.index and piece.index.raw == "*")):
                self.add(joined(value, self.state.ifs()[:1]), True)
            elif not self.splits:
                self.add(joined(value), True)
            else:
                self.several(value, is_quoted)
        elif isinstance(piece, Calculation):
            self.add(calculated(piece, self.state), is_quoted)
        else:
            self.add(self.state.world.output_of(piece), is_quoted)


def _is_all_words(piece: Double) -> bool:
    """Tell whether double quotes hold nothing but `$@` or `${a[@]}`: they are no word where it has none."""
    if len(piece.pieces) != 1 or not isinstance(piece.pieces[0], Parameter):
        return False
    inner = piece.pieces[0]
    return inner.name == "@" or (inner.index is not None and inner.index.raw == "@")


def expand(words: Iterable[Word], state: State) -> list[Text]:
    """Return the words that words of a command stand for."""
    found: list[Text] = []
    for word in words:
        for pieces in brace_words(word.pieces):
            made = _expanded(pieces, state)
            if not made and found and (name := unset_name(pieces, state)):
                state.world.dropped[found[-1].shown] = f"${name}"
            found += made
        state.world.steps.spend(1 + len(found) // 64)
    return found


def unset_name(pieces: Sequence[Piece], state: State) -> str:
    """Return the variable that a word is, where nobody has set it, or the one that it was set to; empty for any other word."""
    piece = pieces[0] if len(pieces) == 1 else None
    if isinstance(piece, Double) and len(piece.pieces) == 1:
        piece = piece.pieces[0]
    if not isinstance(piece, Parameter) or piece.operator or not piece.name.isidentifier():
        return ""
    held = state.get(piece.name)
    if held is None:
        return piece.name
    is_empty = isinstance(held, Text) and held.known == ""
    return state.world.emptied.get(piece.name, "") if is_empty else ""


def _expanded(pieces: Sequence[Piece], state: State) -> list[Text]:
    if len(pieces) == 1 and isinstance(pieces[0], Literal) and pieces[0].text.isalnum():
        return [known(pieces[0].text)]  # most words, with nothing to expand
    fields = _Fields(state, splits=True)
    fields.walk(_with_home(pieces, state))
    found = []
    for parts, is_kept in zip(fields.fields, fields.kept, strict=True):
        if not parts and not is_kept:
            continue
        is_pattern = any(not quoted and isinstance(part, str) and set(part) & set("*?[") for part, quoted in parts)  # fmt: skip
        text = text_of_parts(part for part, _ in parts)
        folder = state.cwd.known
        names: list[str] = []
        if is_pattern and folder is not None and text.known is not None and not any(quoted for _, quoted in parts):  # fmt: skip
            names = state.world.files.matching(folder, text.known, state.world.steps)
        found += [known(name) for name in names] or [text]
    return found


def _with_home(pieces: Sequence[Piece], state: State) -> Sequence[Piece]:
    """Return a word's pieces with the `~` in front as the folder that it stands for."""
    first = pieces[0] if pieces else None
    if not isinstance(first, Literal) or not first.text.startswith("~"):
        return pieces
    if first.text[1:2] not in ("", "/") or (len(first.text) == 1 and len(pieces) > 1):
        return pieces
    home = state.text("HOME").known
    if home is None or "HOME" not in state.values:
        return pieces
    return (Quoted(home), Literal(first.text[1:]), *pieces[1:])


def text_of(word: Word, state: State) -> Text:
    """Return what a word stands for where nothing is split: in an assignment, a `case`, a redirection."""
    fields = _Fields(state, splits=False)
    fields.walk(_with_home(word.pieces, state))
    return text_of_parts(part for parts in fields.fields for part, _ in parts)


def pattern_of(word: Word, state: State) -> list[tuple[str, bool]] | None:
    """Return a pattern's parts with whether each is quoted; None where one is not known."""
    fields = _Fields(state, splits=False)
    fields.walk(_with_home(word.pieces, state))
    found = []
    for parts in fields.fields:
        for part, is_quoted in parts:
            if not isinstance(part, str):
                return None
            found.append((part, is_quoted))
    return found


def calculated(piece: Calculation, state: State) -> Text:
    """Return the text of `$((...))`."""
    value = number_of(piece.text, state)
    return not_known(piece.raw) if value is None else known(str(value))


def number_of(word: Word, state: State) -> int | None:
    """Return the value of an arithmetic expression; None where it is not known, or none."""
    try:
        return state.number(text_of(word, state))
    except NoNumber:
        return None
