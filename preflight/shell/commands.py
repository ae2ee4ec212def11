"""Shell text cut into simple commands and words, each with its place, so that some words can be written again.

Only what a launch line needs: lists (`&&`, `||`, `;`, `|`, newlines), assignments, quotes, variables
and redirections. Loops, conditions, functions and subshells are refused: who runs what is then for a
shell to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field

from preflight.shell.expansion import NAME, CannotTell, ShellWord, read_word
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
MAX_COMMANDS = 400
"""In one `bash -c`; each sees what all before it have set."""
_NUMBERED = re.compile(r"\d+[<>]")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")


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
            if len(commands) >= MAX_COMMANDS:
                raise CannotTell(f"a list of more than {MAX_COMMANDS} commands")
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
        elif character in "<>" or _NUMBERED.match(text, position):
            position = _redirection(state, position)
        else:
            match = None if words else _ASSIGNMENT.match(text, position)
            if match is not None:
                word = read_word(state.text, state.variables, match.end(), splits=False)
                value = "".join(word.texts) if not word.unknown else None
                if match[2] and value is not None:
                    old = state.variables.get(match[1]) or ""
                    value = old + value
                own[match[1]] = value
                position = word.end
                continue
            word = read_word(state.text, state.variables, position, splits=True)
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
            if not NAME.fullmatch(name):
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
        state.variables["PWD"] = os.path.normpath(
            os.path.join(state.variables.get("PWD") or "", folders[0])
        )
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
    return read_word(state.text, state.variables, position, splits=False).end
