"""The launches behind the commands of a script that is only read: through srun, shells, files and containers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.shell.expansion import CannotTell
from preflight.shell.program_names import program_name
from preflight.shell.tree import Redirection
from preflight.shell.values import Unknown, Value, Variables, text_of, unmarked
from preflight.shell.wrapper_notes import rank_environment
from preflight.shell.wrappers import unwrapped
from preflight.slurm.option_words import OptionWord, split_words
from preflight.slurm.scripted_launch import ScriptLaunch, is_launch, shown_origin

MOST_LAUNCHES = 200
MOST_TEXT_BYTES = 1 << 20
BEHIND = ("nsys", "ncu", "mpirun", "mpiexec", "singularity", "enroot", "shifter", "podman-hpc")
"""Programs that start another one and whose options are not read: it is looked for among their words."""


class LaunchFinder:
    """Writes down what commands launch; who follows the script says what it has come to."""

    def __init__(self, variables: Variables, name: str, cwd: str) -> None:
        self.variables = variables
        self.name = name
        self.cwd = cwd
        self.line = 0
        self.launches: list[ScriptLaunch] = []
        self.files: dict[str, str] = {}

    def inner(self, text: str, env: Mapping[str, str]) -> bool | None:
        """Follow a text inside a command."""
        raise NotImplementedError

    def start(
        self, argv: list[str], own: Mapping[str, Value], redirections: Sequence[Redirection] = ()
    ) -> bool | None:
        """Write down what a command launches, behind its wrappers; nothing for any other program."""
        env = {
            key: _text(value)
            for key, value in self.variables.values.items()
            if key in self.variables.exported or key.startswith("SLURM_")
        }
        env.update({key: _text(value) for key, value in own.items()})
        body = next((r for r in redirections if r.operator == "<<"), None)
        self.launch(LaunchCommand(tuple(argv), env, self.cwd), (), 0, body)
        return None

    def launch(
        self,
        command: LaunchCommand,
        through: tuple[str, ...],
        depth: int,
        body: Redirection | None = None,
    ) -> None:
        """Follow one command behind its wrappers; `body` is the here-document on its standard input."""
        argv = command.argv
        if not argv or depth > 12 or len(self.launches) >= MOST_LAUNCHES:
            return
        if is_launch(argv):
            self.launches.append(self.found(command, through))
            return
        name = program_name(argv[0])
        if name in ("bash", "sh"):
            self.shell(command, through, body)
        elif name == "preflight" and "--" in argv:
            self.launch(_with(command, argv[argv.index("--") + 1 :]), through, depth + 1)
        elif name == "srun":
            split = split_words(argv[1:], "srun")
            first = argv[: 1 + split.first_rest]
            env = {**command.env, **_step(split.components[0], command.env)}
            self.launch(_with(command, split.rest, env), (*through, *first), depth + 1, body)
        elif not ("/" in argv[0] and self.file(list(argv), through, command.env)):
            self.wrapped(command, through, depth)

    def shell(
        self, command: LaunchCommand, through: tuple[str, ...], body: Redirection | None
    ) -> None:
        argv = command.argv
        at = next((i for i, word in enumerate(argv) if i and not word.startswith("-")), len(argv))
        words = list(argv[at:])
        if len(argv) > 2 and argv[1].startswith("-") and "c" in argv[1]:
            self.as_step(through, argv[2], command.env)
        elif words:
            self.file(words, through, command.env)
        elif body is not None:
            self.as_step(through, self.body(body) or "", command.env)

    def wrapped(self, command: LaunchCommand, through: tuple[str, ...], depth: int) -> None:
        argv = command.argv
        try:
            layers = unwrapped(command)
        except (BadInput, CannotTell):
            layers = []
        for layer in layers:
            first = argv[: len(argv) - len(layer.inner.argv) + len(layer.added)]
            self.launch(layer.inner, (*through, *first), depth + 1)
        if not layers and program_name(argv[0]) in BEHIND:
            for index in range(1, len(argv)):
                if is_launch(argv[index:]) or program_name(argv[index]) in ("bash", "sh"):
                    inner = _with(command, argv[index:])
                    self.launch(inner, (*through, *argv[:index]), depth + 1)
                    return

    def found(self, command: LaunchCommand, through: tuple[str, ...]) -> ScriptLaunch:
        """Return a launch with what is not known in it named."""
        words = [unmarked(word) for word in command.argv]
        return ScriptLaunch(
            tuple(text for text, _ in words),
            {key: unmarked(value)[0] for key, value in command.env.items()},
            command.cwd,
            tuple(unmarked(word)[0] for word in through),
            shown_origin(self.name, self.line),
            tuple(dict.fromkeys(name for _, names in words for name in names)),
        )

    def as_step(self, through: tuple[str, ...], text: str, env: Mapping[str, str]) -> None:
        """Follow a text that a command runs, with the wrappers in front noted on what it launches."""
        first = len(self.launches)
        exported = set(self.variables.exported)
        self.variables.exported |= env.keys()
        self.inner(text, env)
        self.variables.exported = exported
        for index in range(first, len(self.launches)):
            one = self.launches[index]
            self.launches[index] = replace(one, through=(*through, *one.through))

    def file(self, words: list[str], through: tuple[str, ...], env: Mapping[str, str]) -> bool:
        """Follow another script that the job starts; tell whether there is one to follow."""
        text = self.text_of_file(words[0])
        if text is None or "\0" in text:
            return False
        first = text.partition("\n")[0]
        if not ("sh" in first if first.startswith("#!") else words[0].endswith((".sh", ".bash"))):
            return False
        before = self.variables.arguments
        self.variables.arguments = words[1:]
        try:
            self.as_step(through, text, env)
        finally:
            self.variables.arguments = before
        return True

    def text_of_file(self, path: str) -> str | None:
        """Return a text file's text, the script's own first; None where there is none."""
        absolute = os.path.normpath(os.path.join(self.cwd, path))
        if absolute in self.files:
            return self.files[absolute]
        try:
            if not os.path.isfile(absolute):
                return None
            with open(absolute, encoding="utf-8") as file:
                return file.read(MOST_TEXT_BYTES)
        except (OSError, ValueError):
            return None

    def body(self, document: Redirection) -> str | None:
        """Return the text of a here-document; None where it holds what is not known."""
        if document.is_quoted:
            return document.target
        quoted = document.target.replace('"', '\\"')
        try:
            return text_of(f'"{quoted}"', self.variables)
        except Unknown:
            return None


def _with(
    command: LaunchCommand, argv: Sequence[str], env: Mapping[str, str] | None = None
) -> LaunchCommand:
    return LaunchCommand(tuple(argv), command.env if env is None else env, command.cwd)


def _step(options: Sequence[OptionWord], env: Mapping[str, str]) -> dict[str, str]:
    """Return what srun tells the first task of a step."""
    given = [(f"--{option.name}", option.value or "") for option in options]
    first = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    exported = next((o.value or "" for o in reversed(options) if o.name == "export"), "")
    pairs = (item.partition("=") for item in exported.split(",") if "=" in item)
    return {**rank_environment(given, env), **first, **{key: value for key, _, value in pairs}}


def _text(value: Value) -> str:
    return "" if value is None else " ".join(value[:1]) if isinstance(value, list) else value
