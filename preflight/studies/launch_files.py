"""Files in which launches stand, and the commands in them: shell scripts, Makefiles, and the examples of a README."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise

from preflight.envelopes.all import ENDINGS, NOTHING, parts_of
from preflight.envelopes.contract import Job, Part
from preflight.files import open_regular
from preflight.launchers.all import launch_pattern, words_in_texts
from preflight.lazy_pattern import lazy_pattern
from preflight.shell.blocks import Block, lines_of
from preflight.shell.grammar.parser import parse
from preflight.shell.grammar.syntax import CannotRead
from preflight.shell.grammar.text import Text, TooManySteps, known
from preflight.shell.meaning.files import Files
from preflight.shell.meaning.running import Leave
from preflight.shell.meaning.state import World, state_of
from preflight.shell.reader import Reader
from preflight.shell.starters.program_names import is_python
from preflight.shell.starters.wrapper_options import SHELLS
from preflight.values import NamedTuple

MAX_BYTES = 1_000_000
SHELL_ENDINGS = (".sh", ".bash", ".sbatch", ".slurm")
LAUNCHER = lazy_pattern(launch_pattern())
SCRIPT = r"\"?\S*(?:train|finetune|fine_tune|sft|dpo)\S*\.py\b"
PYTHON = lazy_pattern(rf"\bpython[\d.]*\s+(?:-\S+\s+)*{SCRIPT}")
JOB = lazy_pattern(rf"\bhf\s+jobs\s+(?:uv\s+)?run\s(?:\\\n|[^\n;&|])*?\s{SCRIPT}")
"""A job of the Hub's, whose options have values of their own."""
CALLS = lazy_pattern(r"\bpython[\d.]*\s[^\n;&|]*\.py\b|\.(?:sh|bash)\b")
"""A text that calls another file, which may train."""
TRAINS = lazy_pattern(r"(?:\btrain|Trainer|\bbackward)\(")
"""A call of a script that trains, whatever its name."""
ENVELOPE = lazy_pattern(r"^(?:run|commands|jobs|runs|kind|services)[ \t]*:", re.MULTILINE)
"""A key of every envelope, and of hardly any config."""
STARTS = lazy_pattern(
    rf"\b(?:python[\d.]*|{'|'.join(map(re.escape, words_in_texts()))})\b|{launch_pattern()}"
)
ARGUMENTS_OF_SCRIPT = ("$@", "${@}", "$*", "${*}")
"""What whoever starts the script adds; without them it is the launch as the repository has it."""


def carries_launch(text: str) -> bool:
    """Tell whether a YAML file may be an envelope with a launch, before it is parsed."""
    return ENVELOPE.search(text) is not None and STARTS.search(text) is not None


def text_of(path: str) -> str:
    try:
        with open_regular(path) as file:
            return file.read(MAX_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return ""


def commands_in(path: str, text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield line and words of every command of a file that starts a training, as far as its lines can be read."""
    for found in found_in(path, text):
        if not found.untold:
            yield found.line, found.argv


class FoundCommand(NamedTuple):
    """A command that starts a training, where it was found."""

    line: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Variables in front of it, and those that the file has exported by then."""
    unknown: tuple[str, ...] = ()
    """Variables in its words whose value only a shell knows, as they are written."""
    dropped: Mapping[str, str] = NOTHING
    """Option -> the variable behind it that nobody has set, which leaves no word."""
    untold: str = ""
    """Why the words cannot be told; they are those of the line then."""
    device: str = ""
    """What `preflight run --device` in front of the command names."""
    cwd: str = ""
    """The folder that the file has gone to by then; empty where it is not known, or the one where it is started."""
    job: Job | None = None
    """The machines that the file asks for; None where it is started where it stands."""


def found_in(
    path: str, text: str, folder: str = ".", said: Mapping[str, str] = NOTHING
) -> Iterator[FoundCommand]:
    """Yield every command of a file that starts a training.

    `folder` is where the file would be started, `said` what options of the command that does it say in place of keys.
    """
    if not path.endswith(ENDINGS) or carries_launch(text):
        yield from found_in_parts(path, parts_of(path, text, said), folder)


def found_in_parts(path: str, parts: Iterable[Part], folder: str) -> Iterator[FoundCommand]:
    """Yield every command of some texts of a file that starts a training, one that stands twice in a line once."""
    seen: set[object] = set()
    for part in parts:
        if not _may_start_training(part.block.text):
            continue
        for found in sorted(_of_part(path, part, folder), key=lambda one: one.line):
            key = (found.line, found.argv, tuple(sorted(found.env.items())), found.cwd)
            if key not in seen:
                seen.add(key)
                yield found


def _starts_training(text: str) -> bool:
    return any(pattern.search(text) for pattern in (LAUNCHER, PYTHON, JOB))


def _may_start_training(text: str) -> bool:
    """Tell whether a text is worth being followed: it starts a training, or calls a file that may."""
    return _starts_training(text) or CALLS.search(text) is not None


def _of_part(path: str, part: Part, folder: str) -> list[FoundCommand]:
    """Return the commands of one text; line by line where it is no script as a whole."""
    return [found._replace(job=part.job) for found in _of_block(path, part.block, folder)]


def _of_block(path: str, block: Block, folder: str) -> list[FoundCommand]:
    with suppress(CannotRead, TooManySteps, RecursionError):
        follower = _Follower(path, block, folder)
        found = follower.found_in(known(block.text))
        if follower.is_lost:  # it says `cd ../src`, seen from where it lies
            from_own = _Follower(path, block, folder, os.path.dirname(follower.script))
            again = from_own.found_in(known(block.text))
            found = found if from_own.is_lost else again
        return found
    found = []
    for line in lines_of(block):
        if not _may_start_training(line.text) or line.text.startswith("#"):
            continue
        try:
            found += _Follower(path, line, folder).found_in(known(line.text))
        except (CannotRead, TooManySteps, RecursionError) as error:
            if not _starts_training(line.text):
                continue  # a sentence that names a file
            words = tuple(line.text.split())
            found.append(FoundCommand(line.line, words, {}, untold=str(error)))
    return found


class _Follower:
    """Follows a text and writes down the commands that start a training."""

    def __init__(self, path: str, block: Block, folder: str, start: str | None = None) -> None:
        """Follow a text of a file of `folder` that is started there, or in `start`."""
        self.block = block
        self.folder = os.path.abspath(folder)
        self.start_in = os.path.normpath(os.path.join(self.folder, start or block.folder))
        self.script = os.path.abspath(os.path.join(folder, path))
        self.found: list[FoundCommand] = []
        self.is_lost = False
        """Whether a launch starts in a folder that is not there."""

    def found_in(self, text: Text) -> list[FoundCommand]:
        tree = parse(text)
        world = World(Files(opens=False), nodes=(), is_partial=True)
        start = self.start_in if os.path.isdir(self.start_in) else self.folder
        state = state_of(world, self.block.exported, (), start, known(self.script))
        reader = Reader(state, self.start, goes_on=True, explores=True)
        with suppress(Leave):
            reader.follow(tree)
        # Launches stand in functions that another file calls, and in scripts that this one writes.
        for function in list(reader.state.functions.values()):
            if function.name not in reader.called:
                with suppress(Leave):
                    reader.call(function, [])
        for written in list(world.files.written.values()):
            if written.shown.startswith("#!") and _starts_training(written.shown):
                with suppress(Leave):
                    reader.follow_text(written)
        return self.found

    def start(self, reader: Reader, argv: list[Text], own: Mapping[str, Text]) -> bool | None:
        """Write down a command that starts a training."""
        reader.print_unknown()
        words = [word for word in argv if word.shown not in ARGUMENTS_OF_SCRIPT]
        if words[0].known in ("bash", "sh", "sbatch") and reader.input is not None:
            return reader.follow_text(reader.input.rest())
        shown = tuple(word.shown for word in words)
        if len(shown) == 1 and not shown[0].endswith(SHELL_ENDINGS):
            return None  # a list of packages names launchers
        if not _starts_training(" ".join(shown)) and not self.is_training_script(reader, words):
            return self.follow_script(reader, words, own)
        shown, device = _behind_preflight(shown)
        state = reader.state
        env = {**state.environment(), **own}
        env.pop("PWD", None)
        unknown = dict.fromkeys(source for word in words for source in word.unknown)
        folder = state.cwd.known or ""
        self.is_lost = self.is_lost or (folder != "" and not os.path.isdir(folder))
        self.found.append(
            FoundCommand(
                self.block.line + reader.line - 1,
                shown,
                {name: value.shown for name, value in env.items()},
                tuple(unknown),
                device=device,
                cwd=folder if folder != self.folder and os.path.isdir(folder) else "",
            )
        )
        return None

    def is_training_script(self, reader: Reader, words: list[Text]) -> bool:
        """Tell whether a command has Python run a script that is here and trains, whatever its name."""
        script = next((word for word in words[1:] if not word.shown.startswith("-")), None)
        if not is_python(words[0].shown) or script is None or not script.shown.endswith(".py"):
            return False
        return TRAINS.search(self.text_of(reader, script)) is not None

    def follow_script(
        self, reader: Reader, words: list[Text], own: Mapping[str, Text]
    ) -> bool | None:
        """Follow a shell script that is here and is given words or variables; what it starts without any, it shows itself."""
        first = 1 if words[0].known in SHELLS else 0
        if len(words) <= first or not words[first].shown.endswith(SHELL_ENDINGS):
            return None
        env = {**reader.state.environment(), **own}
        text = self.text_of(reader, words[first])
        if not (words[first + 1 :] or env.keys() - {"PWD"}) or not _may_start_training(text):
            return None
        state = reader.state
        return reader.follow_process(known(text), env, words[first + 1 :], words[first], state.cwd)

    def text_of(self, reader: Reader, name: Text) -> str:
        """Return the text of a file that a command names, seen from where it starts or from where the followed file lies."""
        path = reader.state.path(name)
        beside = os.path.join(os.path.dirname(self.script), name.known or "")
        found = next((one for one in (path, beside) if one and os.path.isfile(one)), None)
        return text_of(found) if found else ""


NAMED_FILES = (".py", ".sh", ".yaml", ".yml", ".json", ".toml")


def started_in(folder: str, path: str, argv: tuple[str, ...]) -> str | None:
    """Return where a launch that stands in a file of a folder starts, told by the files and the module that it names.

    Most start at the top, others where their file lies or in between: the folder that has most of the files counts, the
    top before others, and then the one nearest to the file. None where no folder has any of them.
    """
    named = [
        word for word in argv if word.endswith(NAMED_FILES) and not word.startswith(("-", os.sep))
    ]
    named += [f"{word.replace('.', os.sep)}.py" for flag, word in pairwise(argv) if flag == "-m"]
    places, place = [folder], os.path.dirname(os.path.join(folder, path))
    while named and place.startswith(folder + os.sep):
        places.append(place)
        place = os.path.dirname(place)

    def had(place: str) -> int:
        return sum(os.path.isfile(os.path.join(place, word)) for word in named)

    best = max(places, key=had)
    return best if had(best) else None


def _behind_preflight(argv: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return the launch of a line such as `preflight run --device h100-sxm-80 -- accelerate launch`, and its device."""
    if os.path.basename(argv[0]) != "preflight" or "--" not in argv:
        return argv, ""
    at = argv.index("--")
    device = ""
    for word, value in pairwise(argv[:at]):
        if word == "--device":
            device = value
        elif value.startswith("--device="):
            device = value.removeprefix("--device=")
    return argv[at + 1 :], device
