"""Shell text cut into simple commands and words, each with its place, so that some words can be written again.

Only what a launch line needs: lists (`&&`, `||`, `;`, `|`, newlines), assignments, quotes, variables
and redirections. Loops, conditions, functions and subshells are refused: who runs what is then for a
shell to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field

from preflight.values import dataclass

KEYWORDS = frozenset(
    [
        "if",
        "then",
        "elif",
        "else",
        "fi",
        "for",
        "while",
        "until",
        "do",
        "done",
        "case",
        "esac",
        "select",
        "function",
        "coproc",
        "{",
        "}",
        "[[",
    ]
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
_PLAIN_BRACES = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?)([-=])([^{}$`\"'\\]*))?\}")


class CannotTell(Exception):
    """The text says something that only a shell can follow; the message names it."""


@dataclass(frozen=True)
class ShellWord:
    """One word of the text: where it stands, and the words that it becomes."""

    start: int
    end: int
    texts: tuple[str, ...]
    """One text, or several (or none) where an unquoted variable holds spaces (or nothing)."""
    unknown: tuple[str, ...] = ()
    """Variables, commands and patterns in it that only the running shell can fill in."""


@dataclass(frozen=True)
class ShellCommand:
    """One simple command, with the variables and the folder that it starts with."""

    words: tuple[ShellWord, ...]
    env: Mapping[str, str]
    """Exported variables and those of this command alone; `$NAME` where the value is not known here."""
    assigned: frozenset[str]
    """Names that the text itself sets for this command."""
    folder: str
    """Where `cd` led so far, relative to where the shell starts; empty for there."""
    end: int
    """Where an added word goes."""

    @property
    def argv(self) -> tuple[str, ...]:
        return tuple(text for word in self.words for text in word.texts)

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for word in self.words for name in word.unknown))


@dataclass
class _State:
    """What the shell knows while it goes from command to command."""

    text: str
    variables: dict[str, str | None]
    """None: set, but not known here."""
    exported: set[str]
    assigned: set[str] = field(default_factory=set)
    folder: str = ""


def parse_script(text: str, env: Mapping[str, str]) -> tuple[ShellCommand, ...]:
    """Return the simple commands of a script in order; raise CannotTell where it is more than a list of them."""
    state = _State(text, dict(env), set(env))
    commands: list[ShellCommand] = []
    words: list[ShellWord] = []
    own: dict[str, str | None] = {}
    position = 0

    def finish() -> None:
        nonlocal words, own
        if words:
            command = _command(state, words, own)
            commands.append(command)
            _follow(state, command)
        else:
            state.variables.update(own)
            state.assigned |= own.keys()
        words, own = [], {}

    while position < len(text):
        character = text[position]
        if character in " \t\r":
            position += 1
        elif text.startswith("\\\n", position) or text.startswith("\\\r\n", position):
            position = text.index("\n", position) + 1
        elif character == "#":
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        elif character in "\n;&|":
            position, is_redirection = _separator(text, position)
            if is_redirection:
                position = _skip_target(state, position)
            else:
                finish()
        elif character in "()":
            raise CannotTell("a subshell or a function")
        elif character in "<>" or re.match(r"\d+[<>]", text[position:]):
            position = _redirection(state, position)
        else:
            match = None if words else _ASSIGNMENT.match(text, position)
            if match is not None:
                word = _word(state, match.end(), splits=False)
                value = "".join(word.texts) if not word.unknown else None
                if match[2] and value is not None:
                    old = state.variables.get(match[1]) or ""
                    value = old + value
                own[match[1]] = value
                position = word.end
                continue
            word = _word(state, position, splits=True)
            raw = text[word.start : word.end]
            if not words and raw in KEYWORDS:
                raise CannotTell(f"`{raw}`")
            if not words and raw == "!":
                position = word.end
                continue
            words.append(word)
            position = word.end
    finish()
    return tuple(commands)


def _command(
    state: _State, words: Sequence[ShellWord], own: Mapping[str, str | None]
) -> ShellCommand:
    values = {**{name: state.variables.get(name) for name in state.exported}, **own}
    # A variable that is set to something unknown is set all the same: LOCAL_RANK=$SLURM_LOCALID.
    env = {name: f"${name}" if value is None else value for name, value in values.items()}
    assigned = frozenset((state.assigned & state.exported) | own.keys())
    return ShellCommand(tuple(words), env, assigned, state.folder, words[-1].end)


def _follow(state: _State, command: ShellCommand) -> None:
    """Let a builtin change what the next command starts with."""
    argv = command.argv
    if not argv:
        return
    if argv[0] in ("export", "declare", "typeset"):
        for word in argv[1:]:
            name, equals, value = word.partition("=")
            if not _NAME.fullmatch(name):
                continue
            if argv[0] == "export" or "-x" in argv[1:2]:
                state.exported.add(name)
            if equals:
                known = not any(word in item.texts and item.unknown for item in command.words)
                state.variables[name] = value if known else None
                state.assigned.add(name)
    elif argv[0] == "unset":
        for name in argv[1:]:
            state.variables.pop(name, None)
            state.exported.discard(name)
    elif argv[0] == "set" and ("-a" in argv or "allexport" in argv):
        raise CannotTell("`set -a`")
    elif argv[0] in ("cd", "pushd"):
        folders = [word for word in argv[1:] if word != "--"]
        if len(folders) != 1 or command.unknown or folders[0] == "-":
            raise CannotTell(f"`{' '.join(argv)}`")
        import os

        state.folder = os.path.join(state.folder, folders[0])
    elif argv[0] in ("eval", "popd"):
        raise CannotTell(f"`{argv[0]}`")


def _separator(text: str, position: int) -> tuple[int, bool]:
    """Return the position behind a list operator, and whether it is the redirection `&>`."""
    if text.startswith("&>", position):
        return position + (3 if text.startswith("&>>", position) else 2), True
    for operator in ("&&", "||", "|&"):
        if text.startswith(operator, position):
            return position + 2, False
    if text.startswith(";;", position):
        raise CannotTell("`case`")
    return position + 1, False


def _redirection(state: _State, position: int) -> int:
    match = re.compile(r"\d*(<<<|<<|<>|>>|>\||[<>]&|[<>])").match(state.text, position)
    assert match is not None
    if match[1] == "<<":
        raise CannotTell("a here-document")
    if state.text.startswith("(", match.end()):
        raise CannotTell("a process substitution")
    return _skip_target(state, match.end())


def _skip_target(state: _State, position: int) -> int:
    while position < len(state.text) and state.text[position] in " \t":
        position += 1
    return _word(state, position, splits=False).end


def _word(state: _State, start: int, splits: bool) -> ShellWord:
    """Read the word at a position, with its quotes taken off and its variables filled in."""
    text, position = state.text, start
    parts: list[str] = [""]
    unknown: list[str] = []
    is_quoted = False
    while position < len(text):
        character = text[position]
        if character in " \t\r\n;&|<>()":
            break
        if character == "\\":
            if text.startswith("\n", position + 1):
                position += 2
                continue
            parts[-1] += text[position + 1 : position + 2]
            position += 2
        elif character == "'":
            end = _closing(text, "'", position + 1)
            parts[-1] += text[position + 1 : end]
            is_quoted, position = True, end + 1
        elif character == '"':
            position = _double_quoted(state, position + 1, parts, unknown)
            is_quoted = True
        elif text.startswith(("$'", '$"'), position):
            raise CannotTell("a word in $'...'")
        elif character in "$`":
            value, position = _expansion(state, position, unknown)
            if not splits or not value.strip():
                parts[-1] += value if not splits else ""
                continue
            pieces = value.split()
            if value[:1].isspace() and parts[-1]:
                parts.append("")
            parts[-1] += pieces[0]
            parts += pieces[1:]
            if value[-1:].isspace():
                parts.append("")
        else:
            if splits and (character in "*?[" or _is_brace_list(text, position)):
                unknown.append(_raw(text, start))
            if character == "~" and position == start:
                parts[-1] += state.variables.get("HOME") or "~"
            else:
                parts[-1] += character
            position += 1
    texts = tuple(part for part in parts if part or (is_quoted and len(parts) == 1))
    return ShellWord(start, position, texts, tuple(unknown))


def _raw(text: str, start: int) -> str:
    return re.split(r"[\s;&|<>()]", text[start:], maxsplit=1)[0]


def _is_brace_list(text: str, position: int) -> bool:
    return bool(re.compile(r"\{[^\s{}]*(?:,|\.\.)[^\s{}]*\}").match(text, position))


def _closing(text: str, mark: str, start: int) -> int:
    end = text.find(mark, start)
    if end < 0:
        raise CannotTell("a quote that is never closed")
    return end


def _double_quoted(state: _State, position: int, parts: list[str], unknown: list[str]) -> int:
    text = state.text
    while position < len(text):
        character = text[position]
        if character == '"':
            return position + 1
        if character == "\\" and text[position + 1 : position + 2] in ("$", "`", '"', "\\", "\n"):
            parts[-1] += text[position + 1].replace("\n", "")
            position += 2
        elif character in "$`":
            value, position = _expansion(state, position, unknown)
            parts[-1] += value
        else:
            parts[-1] += character
            position += 1
    raise CannotTell("a quote that is never closed")


def _expansion(state: _State, position: int, unknown: list[str]) -> tuple[str, int]:
    """Return what a `$...` stands for and the position behind it; its own text where only the shell knows."""
    text = state.text
    if text[position] == "`":
        end = _closing(text, "`", position + 1) + 1
        unknown.append(text[position:end])
        return text[position:end], end
    if text.startswith("(", position + 1):
        end = _closing_parenthesis(text, position + 1)
        unknown.append(text[position:end])
        return text[position:end], end
    braces = _PLAIN_BRACES.match(text, position + 1)
    if braces is not None:
        name, end = braces[1], braces.end()
        value = state.variables.get(name)
        is_empty = value == "" and braces[2] == ":"
        if braces[3] is not None and (name not in state.variables or is_empty):
            return braces[4], end
    elif text.startswith("{", position + 1):
        end = _closing(text, "}", position) + 1
        unknown.append(text[position:end])
        return text[position:end], end
    else:
        match = _NAME.match(text, position + 1) or re.compile(r"[@*#?$!0-9-]").match(
            text, position + 1
        )
        if match is None:
            return "$", position + 1
        name, end = match[0], match.end()
        value = state.variables.get(name)
    if value is None:
        unknown.append(text[position:end])
        return text[position:end], end
    return value, end


def _closing_parenthesis(text: str, position: int) -> int:
    depth, quote = 0, ""
    for index in range(position, len(text)):
        character = text[index]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                return index + 1
    raise CannotTell("a parenthesis that is never closed")


def with_words(text: str, command: ShellCommand, argv: Sequence[str]) -> str:
    """Return the script with one command's words replaced; words that stay keep their own text, variables included."""
    import difflib
    import shlex

    old = command.argv
    before: dict[int, list[str]] = {}
    instead: dict[int, list[str]] = {}
    matcher = difflib.SequenceMatcher(None, old, list(argv), autojunk=False)
    for tag, first, last, new_first, new_last in matcher.get_opcodes():
        new = list(argv[new_first:new_last])
        if tag == "insert":
            before[first] = new
        elif tag != "equal":
            for index in range(first, last):
                instead[index] = new if index == first else []
    result = text
    if len(old) in before:
        added = "".join(f" {shlex.quote(word)}" for word in before[len(old)])
        result = result[: command.end] + added + result[command.end :]
    index = len(old)
    for word in reversed(command.words):
        indices = range(index - len(word.texts), index)
        index -= len(word.texts)
        ahead = before.get(index, []) if indices else []
        inner = any(k in instead for k in indices) or any(k in before for k in indices[1:])
        if not ahead and not inner:
            continue
        new_words = list(ahead)
        for k in indices:
            new_words += before.get(k, []) if k != index else []
            new_words += instead.get(k, [old[k]])
        start, end = word.start, word.end
        if not inner:
            shown = "".join(f"{shlex.quote(item)} " for item in ahead)
            result = result[:start] + shown + result[start:]
            continue
        shown = " ".join(shlex.quote(item) for item in new_words)
        if not shown:
            while start > 0 and result[start - 1] in " \t":
                start -= 1
        result = result[:start] + shown + result[end:]
    return result
