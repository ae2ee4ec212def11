"""ms-swift's training commands as a LaunchPlan: `swift sft`, `pt` and `rlhf`, and its scripts under any launcher.

Source: cli/main.py, cli/sft.py and pipelines/base.py of ms-swift 4.6.0; use_torchrun and
get_torchrun_args in cli/main.py of 3.0 to 4.6.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.errors import BadInput, Problem
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.framework_launch import framework_plan, note_placeholders
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.launcher_in_front import Front, launcher_in_front
from preflight.launchers.python.plan import python_part
from preflight.launchers.swift import COMMANDS, LAUNCHER
from preflight.launchers.swift.before import of_before
from preflight.launchers.swift.checks import check_swift, check_unknown
from preflight.launchers.swift.engine import read_engine
from preflight.launchers.swift.plan import DECIDES, read_swift_plan
from preflight.launchers.swift.table import arguments_before, is_before, newest_before, newest_with
from preflight.launchers.swift.words import SwiftWords, read_words
from preflight.launchers.torchrun.plan import torchrun_part
from preflight.launchers.unread import unread
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import ParsedOptions
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.program_names import program_name

MEGATRON = "megatron"
BEFORE = ("sft", "pt")
"""Commands that are read in releases before 3.0 too."""


def read_swift(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a training command of ms-swift's; None where it is another command."""
    first = LAUNCHER.first_argument(command.argv)
    if first is not None and program_name(command.argv[0]) == MEGATRON:
        name = f"{MEGATRON} {command.argv[first]}"
        message = (
            f"{name} trains with Megatron-Core, whose shards and kernels preflight does not price"
        )
        return unread(command, message, name)
    problems = Problems()
    notes: tuple[Problem, ...] = ()
    if first is not None:
        name = command.argv[first]
        with_file = read_words(command, first + 1, name)
        command = _with_variables(command, with_file.value)
        part = problems.take(cli_part(command, first))
    else:
        found = front(command)
        if found is None:
            return None
        part, notes = problems.take(found)
        name = script_command(command.argv[part.script_index]) or "sft"
        with_file = read_words(command, part.script_index + 1, name)
    older = is_before(with_file.value.given)
    if older and name not in BEFORE:
        message = f"swift {name} of ms-swift before 3.0 has other arguments, which are not read"
        return unread(command, message, name)
    if older:
        with_file = read_words(command, part.script_index + 1, name, arguments_before())
    words = problems.take(with_file)
    if not words.given:
        usage = f"swift {name} --model MODEL --dataset DATASET"
        problems.append(Problem("the command has no arguments", command.argv[0], usage, "PF111"))
        raise BadInput(*problems)
    keys = (_keys_before if older else _keys)(command, part, words, name)
    problems.extend(keys.problems)
    trainer = keys.finish(words.document)
    part = replace(part, name="swift", overrides=words.overrides, file_index=words.file_index)
    problems.extend(notes)
    return framework_plan(command, part, trainer, keys, False, problems, spreads_model=True)


def _with_variables(command: LaunchCommand, words: SwiftWords) -> LaunchCommand:
    """Return the command with the variables of its file's section for them, which beat none that is set."""
    return replace(command, env={**words.env, **command.env}) if words.env else command


def _keys_before(
    command: LaunchCommand, part: LauncherPart, words: SwiftWords, name: str
) -> FrameworkKeys:
    library = FrameworkLibrary.of("ms-swift", command, newest_before(), "ms_swift", ("swift",))
    given, left_out = of_before(words)
    keys = FrameworkKeys(library, given, words.overridden)
    for each in sorted(words.unknown & set(given)):
        message = f"swift {name} has no argument {each!r} in ms-swift {newest_before()}"
        keys.leave_out(NotModelled(message, f"an argument named {each}", "either"), given[each])
    note_placeholders(keys, DECIDES)
    read_engine(keys, part, command)
    read_swift_plan(keys, name, part)
    for what, at in left_out:
        keys.leave_out(what, at)
    check_swift(keys, name)
    return keys


def _keys(
    command: LaunchCommand, part: LauncherPart, words: SwiftWords, name: str
) -> FrameworkKeys:
    known = set(words.given) - words.unknown
    library = FrameworkLibrary.of(
        "ms-swift", command, newest_with(name, known), "ms_swift", ("swift",)
    )
    keys = FrameworkKeys(library, dict(words.given), words.overridden)
    check_unknown(keys, name, words.unknown)
    note_placeholders(keys, DECIDES)
    read_engine(keys, part, command)
    read_swift_plan(keys, name, part)
    check_swift(keys, name)
    return keys


COUNTS = ("NPROC_PER_NODE", "NNODES")
"""Variables of which one is enough for the command to call torchrun."""
HANDED_ON = (*COUNTS, "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables that become torchrun's flags."""


def cli_part(command: LaunchCommand, first: int) -> Reading[LauncherPart]:
    """Return how many ranks the command starts: torchrun's where a variable says so, else one."""
    env = command.env
    own = Place("argv", "", command.argv[0], index=0)
    if not any(name in env for name in COUNTS):
        return Reading(replace(python_part(command, own, first, first), name="swift"))
    given = {
        # A script's own variable that nobody knows is as good as none.
        name.lower(): Setting("" if "$" in env[name] else env[name], Place("env", "", name))
        for name in HANDED_ON
        if name in env
    }
    reading = torchrun_part(
        command, ParsedOptions(given=given, first_index=first, script_index=first)
    )
    part = replace(reading.value, name="swift", mode_place=own)
    return Reading(part, reading.problems)


def front(command: LaunchCommand) -> Reading[Front] | None:
    """Return what accelerate, torchrun, deepspeed or python decides in front of ms-swift's own script."""
    return launcher_in_front(command, lambda at: script_command(command.argv[at]) is not None)


def script_command(word: str) -> str | None:
    """Return the command that a script or module of ms-swift's is: swift/cli/sft.py, swift.cli.sft; None for others."""
    if word.endswith(".py"):
        name = program_name(word).removesuffix(".py")
        is_own = "swift/cli/" in word.replace("\\", "/")
        return name if is_own and name in COMMANDS else None
    package, _, last = word.rpartition(".")
    return last if package == "swift.cli" and last in COMMANDS else None
