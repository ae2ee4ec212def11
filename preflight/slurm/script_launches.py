"""The launches behind the commands of a script that is followed: through srun, shells, files and containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.shell.grammar.text import Text, known, not_known
from preflight.shell.meaning.files import Files
from preflight.shell.meaning.running import Status
from preflight.shell.programs.tools import TOOLS
from preflight.shell.reader import Reader
from preflight.shell.starters.program_names import is_python, program_name
from preflight.shell.starters.shell_layers import behind_options
from preflight.shell.starters.wrapper_notes import rank_environment
from preflight.shell.starters.wrapper_options import SHELLS
from preflight.shell.starters.wrappers import unwrapped
from preflight.slurm.option_words import OptionWord, split_words
from preflight.slurm.scripted_launch import LAUNCHERS, ScriptLaunch, is_launch, shown_origin

MOST_LAUNCHES = 200
MOST_LAYERS = 12
PREPARING = frozenset(
    [
        "pip", "pip3", "apt", "apt-get", "git", "wget", "curl", "aws", "gsutil", "huggingface-cli", "hf", "wandb",
        "nvcc", "tar", "unzip", "gzip", "scp", "ssh", "squeue", "sacct", "scancel", "sinfo", "sattach", "sbcast",
        "sbatch", "free", "df", "du", "ps", "top", "ifconfig", "ip", "ping", "dcgmi", "make", "cmake", "gcc", "mail",
        "pkill", "killall", "find", "grep", "stat",
    ]
)  # fmt: skip
"""Programs that start no launch. One of them in front of `&&` is taken to succeed."""
_MANAGES = frozenset(
    ["install", "uninstall", "add", "remove", "create", "update", "upgrade", "show"]
)
"""What managers of packages and environments are told: what they name behind it is no launch."""
_BUILDS = ("build", "pull", "tag", "push", "images", "ps", "stop", "rm", "inspect", "load", "save")
"""What docker does that starts nothing."""


@dataclass
class _Start:
    """A command with all that is around it."""

    argv: tuple[Text, ...]
    env: Mapping[str, Text]
    cwd: Text
    through: tuple[Text, ...] = ()
    depth: int = 0

    def behind(self, number: int, **changes: object) -> _Start:
        """Return what stands behind the first words."""
        through = (*self.through, *self.argv[:number])
        inner = replace(self, argv=self.argv[number:], through=through, depth=self.depth + 1)
        return replace(inner, **changes)  # type: ignore[arg-type]

    def at(self, places: Sequence[int], **changes: object) -> _Start:
        """Return the command that some of the words are."""
        around = tuple(word for index, word in enumerate(self.argv) if index not in places)
        inner = replace(
            self,
            argv=tuple(self.argv[index] for index in places),
            through=(*self.through, *around),
            depth=self.depth + 1,
        )
        return replace(inner, **changes)  # type: ignore[arg-type]

    @property
    def words(self) -> list[str]:
        return [word.shown for word in self.argv]


@dataclass
class LaunchFinder:
    """Writes down what commands launch."""

    name: str
    """Of the script, as places in it are named."""
    launches: list[ScriptLaunch] = field(default_factory=list)

    def start(self, reader: Reader, argv: list[Text], own: Mapping[str, Text]) -> Status:
        """Write down what a command launches, behind its wrappers; nothing for any other program."""
        state = reader.state
        env = {**state.environment(), **own}
        return self.launch(reader, _Start(tuple(argv), env, state.cwd))

    def launch(self, reader: Reader, one: _Start) -> Status:
        """Follow one command behind its wrappers."""
        words = one.words
        if not words or one.depth > MOST_LAYERS:
            return None
        name = program_name(words[0])
        if is_launch(words):
            self.found(reader, one)
            reader.print_unknown()
            return None
        if name in SHELLS:
            return self.shell(reader, one)
        if name == "preflight" and "--" in words:
            return self.launch(reader, one.behind(words.index("--") + 1, through=one.through))
        if name == "srun":
            split = split_words(words[1:], "srun")
            env = {**one.env, **_step(split.components[0], one.env)}
            return self.launch(reader, one.behind(1 + split.first_rest, env=env))
        if one.depth and (name in TOOLS or name in ("echo", "printf")):
            return reader.run([known(name), *one.argv[1:]])
        if "/" in words[0] and (text := self.script(reader, one)) is not None:
            return self.follow(reader, one, text, one.argv[0], one.argv[1:])
        return self.wrapped(reader, one, name)

    def shell(self, reader: Reader, one: _Start) -> Status:
        """Follow `bash -c TEXT`, `bash FILE`, or the text that comes in."""
        at, is_text = behind_options(one.words)
        rest = one.argv[at:]
        if is_text and rest:
            name = rest[1] if len(rest) > 1 else known("bash")
            return self.follow(reader, one, rest[0], name, rest[2:])
        if rest and rest[0].known != "-":
            text = self.script(reader, replace(one, argv=rest), any_text=True)
            return None if text is None else self.follow(reader, one, text, rest[0], rest[1:])
        if reader.input is not None:
            return self.follow(reader, one, reader.input.rest(), known("bash"), rest[1:])
        return None

    def script(self, reader: Reader, one: _Start, any_text: bool = False) -> Text | None:
        """Return the text of another shell script that the job starts; None where there is none to follow."""
        state = replace(reader.state, cwd=one.cwd)
        path = state.path(one.argv[0])
        text = None if path is None else state.world.files.read(path)
        if text is None or path is None:
            return None
        first = text.shown.partition("\n")[0]
        if "\0" in text.shown[:1000]:
            return None
        is_shell = "sh" in first if first.startswith("#!") else path.endswith((".sh", ".bash"))
        return text if (any_text and "python" not in first) or is_shell else None

    def follow(
        self, reader: Reader, one: _Start, text: Text, name: Text, arguments: Sequence[Text]
    ) -> Status:
        """Follow a text in a shell of its own, with the wrappers in front noted on what it launches."""
        first = len(self.launches)
        status = reader.follow_process(text, one.env, arguments, name, one.cwd)
        through = tuple(word.shown for word in one.through)
        for index in range(first, len(self.launches)):
            inner = self.launches[index]
            cwd = inner.cwd if inner.cwd == one.cwd.shown else _of_this_machine(through, inner)
            self.launches[index] = replace(inner, through=(*through, *inner.through), cwd=cwd)
        return status

    def wrapped(self, reader: Reader, one: _Start, name: str) -> Status:
        words = one.words
        shown = {key: value.shown for key, value in one.env.items()}
        command = LaunchCommand(tuple(words), shown, one.cwd.shown)
        try:
            layers = unwrapped(command)
        except BadInput:
            layers = []
        status: Status = None
        for layer in layers:
            inner = one.at(layer.places, env=_environment(one, layer.inner.env, command.env))
            argv = (*map(known, layer.added), *inner.argv)
            cwd = one.cwd if layer.inner.cwd == command.cwd else known(layer.inner.cwd)
            status = self.launch(reader, replace(inner, argv=argv, cwd=cwd))
        if layers:
            return status
        reader.print_unknown()
        if name in PREPARING or not _MANAGES.isdisjoint(words[1:4]):
            reader.is_likely = True
            return None
        if name in ("docker", "podman") and words[1:2] and words[1] in _BUILDS:
            return None
        for index in range(1, len(words) - 1):  # `yolk -V deepspeed` starts nothing
            program = program_name(words[index])
            if (
                (program in LAUNCHERS and len(program) > 2)
                or program in ("bash", "sh")
                or is_python(program)
            ):
                return self.launch(reader, one.behind(index))
        return None

    def found(self, reader: Reader, one: _Start) -> None:
        """Write down a launch, with what is not known in it named."""
        if len(self.launches) >= MOST_LAUNCHES:
            return
        files = reader.state.world.files
        argv = tuple(_without_pipes(word, files) for word in one.argv)
        unknown = [source for word in argv for source in word.unknown]
        env = {key: value.shown for key, value in one.env.items()}
        words, dropped = {word.shown for word in argv}, reader.state.world.dropped
        self.launches.append(
            ScriptLaunch(
                tuple(word.shown for word in argv),
                env,
                one.cwd.shown,
                tuple(word.shown for word in one.through),
                shown_origin(self.name, reader.line),
                tuple(dict.fromkeys(unknown)),
                {word: name for word, name in dropped.items() if word[:1] == "-" and word in words},
            )
        )


def _of_this_machine(through: tuple[str, ...], launch: ScriptLaunch) -> str:
    """Return the folder into which a text goes in what is started through some words: a container has those of its mounts."""
    with suppress(BadInput):
        for layer in unwrapped(LaunchCommand((*through, *launch.argv), launch.env)):
            return layer.inner.resolve(launch.cwd) if layer.inner.mounts else launch.cwd
    return launch.cwd


def _without_pipes(word: Text, files: Files) -> Text:
    raw = files.pipes.get(word.known or "")
    return word if raw is None else not_known(raw)


def _environment(
    one: _Start, inner: Mapping[str, str], before: Mapping[str, str]
) -> dict[str, Text]:
    """Return the environment behind a wrapper; a value that a word of it gives keeps what is not known."""
    made: dict[str, Text] = {}
    for name, value in inner.items():
        if before.get(name) == value and name in one.env:
            made[name] = one.env[name]
            continue
        made[name] = known(value)
        for word in one.argv:
            first = word.parts[0] if word.parts else ""
            if isinstance(first, str) and first.startswith(f"{name}=") and word.unknown:
                made[name] = Text((first[len(name) + 1 :], *word.parts[1:]))
    return made


def _step(options: Sequence[OptionWord], env: Mapping[str, Text]) -> dict[str, Text]:
    """Return what srun tells the first task of a step."""
    given = [(f"--{option.name}", option.value or "") for option in options]
    shown = {key: value.shown for key, value in env.items()}
    ranks = rank_environment(given, shown)
    first = dict.fromkeys(
        ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID", "SLURM_STEPID"), "0"
    )
    more = {
        "SLURM_NPROCS": ranks["SLURM_NTASKS"],
        "SLURM_STEP_NUM_NODES": ranks.get("SLURM_NNODES") or shown.get("SLURM_NNODES") or "1",
    }
    exported = next((o.value or "" for o in reversed(options) if o.name == "export"), "")
    pairs = (item.partition("=") for item in exported.split(",") if "=" in item)
    own = {key: value for key, _, value in pairs}
    return {key: known(value) for key, value in {**ranks, **first, **more, **own}.items()}
