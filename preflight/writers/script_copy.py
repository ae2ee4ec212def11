"""A training script with other literals: a copy that is run in its place, made only where the copy trains as it would.

Edits are made at the nodes of the syntax tree that a reader named by line; the rest of the text stays as it is.
Whoever makes a copy reads it again, so an edit that does something else than it says ends in no copy.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator, Sequence

from preflight.formats.edits import CannotEdit
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.rewrite import FOLDER
from preflight.scripts.python.nodes import keyword_of
from preflight.setting import Place
from preflight.values import dataclass

KNOWS_WHERE_IT_IS = lazy_pattern(
    r"__file__|__spec__|__import__|\bimportlib\b|\brunpy\b|\binspect\b|\bexec\(|\bhydra\b"
    r"|sys\.(?:path|modules)|argv\s*\[\s*0"
)
"""Words of a script that may do something else in another folder."""

HOMES = {
    "LoraConfig": "peft",
    "get_peft_model": "peft",
    "BitsAndBytesConfig": "transformers",
    "torch": "",
}
"""What edits use and a script may not have imported -> the module that has it; empty for a module itself."""


@dataclass(frozen=True)
class ScriptEdit:
    """One edit of a training script, which a person can make as well."""

    place: Place
    """Of the call that gets a keyword, or of the keyword that gets another value."""
    text: str
    """`gradient_checkpointing=True`, or a statement."""
    role: str
    """`keyword` of the call at the place; `value` of the keyword there; `trainer`: a keyword of the trainer; `after`:
    a statement after the one with the call."""

    @property
    def where(self) -> str:
        """Return the place as a person reads it."""
        if self.role == "trainer":
            return f"{self.place.document}, in the call of the trainer"
        return self.place.where if self.role == "value" else self._in_call

    @property
    def _in_call(self) -> str:
        return f"{self.place.where}, in {self.place.key}(...)"

    @property
    def words(self) -> str:
        """Return the edit as a person reads it."""
        return f"and after it, {self.text}" if self.role == "after" else self.text


def copied_script(
    command: LaunchCommand, script: str, edits: Sequence[ScriptEdit]
) -> tuple[str, str]:
    """Return the text of a training script, and that of the copy with the edits; raise CannotEdit where none is safe."""
    folder = os.path.dirname(script)
    if not script.endswith(".py") or any(edit.place.document != script for edit in edits):
        raise CannotEdit("only the script that is started is copied")
    try:
        text = command.read_text(script)
        tree = ast.parse(text)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError) as error:
        raise CannotEdit(f"{script} cannot be read") from error
    if KNOWS_WHERE_IT_IS.search(text):
        raise CannotEdit(f"{script} may do something else in another folder")
    for name in _imported(tree):
        beside = (os.path.join(place, name) for place in (folder, FOLDER))
        paths = [command.resolve(path) for path in beside]
        if not name or any(os.path.isdir(p) or command.exists(f"{p}.py") for p in paths):
            raise CannotEdit(f"{script} imports what lies beside it")
    return text, edited(text, tree, edits)


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield the first part of every module that a script imports; empty for what is named from where it lies."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "" if node.level else (node.module or "").partition(".")[0]


def edited(text: str, tree: ast.Module, edits: Iterable[ScriptEdit]) -> str:
    """Return a script's text with some edits; raise CannotEdit where one has no place, or more than one."""
    source = _Source(text)
    changes: list[tuple[int, int, str]] = []
    keywords: dict[ast.Call, list[str]] = {}
    for edit in edits:
        if edit.role == "value":
            node = _value_at(tree, edit)
            changes.append((*source.span(node), edit.text.partition("=")[2]))
        elif edit.role == "after":
            statement = _statement_at(tree, edit.place)
            indent = " " * statement.col_offset
            end = source.span(statement)[1]
            changes.append((end, end, f"\n{indent}{edit.text}"))
        else:
            call, name = _call_of(tree, edit), edit.text.partition("=")[0]
            said = keyword_of(call, name)
            if said is not None:
                changes.append((*source.span(said), edit.text.partition("=")[2]))
            else:
                keywords.setdefault(call, []).append(edit.text)
    for call, added in keywords.items():
        changes.append(source.with_keywords(call, added))
    missing = _missing_imports(tree, " ".join(edit.text for edit in edits))
    if missing:
        at = source.after_imports(tree)
        changes.append((at, at, "".join(f"{line}\n" for line in missing)))
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    try:
        ast.parse(text)
    except (SyntaxError, RecursionError) as error:
        raise CannotEdit("the edited script is no Python") from error
    return text


class _Source:
    """Where the nodes of a tree stand in its text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n|\Z)", text)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def at(self, line: int, column: int) -> int:
        """Return the index of a place; columns of a tree count bytes."""
        before = self.lines[line - 1].encode()[:column]
        return self.starts[line - 1] + len(before.decode())

    def span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def with_keywords(self, call: ast.Call, added: Sequence[str]) -> tuple[int, int, str]:
        """Return the insertion of keywords behind the last argument of a call, each on a line where those are."""
        last = [*call.args, *(keyword.value for keyword in call.keywords)]
        if not last:
            end = self.span(call)[1] - 1
            return end, end, ", ".join(added)
        node = max(last, key=lambda node: self.span(node)[1])
        end = self.span(node)[1]
        first = min(last, key=lambda node: self.span(node)[0])
        if first.lineno == call.lineno:
            return end, end, "".join(f", {text}" for text in added)
        line = self.lines[first.lineno - 1]
        indent = line[: len(line) - len(line.lstrip())]
        return end, end, "".join(f",\n{indent}{text}" for text in added)

    def after_imports(self, tree: ast.Module) -> int:
        """Return where an import may be added: below those at the top of the script."""
        last = 0
        for number, node in enumerate(tree.body):
            is_docstring = number == 0 and isinstance(node, ast.Expr)
            if isinstance(node, (ast.Import, ast.ImportFrom)) or is_docstring:
                last = node.end_lineno or 0
        return self.starts[last]


def _value_at(tree: ast.AST, edit: ScriptEdit) -> ast.expr:
    """Return the literal behind a keyword, or a key of a dict, of a name and a line."""
    name, line = edit.text.partition("=")[0], edit.place.line
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == name:
            found.append(node.value)
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found += [v for k, v in pairs if isinstance(k, ast.Constant) and k.value == name]
    literals = [v for v in found if isinstance(v, ast.Constant) and v.lineno == line]
    if len(literals) != 1:
        raise CannotEdit(f"{name} is no literal at line {line}")
    return literals[0]


def _call_of(tree: ast.AST, edit: ScriptEdit) -> ast.Call:
    """Return the call that gets a keyword; the only one of a trainer where it is the trainer's."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    if edit.role == "trainer":
        found = [call for call in calls if _name_of(call).endswith("Trainer")]
    else:
        place = edit.place
        found = [c for c in calls if _name_of(c) == place.key and c.lineno == place.line]
    if len(found) != 1:
        raise CannotEdit(f"{edit.text} has no place of its own")
    return found[0]


def _name_of(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _statement_at(tree: ast.AST, place: Place) -> ast.Assign:
    """Return the assignment to `model` whose value is the call at a place."""
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and (node.value.lineno, _name_of(node.value)) == (place.line, place.key)
    ]
    if len(found) != 1 or ast.unparse(found[0].targets[0]) != "model":
        raise CannotEdit("what the model is called was not found")
    return found[0]


def _missing_imports(tree: ast.Module, used: str) -> list[str]:
    """Return the import lines for names that edits use and the script has not imported."""
    has = {
        alias.asname or alias.name.partition(".")[0]
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    names = [name for name in HOMES if re.search(rf"\b{name}\b", used) and name not in has]
    return [f"from {HOMES[n]} import {n}" if HOMES[n] else f"import {n}" for n in names]
