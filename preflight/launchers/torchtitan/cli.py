"""A launch of torchtitan as a LaunchPlan: `torchrun -m torchtitan.train`, or run_train.sh with its variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from preflight.errors import BadInput, Problem, raise_if_any
from preflight.formats.load import launch_text
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.launch_facts import ScriptFacts
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.framework_launch import note_placeholders, own_loop_plan
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.python.plan import python_part
from preflight.launchers.torchrun import LAUNCHER as TORCHRUN
from preflight.launchers.torchrun.plan import parse_torchrun, torchrun_part
from preflight.launchers.torchtitan import MODULE
from preflight.launchers.torchtitan.config import FILE_FLAG, Words, read_config
from preflight.launchers.torchtitan.plan import read_plan
from preflight.lazy_pattern import lazy_pattern
from preflight.libraries.resolve import libraries_of
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.grammar.parser import parse
from preflight.shell.grammar.syntax import CannotRead
from preflight.shell.grammar.text import Text, TooManySteps, known
from preflight.shell.meaning.files import Files
from preflight.shell.meaning.running import Leave, Status
from preflight.shell.meaning.state import World, state_of
from preflight.shell.reader import Reader
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.program_names import called
from preflight.values import dataclass

SCRIPT = "run_train.sh"
SHELLS = ("bash", "sh", "/bin/bash", "/bin/sh")
DECIDES = {"training.local_batch_size": "micro_batch_size", "training.seq_len": "seq_len"}


def read_torchtitan(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a torchtitan launch; None where it is another command."""
    at = _shell_script(command)
    if at is not None:
        return _from_script(command, at)
    what = called(command.argv)
    if what is not None and what.kind == "module" and what.name == MODULE:
        launched, index = _one_process(command, Place("argv", "", "python", index=0))
        return _plan(command, launched, list(enumerate(command.argv))[index + 1 :])
    first = TORCHRUN.first_argument(command.argv)
    if first is None:
        return None
    options = parse_torchrun(command, first)
    if options.script_index >= len(command.argv) or not _is_titan(command, options.script_index):
        return None
    raise_if_any(options.problems)
    part = torchrun_part(command, options)
    words = list(enumerate(command.argv))[options.script_index + 1 :]
    return _plan(command, part, words)


def _is_titan(command: LaunchCommand, index: int) -> bool:
    script = command.argv[index]
    if _is_its_own(script):
        return True
    if script.startswith("torchtitan."):
        return False  # such as `torchtitan.models.flux.inference.infer`
    flags = command.argv[index + 1 :]
    named = any(word.startswith((f"--{FILE_FLAG}", "--job.config-file")) for word in flags)
    return named and _TRAINS.search(script) is not None and _takes_its_config(command, script)


_TRAINS = lazy_pattern(r"(^|[./])train(\.py)?$")
_ITS_CONFIG = lazy_pattern(r"^\s*(?:from|import)\s+torchtitan\.(?:config|train)", re.MULTILINE)


def _takes_its_config(command: LaunchCommand, script: str) -> bool:
    """Tell whether a training script may read its words as torchtitan does: one that is here says so, and a framework on top
    of torchtitan has keys of its own."""
    text = command.readable_text(command.script_file(script))
    return not text or _ITS_CONFIG.search(text) is not None


def _is_its_own(script: str) -> bool:
    """Tell whether a script or module is torchtitan's own training, whose law the reader knows; its text says no more."""
    is_module = script.startswith("torchtitan.") and script.endswith("train")
    return is_module or script.endswith("torchtitan/train.py")


def _shell_script(command: LaunchCommand) -> int | None:
    argv = command.argv
    for index in (0, 1):
        if index < len(argv) and argv[index].rsplit("/", 1)[-1] == SCRIPT:
            return index if index == 0 or argv[0] in SHELLS else None
    return None


def _from_script(command: LaunchCommand, at: int) -> LaunchPlan:
    """Read what run_train.sh starts with its variables, and the words that it hands on as "$@"."""
    path = command.argv[at]
    started = started_by(command, at)
    inner = replace(command, argv=started.argv, env=started.env)
    here = Place("script", path, "torchrun")
    if started.is_torchrun:
        first = TORCHRUN.first_argument(inner.argv)
        assert first is not None
        options = parse_torchrun(inner, first)
        raise_if_any(options.problems)
        launched, script_index = torchrun_part(inner, options), options.script_index
    else:
        launched, script_index = _one_process(inner, here)
    words = [
        (started.given.get(index), word)
        for index, word in enumerate(inner.argv)
        if index > script_index
    ]
    ranks = {name: Setting(setting.value, here) for name, setting in launched.value.ranks.items()}
    part = replace(
        launched.value, first_option=at, script_index=at, ranks=ranks, variables=started.env
    )
    return _plan(command, Reading(part, launched.problems), words)


def _one_process(inner: LaunchCommand, here: Place) -> tuple[Reading[LauncherPart], int]:
    """Return the process that Python starts; with `--comm.mode` it stands in for all ranks, which it simulates."""
    what = called(inner.argv)
    assert what is not None
    part = python_part(inner, here, 1, what.position)
    if not any(word.startswith("--comm.mode") for word in inner.argv):
        return Reading(part), what.position
    count = inner.env.get("NGPU", "")
    simulated = Problem(
        f"one process stands in for the {count or 'many'} ranks that --comm.mode simulates",
        here.document or "--comm.mode",
        "without COMM_MODE run_train.sh starts the ranks themselves",
        severity="warning",
        unpriced="ranks that one process simulates",
        takes="either",
    )
    ranks = {"world_size": Setting(1, here), "num_nodes": Setting(1, here)}
    return Reading(replace(part, ranks=ranks, mode="single"), (simulated,)), what.position


def _plan(command: LaunchCommand, launched: Reading[LauncherPart], words: Words) -> LaunchPlan:
    libraries = libraries_of(command)
    is_known = libraries.is_known("torchtitan")
    problems = Problems()
    part = replace(problems.take(launched), name="torchtitan")
    config = problems.take(
        read_config(command, words, libraries.version("torchtitan") if is_known else None)
    )
    made_by = config.copied_from
    library = FrameworkLibrary("torchtitan", config.version)
    if made_by is not None:
        library = FrameworkLibrary(made_by.document, made_by.key)
    keys = FrameworkKeys(library, dict(config.given))
    read_plan(keys, config, part.ranks["world_size"])
    note_placeholders(keys, DECIDES)
    problems.extend(keys.problems)
    part = replace(part, overrides=dict(config.overrides), own="" if made_by else config.version)
    named = command.argv[part.script_index]
    script = ScriptFacts(is_of_library=_is_its_own(named) or named.endswith(SCRIPT))
    plan = own_loop_plan(command, part, keys, "torchtitan", "torchtitan", problems, script=script)
    if not is_known:
        reason = f"torchtitan is not installed here; the keys are those of {config.version}"
        plan = replace(plan, versions={**plan.versions, "torchtitan": config.version})
        origin = Origin(f"torchtitan {config.version}", True, reason)
        plan = plan.with_origin("versions.torchtitan", origin)
    return plan


@dataclass(frozen=True)
class Started:
    """The command that the script ends in."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    given: Mapping[int, int]
    """Index in this argv -> index in the argv of the command that was typed, of the words that `"$@"` handed on."""

    @property
    def is_torchrun(self) -> bool:
        return TORCHRUN.first_argument(self.argv) is not None


def started_by(command: LaunchCommand, at: int) -> Started:
    """Return what the script at an argv index starts; raise BadInput where that is no training of torchtitan."""
    path = command.argv[at]
    arguments = command.argv[at + 1 :]
    found: list[tuple[tuple[str, ...], Mapping[str, str]]] = []

    def start(reader: Reader, words: list[Text], own: Mapping[str, Text]) -> Status:
        argv = tuple(word.shown for word in words)
        what = called(argv)
        if TORCHRUN.first_argument(argv) is not None or (
            what is not None and what.kind == "module"
        ):
            values = {**reader.state.environment(), **own}
            found.append((argv, {name: value.shown for name, value in values.items()}))
        return None

    cwd = os.path.abspath(command.cwd)
    state = state_of(World(Files(opens=False)), command.env, arguments, cwd, known(path))
    # What was found before a text that cannot be followed is what the script starts.
    with suppress(Leave, CannotRead, TooManySteps, RecursionError):
        Reader(state, start).follow(parse(known(launch_text(command, path))))
    if not found:
        raise BadInput.one(
            f"{path} has no line that starts torchrun",
            path,
            "give the torchrun command itself",
            "PF111",
        )
    argv, env = found[0]
    return Started(argv, env, _handed_on(argv, arguments, at + 1))


def _handed_on(argv: Sequence[str], arguments: Sequence[str], first: int) -> dict[int, int]:
    """Return where the script's own words stand in what it starts: one behind the other, the last time they do."""
    count = len(arguments)
    for start in range(len(argv) - count, 0, -1):
        if count and tuple(argv[start : start + count]) == tuple(arguments):
            return {start + index: first + index for index in range(count)}
    return {}
