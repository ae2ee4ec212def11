"""A job script read without running anything: followed line by line, as far as its text tells.

For machines that cannot confine a dry run. Variables, arrays, functions, loops over known words and
`case` over arguments are followed; a condition that is not known is followed on both sides.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from preflight.shell.conditions import is_true
from preflight.shell.fills import fill
from preflight.shell.substitutions import output_of
from preflight.shell.tree import (
    AndOr,
    CannotRead,
    Command,
    Compound,
    Pipeline,
    Redirection,
    Simple,
    shell_tree,
    words_in,
)
from preflight.shell.values import (
    Unknown,
    Value,
    Variables,
    expand,
    matches,
    text_of,
    unmarked,
)
from preflight.slurm.scripted_launch import ScriptReading
from preflight.slurm.static_launches import LaunchFinder

MOST_STEPS = 20_000
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
    folder = os.path.abspath(cwd)
    reasons: tuple[str, ...] = ()
    for goes_on in (False, True):
        # The second time past every `exit`: a folder that is missing here may be there for the job.
        variables = _variables(env or {}, arguments, folder, nodes)
        reader = _Reader(variables, name, folder, list(nodes), goes_on)
        try:
            reader.follow(tree)
        except _Stop as stop:
            reasons = (str(stop),) if str(stop) else ()
        except _Leave:
            pass
        except RecursionError:
            reasons = (f"{name}: nested too deeply",)
        except Unknown as error:
            reasons = (f"{name}: not read beyond {error}",)
        if reader.launches or reasons:
            break
    launches = tuple(reader.launches)
    if not launches and not reasons:
        reasons = ("the text names no launcher that preflight knows",)
    return ScriptReading("static" if launches else "nothing", launches, reader.files, reasons)


def _variables(
    env: Mapping[str, str], arguments: Sequence[str], folder: str, nodes: Sequence[str]
) -> Variables:
    known: dict[str, Value] = {"PWD": folder, "HOSTNAME": nodes[0] if nodes else None}
    only_running = dict.fromkeys(("RANDOM", "SECONDS", "BASHPID", "EPOCHSECONDS", "SRANDOM"))
    return Variables({**env, **known, **only_running}, set(env), list(arguments))


class _Reader(LaunchFinder):
    """What the script has come to: variables, folder, functions, files."""

    def __init__(
        self, variables: Variables, name: str, cwd: str, nodes: list[str], goes_on: bool
    ) -> None:
        super().__init__(variables, name, cwd)
        self.nodes = nodes
        self.goes_on = goes_on
        self.functions: dict[str, Compound] = {}
        self.num_steps = 0
        self.depth = 0
        self.num_inner = 0
        """Texts that are followed inside a command: their lines are not the script's."""
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
        if self.num_steps > MOST_STEPS or self.depth > DEEPEST:
            raise _Stop(f"{self.name}: more than {MOST_STEPS:,} steps")
        if not self.num_inner:
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
        words = [w for word in command.words for w in expand(word, self.variables)]
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
        argv = [text for word in command.words[at:] for text in expand(word, self.variables)]
        if not argv:
            return None
        return self.run(argv, own, command.redirections)

    def assigned(self, word: str) -> tuple[str, Value]:
        name, plus, raw = _assignment(word) or ("", "", "")
        try:
            if raw.startswith("("):
                items = [w for item in words_in(raw[1:-1]) for w in expand(item, self.variables)]
                old = self.variables.values.get(name) if plus else None
                return name, [*(old if isinstance(old, list) else []), *items]
            value = " ".join(expand(raw, self.variables, splits=False))
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
        self, argv: list[str], own: Mapping[str, Value], redirections: Sequence[Redirection] = ()
    ) -> bool | None:
        name = argv[0]
        if name in ("[", "test"):
            if any(unmarked(word)[1] for word in argv):
                return None
            words = " ".join(_requoted(word) for word in argv[1:] if word != "]" or name == "test")
            return is_true("[", words, self.variables, self.cwd, self.files)
        if name in self.functions and self.depth < DEEPEST:
            return self.call(self.functions[name], argv[1:])
        if name == "exit":
            if self.goes_on:
                return True
            raise _Stop
        if name in ("return", "break"):
            raise _Leave
        if name in ("true", ":", "false"):
            return name != "false"
        if name in ("cat", "echo", "printf", "tee", "sed") and self.prints(argv, redirections):
            return True
        if name in ("read", "mapfile", "readarray", "printf", "getopts"):
            return fill(argv, redirections, self.variables)
        if name in ("shift", "set", "unset", "cd", "pushd", "eval", "source", "."):
            return self.builtin(name, argv)
        if name == "exec":
            argv = argv[1:]
        return self.start(argv, own, redirections)

    def builtin(self, name: str, argv: list[str]) -> bool | None:
        """Do what a builtin does to variables, arguments and folder."""
        if name == "eval":
            return self.inner(" ".join(argv[1:]), {})
        if name == "shift":
            number = int(argv[1]) if len(argv) > 1 and argv[1].isdecimal() else 1
            del self.variables.arguments[:number]
        elif name == "set" and "--" in argv:
            self.variables.arguments[:] = argv[argv.index("--") + 1 :]
        elif name == "unset":
            for item in argv[1:]:
                self.variables.values.pop(item, None)
        elif name in ("cd", "pushd"):
            folder = argv[-1] if argv[1:] else self.variables.text("HOME") or "~"
            self.cwd = os.path.normpath(os.path.join(self.cwd, folder))
            self.variables.values["PWD"] = self.cwd
        elif name in ("source", ".") and len(argv) > 1:
            text = self.text_of_file(argv[1])
            if text is not None and not argv[1].startswith("/etc/") and "activate" not in argv[1]:
                self.inner(text, {})
        return True

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
        self.num_inner, self.depth = self.num_inner + 1, self.depth + 1
        before = dict(self.variables.values)
        if env:
            self.variables.values = {**before, **env}
        try:
            return self.follow(tree)
        except (_Stop, _Leave):
            return None
        finally:
            self.num_inner, self.depth = self.num_inner - 1, self.depth - 1
            if env:
                self.variables.values = before

    # Text

    def prints(self, argv: Sequence[str], redirections: Sequence[Redirection]) -> bool:
        """Write what a command prints into the files that it names; tell whether it was one that prints."""
        if argv[0] == "printf" and argv[1:2] == ["-v"]:
            return False
        if argv[0] == "sed" and any(word.startswith(("-i", "--in-place")) for word in argv):
            for word in argv[1:]:
                self.files.pop(os.path.normpath(os.path.join(self.cwd, word)), None)
            return True
        self.write(redirections, self.printed(argv, redirections), argv)
        return True

    def printed(self, argv: Sequence[str], redirections: Sequence[Redirection]) -> str | None:
        for redirection in redirections:
            if redirection.operator == "<<":
                return self.body(redirection)
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
                before = self.files.get(path, "") if operator == ">>" else ""
                self.files[path] = before + unmarked(text)[0]

    def substitute(self, text: str) -> str | None:
        if self.depth > DEEPEST:
            return None
        return output_of(text, self.variables, self.nodes, self.cwd, self.files)


def _assignment(word: str) -> tuple[str, str, str] | None:
    """Return name, `+` and raw value of `name=value`; None for any other word."""
    name, equals, value = word.partition("=")
    plus = "+" if name.endswith("+") else ""
    name = name.removesuffix("+")
    return (name, plus, value) if equals and name.isidentifier() and name.isascii() else None


def _requoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
