"""The documents of a YAML file, and the shell text that stands at a key, with the line where it begins."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from preflight.bool_words import as_word
from preflight.errors import BadInput
from preflight.formats.document import Document
from preflight.formats.yaml_marks import read_yaml
from preflight.lazy_pattern import lazy_pattern
from preflight.shell.blocks import Block
from preflight.shell.starters.program_names import program_name
from preflight.shell.starters.wrapper_options import SHELLS
from preflight.values import dataclass

_BETWEEN = lazy_pattern(r"^---(?:[ \t].*)?$", re.MULTILINE)
_KUBERNETES = lazy_pattern(r"\$\(([A-Za-z_]\w*)\)")
_EXPRESSION = lazy_pattern(r"\$\{\{.*?\}\}", re.DOTALL)


@dataclass(frozen=True)
class Sheet:
    """One document of a file."""

    document: Document
    first_line: int
    """Lines of the file in front of it."""
    said: Mapping[str, str]
    """Key -> value that an option of the command says in its place: `sky launch --num-nodes 4`."""

    def line(self, *keys: str | int) -> int:
        """Return the line of the file where these keys, or the nearest above them, stand."""
        path = tuple(str(key) for key in keys)
        while path not in self.document.marks:
            path = path[:-1]
        return self.first_line + self.document.marks[path].line

    def where(self, *keys: str | int) -> str:
        return f"{self.document.path}:{self.line(*keys)}"

    def text_line(self, *keys: str | int) -> int:
        """Return the line where the text of a scalar begins: below the `|` of a block."""
        mark = self.document.marks[tuple(str(key) for key in keys)]
        is_block = mark.kind == "block"
        start = self.document.text.count("\n", 0, max(0, mark.start)) + 1
        return self.first_line + (start + 1 if is_block else start)


def sheets_of(path: str, text: str, said: Mapping[str, str]) -> Iterator[Sheet]:
    """Yield the documents of a YAML file that are mappings; what cannot be read as YAML (a template) is none."""
    starts = [0, *(match.end() for match in _BETWEEN.finditer(text))]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        part = text[start:end]
        cut = _BETWEEN.search(part)
        part = part[: cut.start()] if cut is not None else part
        try:
            document = read_yaml(part, path, "last")
        except BadInput:
            continue
        yield Sheet(document, text.count("\n", 0, start), said)


def shell_text(
    sheet: Sheet, keys: Sequence[str | int], text: object, env: Mapping[str, str]
) -> Iterator[Block]:
    """Yield the text of a scalar as one that a shell gets."""
    if isinstance(text, str) and text.strip():
        yield Block(sheet.text_line(*keys), _EXPRESSION.sub("${expression}", text), env)


def words_as_text(
    sheet: Sheet, named: Sequence[tuple[tuple[str | int, ...], object]], env: Mapping[str, str]
) -> Iterator[Block]:
    """Yield what the words of some lists start: the text behind `sh -c`, else the words as one command.

    `$(NAME)` is filled in with the variables of the container, as Kubernetes does before anything starts.
    """
    words: list[tuple[str, int]] = []
    for keys, value in named:
        if isinstance(value, str):
            words += [(word, sheet.text_line(*keys)) for word in _split(value)]
        for index, item in enumerate(value if isinstance(value, list) else ()):
            if isinstance(item, (str, int, float)) and not isinstance(item, bool):
                words.append((_filled(str(item), env), sheet.text_line(*keys, index)))
    if not words:
        return
    shell = [word for word, _ in words]
    if program_name(shell[0]) in SHELLS:
        at = next((i for i, word in enumerate(shell) if re.fullmatch(r"-\w*c\w*", word)), None)
        if at is not None and at + 1 < len(words):
            text, line = words[at + 1]
            yield Block(line, text, env)
            return
    yield Block(words[0][1], shlex.join(shell), env)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _filled(text: str, env: Mapping[str, str]) -> str:
    return _KUBERNETES.sub(lambda match: env.get(match[1], match[0]), text)


def variables(value: object) -> dict[str, str]:
    """Return variables that a file gives as a mapping, as `NAME=VALUE` words, or as `{name, value}` entries."""
    found: dict[str, str] = {}
    if isinstance(value, Mapping):
        found = {str(name): as_word(text) for name, text in value.items() if text is not None}
    for item in value if isinstance(value, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("name"), str) and "value" in item:
            found[item["name"]] = as_word(item["value"])
        elif isinstance(item, str) and "=" in item:
            name, _, found_value = item.partition("=")
            found[name] = found_value
    return {name: text for name, text in found.items() if "${{" not in text}
