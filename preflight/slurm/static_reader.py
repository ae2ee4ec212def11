"""A job script read without running anything: followed line by line, as far as its text tells.

For machines that cannot confine a dry run. Variables, arrays, functions, loops over known words and
`case` over arguments are followed; a condition that is not known is followed on both sides.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from preflight.dialects.program_names import program_name
from preflight.dialects.shell_expansion import CannotTell
from preflight.dialects.wrapper_notes import rank_environment
from preflight.dialects.wrappers import unwrapped
from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.slurm.option_words import OptionWord, split_words
from preflight.slurm.scripted_launch import ScriptLaunch, ScriptReading, is_launch, shown_origin
from preflight.slurm.shell_commands import output_of
from preflight.slurm.shell_tests import is_true
from preflight.slurm.shell_tree import (
    AndOr,
    CannotRead,
    Command,
    Compound,
    Pipeline,
    Redirection,
    Simple,
    shell_tree,
)
from preflight.slurm.shell_words import Unknown, Value, Variables, expand, matches, text_of

MOST_STEPS = 20_000
MOST_LAUNCHES = 200
DEEPEST = 30
_DECLARING = ("export", "declare", "typeset", "local", "readonly")


class _Stop(Exception):
    """The script ends here: `exit`, or it is longer than we follow."""


class _Leave(Exception):
    """`break` or `return`."""


def read_statically(
    text: str,
    name: str,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: str = ".",
    nodes: Sequence[str] = ("node-1",),
) -> ScriptReading:
    """Return what a script launches, from its text alone; a reading without launches says why."""
    try:
        tree = shell_tree(text)
    except CannotRead as error:
        return ScriptReading("nothing", reasons=(f"{name}: not read beyond {error}",))
    own = dict(env or {})
    variables = Variables({**own}, set(own), list(arguments))
    reader = _Reader(variables, name, os.path.abspath(cwd), list(nodes))
    reasons: tuple[str, ...] = ()
    try:
        reader.follow(tree)
    except _Stop as stop:
        reasons = (str(stop),) if str(stop) else ()
    except _Leave:
        pass
    except RecursionError:
        reasons = (f"{name}: nested too deeply",)
    launches = tuple(reader.launches)
    if not launches and not reasons:
        reasons = ("the text names no launcher that preflight knows",)
    return ScriptReading("static" if launches else "nothing", launches, reader.files, reasons)


class _Reader:
    def __init__(self, variables: Variables, name: str, cwd: str, nodes: list[str]) -> None:
        self.variables = variables
        self.name = name
        self.cwd = cwd
        self.nodes = nodes
        self.launches: list[ScriptLaunch] = []
        self.files: dict[str, str] = {}
        self.functions: dict[str, Compound] = {}
        self.num_steps = 0
        self.depth = 0
        self.line = 0
        variables.substitute = self.substitute

    # Following

    def follow(self, statements: Sequence[AndOr]) -> bool | None:
        """Follow statements; return whether the last one succeeds, None where that is not known."""
        status: bool | None = True
        for statement in statements:
            for mark, pipeline in statement.pipelines:
                if (mark == "&&" and status is False) or (mark == "||" and status is True):
                    continue
                is_certain = not mark or status is not None
                status = self.pipeline(pipeline, is_certain)
        return status

    def pipeline(self, pipeline: Pipeline, is_certain: bool) -> bool | None:
        status: bool | None = True
        for command in pipeline.commands:
            if is_certain:
                status = self.command(command)
            else:
                self.maybe((), command)
                status = None
        if len(pipeline.commands) > 1:
            status = None
        return (not status if status is not None else None) if pipeline.is_negated else status

    def maybe(self, statements: Sequence[AndOr], command: Command | None = None) -> None:
        """Follow what may or may not happen: what it sets is not known afterwards."""
        before = dict(self.variables.values)
        try:
            if command is not None:
                self.command(command)
            else:
                self.follow(statements)
        except (_Stop, _Leave):
            self.variables.values = before
            return
        after = self.variables.values
        for key in {*before, *after}:
            if before.get(key, "") != after.get(key, ""):
                after[key] = None

    def command(self, command: Command) -> bool | None:
        self.num_steps += 1
        if self.num_steps > MOST_STEPS:
            raise _Stop(f"{self.name}: more than {MOST_STEPS:,} steps")
        if self.depth == 0 or command.line > 1:
            self.line = command.line
        if isinstance(command, Simple):
            return self.simple(command)
        kind = command.kind
        if kind == "function":
            self.functions[command.word] = command
            return True
        if kind in "{(":
            return self.group(command)
        if kind in ("[[", "(("):
            return is_true(kind, command.word, self.variables, self.cwd, self.files)
        return {"if": self.branch, "case": self.case, "for": self.every}.get(kind, self.loop)(
            command
        )

    def group(self, command: Compound) -> bool | None:
        if command.kind == "{":
            return self.follow(command.parts[0][2])
        before, folder = dict(self.variables.values), self.cwd
        try:
            return self.follow(command.parts[0][2])
        except _Stop:
            return None
        finally:
            self.variables.values, self.cwd = before, folder

    def branch(self, command: Compound) -> bool | None:
        is_certain = True
        for _, condition, body in command.parts:
            holds = self.follow(condition) if condition else True
            if holds is False:
                continue
            if holds and is_certain:
                return self.follow(body)
            self.maybe(body)
            is_certain = False
            if holds:
                break
        return None

    def case(self, command: Compound) -> bool | None:
        try:
            subject = text_of(command.word, self.variables)
        except Unknown:
            for _, _, body in command.parts:
                self.maybe(body)
            return None
        for patterns, _, body in command.parts:
            try:
                fits = matches(subject, patterns, self.variables)
            except Unknown:
                self.maybe(body)
                continue
            if fits:
                return self.follow(body)
        return True

    def every(self, command: Compound) -> bool | None:
        words = [w for word in command.words for w in expand(word, self.variables).words]
        for word in words:
            self.variables.values[command.word] = word
            try:
                self.follow(command.parts[0][2])
            except _Leave:
                break
        return True

    def loop(self, command: Compound) -> bool | None:
        _, condition, body = command.parts[0]
        for _ in range(1_000):
            holds = self.follow(condition)
            if holds is None:
                self.maybe(body)
                return None
            if holds is (command.kind == "until"):
                return True
            try:
                self.follow(body)
            except _Leave:
                return True
        return None

    # Simple commands

    def simple(self, command: Simple) -> bool | None:
        at = 0
        own: dict[str, Value] = {}
        while at < len(command.words) and _assignment(command.words[at]):
            name, value = self.assigned(command.words[at])
            own[name] = value
            at += 1
        if at == len(command.words):
            self.variables.values.update(own)
            self.write(command.redirections, "")
            return True
        if command.words[at] in _DECLARING:
            return self.declare(command.words[at], command.words[at + 1 :])
        argv: list[str] = []
        unknown: list[str] = []
        for word in command.words[at:]:
            expanded = expand(word, self.variables)
            argv += expanded.words
            unknown += expanded.unknown
        if not argv:
            return None
        return self.run(argv, own, unknown, command.redirections)

    def assigned(self, word: str) -> tuple[str, Value]:
        name, plus, raw = _assignment(word) or ("", "", "")
        try:
            if raw.startswith("("):
                statement = shell_tree(f"x {raw[1:-1].replace(chr(10), ' ')}\n")
                first = statement[0].pipelines[0][1].commands[0]
                assert isinstance(first, Simple)
                items: list[str] = []
                for item in first.words[1:]:
                    expanded = expand(item, self.variables)
                    items += expanded.words
                old = self.variables.values.get(name) if plus else None
                return name, [*(old if isinstance(old, list) else []), *items]
            value = text_of(raw, self.variables)
        except (Unknown, CannotRead):
            return name, None
        if plus:
            before = self.variables.text(name)
            return name, None if before is None else before + value
        return name, value

    def declare(self, word: str, words: Sequence[str]) -> bool:
        for item in words:
            if item.startswith("-"):
                continue
            if _assignment(item):
                name, value = self.assigned(item)
                self.variables.values[name] = value
            else:
                name = item
            if word == "export":
                self.variables.exported.add(name)
        return True

    def run(
        self,
        argv: list[str],
        own: Mapping[str, Value],
        unknown: Sequence[str],
        redirections: Sequence[Redirection] = (),
    ) -> bool | None:
        name = argv[0]
        if name in ("[", "test"):
            words = " ".join(_requoted(word) for word in argv[1:] if word != "]" or name == "test")
            return None if unknown else is_true("[", words, self.variables, self.cwd, self.files)
        if name in self.functions and self.depth < DEEPEST:
            return self.call(self.functions[name], argv[1:])
        if name == "exit":
            raise _Stop
        if name == "exec" and len(argv) == 1:
            return True
        if name in ("return", "break"):
            raise _Leave
        if name in ("true", ":", "false"):
            return name != "false"
        if name == "shift":
            number = int(argv[1]) if len(argv) > 1 and argv[1].isdecimal() else 1
            del self.variables.arguments[:number]
            return True
        if name == "set":
            if "--" in argv:
                self.variables.arguments[:] = argv[argv.index("--") + 1 :]
            return True
        if name == "unset":
            for item in argv[1:]:
                self.variables.values.pop(item, None)
            return True
        if name in ("cd", "pushd"):
            self.cwd = os.path.normpath(os.path.join(self.cwd, argv[-1] if argv[1:] else "~"))
            self.variables.values["PWD"] = self.cwd
            return True
        if name == "eval":
            return self.inner(" ".join(argv[1:]), {})
        if name in ("read", "mapfile", "readarray"):
            for item in argv[1:]:
                self.variables.values[item] = None
            return None
        if name in ("source", "."):
            return None
        if name in ("cat", "echo", "printf", "tee"):
            self.write(redirections, self.printed(argv, redirections), argv)
            return True
        return self.start(argv, own, unknown)

    def call(self, function: Compound, arguments: list[str]) -> bool | None:
        before = self.variables.arguments
        self.variables.arguments = arguments
        self.depth += 1
        try:
            return self.follow(function.parts[0][2])
        except _Leave:
            return None
        finally:
            self.variables.arguments = before
            self.depth -= 1

    def inner(self, text: str, env: Mapping[str, str]) -> bool | None:
        """Follow the text of `bash -c` or `eval`; its lines are those of the command around it."""
        try:
            tree = shell_tree(text)
        except CannotRead:
            return None
        line, self.depth = self.line, self.depth + 1
        before = dict(self.variables.values)
        if env:
            self.variables.values = {**before, **env}
        try:
            return self.follow(tree)
        except (_Stop, _Leave):
            return None
        finally:
            self.line, self.depth = line, self.depth - 1
            if env:
                self.variables.values = before

    # Launches

    def start(
        self, argv: list[str], own: Mapping[str, Value], unknown: Sequence[str]
    ) -> bool | None:
        """Write down what a command launches, behind its wrappers; nothing for any other program."""
        env = {
            key: _text(value)
            for key, value in self.variables.values.items()
            if key in self.variables.exported or key.startswith("SLURM_")
        }
        env.update({key: _text(value) for key, value in own.items()})
        self.launch(LaunchCommand(tuple(argv), env, self.cwd), (), tuple(dict.fromkeys(unknown)), 0)
        return None

    def launch(
        self, command: LaunchCommand, through: tuple[str, ...], unknown: tuple[str, ...], depth: int
    ) -> None:
        argv = command.argv
        if not argv or depth > 12 or len(self.launches) >= MOST_LAUNCHES:
            return
        if is_launch(argv):
            origin = shown_origin(self.name, self.line)
            self.launches.append(
                ScriptLaunch(argv, command.env, command.cwd, through, origin, unknown)
            )
            return
        name = program_name(argv[0])
        if name in ("bash", "sh") and len(argv) > 2 and "c" in argv[1] and argv[1].startswith("-"):
            self.as_step(through, argv[2], command.env)
            return
        if name == "preflight" and "--" in argv:
            rest = argv[argv.index("--") + 1 :]
            self.launch(_with(command, rest), through, unknown, depth + 1)
            return
        if name == "srun":
            split = split_words(argv[1:], "srun")
            words, env = (
                argv[: 1 + split.first_rest],
                {**command.env, **_step(split.components[0], command.env)},
            )
            self.launch(_with(command, split.rest, env), (*through, *words), unknown, depth + 1)
            return
        try:
            layers = unwrapped(command)
        except (BadInput, CannotTell):
            layers = []
        for layer in layers:
            words = argv[: len(argv) - len(layer.inner.argv) + len(layer.added)]
            self.launch(layer.inner, (*through, *words), unknown, depth + 1)

    def as_step(self, through: tuple[str, ...], text: str, env: Mapping[str, str]) -> None:
        """Follow `bash -c TEXT`, with the wrappers in front of it noted on what it launches."""
        first = len(self.launches)
        exported = set(self.variables.exported)
        self.variables.exported |= env.keys()
        self.inner(text, env)
        self.variables.exported = exported
        for index in range(first, len(self.launches)):
            one = self.launches[index]
            self.launches[index] = replace(one, through=(*through, *one.through))

    # Text

    def printed(self, argv: Sequence[str], redirections: Sequence[Redirection]) -> str | None:
        for redirection in redirections:
            if redirection.operator == "<<":
                if redirection.is_quoted:
                    return redirection.target
                quoted = redirection.target.replace('"', '\\"')
                try:
                    return text_of(f'"{quoted}"', self.variables)
                except Unknown:
                    return None
        if argv[0] == "echo":
            return " ".join(word for word in argv[1:] if word not in ("-e", "-n")) + "\n"
        return None

    def write(
        self, redirections: Sequence[Redirection], text: str | None, argv: Sequence[str] = ()
    ) -> None:
        targets = [(r.operator, r.target) for r in redirections if r.operator in (">", ">>", ">|")]
        if argv[:1] == ["tee"]:
            targets += [(">", word) for word in argv[1:] if not word.startswith("-")]
        for operator, target in targets:
            try:
                path = os.path.normpath(os.path.join(self.cwd, text_of(target, self.variables)))
            except Unknown:
                continue
            if text is not None and not path.startswith("/dev/"):
                self.files[path] = (self.files.get(path, "") if operator == ">>" else "") + text

    def substitute(self, text: str) -> str | None:
        if self.depth > DEEPEST:
            return None
        return output_of(text, self.variables, self.nodes, self.cwd, self.files)


def _with(
    command: LaunchCommand, argv: Sequence[str], env: Mapping[str, str] | None = None
) -> LaunchCommand:
    return LaunchCommand(tuple(argv), command.env if env is None else env, command.cwd)


def _assignment(word: str) -> tuple[str, str, str] | None:
    """Return name, `+` and raw value of `name=value`; None for any other word."""
    name, equals, value = word.partition("=")
    plus = "+" if name.endswith("+") else ""
    name = name.removesuffix("+")
    return (name, plus, value) if equals and name.isidentifier() and name.isascii() else None


def _step(options: Sequence[OptionWord], env: Mapping[str, str]) -> dict[str, str]:
    """Return what srun tells the first task of a step."""
    given = [(f"--{option.name}", option.value or "") for option in options]
    first = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    return {**rank_environment(given, env), **first}


def _text(value: Value) -> str:
    return "" if value is None else " ".join(value[:1]) if isinstance(value, list) else value


def _requoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
