"""The launches behind a command that is no launcher: those of a shell script, of an envelope, of a Makefile's target."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from preflight.devices.cloud_names import card_of_any
from preflight.envelopes.all import ENDINGS
from preflight.envelopes.compose import FILES
from preflight.envelopes.contract import Job
from preflight.envelopes.makefile import made_parts
from preflight.envelopes.sky import OPTIONS
from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.launchers.all import is_launchers_own
from preflight.shell.starters.program_names import SUBMITTERS, is_python, program_name
from preflight.shell.starters.wrapper_options import SHELLS
from preflight.shell.starters.wrappers import MAX_LAYERS, unwrapped
from preflight.slurm.array_tasks import array_tasks, tasks_read, unread_words
from preflight.slurm.job_environment import job_environment, place_of
from preflight.slurm.job_script import read_submission, script_options
from preflight.slurm.options import SubmitOptions, submit_options
from preflight.slurm.script_reader import read_script
from preflight.slurm.scripted_launch import ScriptLaunch
from preflight.studies.launch_files import (
    SHELL_ENDINGS,
    FoundCommand,
    found_in,
    found_in_parts,
    text_of,
)
from preflight.values import dataclass

LONGEST_COMMAND = 20_000
"""Characters of a command that is looked through for the file that it hands on; a text of more is one launch, or a list."""
MAKE_FLAGS = ("-s", "-k", "-B", "-e", "-i", "--silent", "--always-make", "--keep-going")
OVERRIDES = ("--gpus", "--num-nodes", "--env", "--secret", "--env-file", "--workdir", "--gpu", "--nodes", "-e", "-p", "--parameter")  # fmt: skip
"""Options of theirs that beat what the file says: a command with one that no reader knows is not read."""


@dataclass(frozen=True)
class LaunchesBehind:
    """What a file starts that a command names."""

    path: str
    """As the command names it."""
    launches: tuple[FoundCommand, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    """Absolute path -> text of what the script writes before it launches."""
    reasons: tuple[str, ...] = ()
    """What was not read."""


def launches_behind(command: LaunchCommand) -> LaunchesBehind | None:
    """Return what the file starts that a command hands to a shell or to a scheduler; None for any other command."""
    one = command
    if sum(map(len, command.argv)) > LONGEST_COMMAND:
        return None
    for _ in range(MAX_LAYERS):
        if is_launchers_own(one):
            return None
        found = _of_script(one) or _of_submission(one) or _of_envelope(one) or _of_makefile(one)
        if found is not None:
            return found
        try:
            layers = unwrapped(one)
        except BadInput:
            return _of_text(one)
        if len(layers) != 1:
            return None
        one = layers[0].inner
    return None


def _of_script(command: LaunchCommand) -> LaunchesBehind | None:
    """Return what a shell script starts, followed as it would run with its arguments and these variables."""
    argv = command.argv
    first = 1 if program_name(argv[0]) in (*SHELLS, "source", ".") else 0
    while first and first < len(argv) and argv[first][:1] in ("-", "+"):
        if "c" in argv[first].lstrip("-") and not argv[first].startswith("--"):
            return None  # the text is on the command line
        first += 1 + (argv[first] in ("-o", "-O", "+o", "+O"))
    if first >= len(argv) or (not first and not argv[0].endswith(SHELL_ENDINGS)):
        return None
    path = command.resolve(argv[first])
    text = text_of(path) if os.path.isfile(path) else ""
    if not text or "\0" in text[:1000] or is_python(text.partition("\n")[0].split("/")[-1] or "-"):
        return None
    lines = script_options(text, argv[first])
    is_job = any(lines) and "SLURM_JOB_ID" not in command.env
    options = submit_options((), command.env, lines) if is_job else None
    return _followed(text, argv[first], argv[first + 1 :], command, options)


def _of_text(command: LaunchCommand) -> LaunchesBehind | None:
    """Return what a shell starts whose text stands on its command line; None where that has no launch."""
    name, *words = command.argv
    flags = [index for index, word in enumerate(words) if re.fullmatch(r"-\w*c", word)]
    if program_name(name) not in SHELLS or not flags or flags[0] + 1 >= len(words):
        return None
    text, *arguments = words[flags[0] + 1 :]
    found = _followed(text, f"{name} -c", arguments[1:], command, None)
    return found if found.launches else None


def _of_submission(command: LaunchCommand) -> LaunchesBehind | None:
    """Return what the script starts that `sbatch job.sh` submits."""
    if program_name(command.argv[0]) != "sbatch":
        return None
    try:
        job = read_submission("sbatch", command.argv[1:], command.env, command.cwd)
    except OSError:
        return None
    if job.kind not in ("file", "wrap"):
        return None
    return _followed(job.text, job.name, job.arguments, replace(command, cwd=job.cwd), job.options)


def _followed(
    text: str,
    name: str,
    arguments: Sequence[str],
    command: LaunchCommand,
    options: SubmitOptions | None,
) -> LaunchesBehind:
    """Return what a script's text starts: with the variables that are here, or with those of the job that options ask for."""
    if options is None:
        reading = read_script(text, name, arguments, command.env, command.cwd, called=name)
        found = tuple(_found(launch, name) for launch in reading.launches)
        return LaunchesBehind(name, found, reading.files, reading.reasons)
    place = place_of(options, None)
    types = [gpu.type for gpu in options.gpus_per_node or options.gpus or () if gpu.type]
    gpus, card = place.num_gpus or None, card_of_any(types)
    job = Job("Slurm job", name, options.num_nodes, gpus, card, has_files=True)
    launches: list[tuple[int | None, FoundCommand]] = []
    files: dict[str, str] = {}
    reasons: tuple[str, ...] = ()
    tasks = array_tasks(options.array or "")
    for task in tasks_read(tasks) or (None,):
        env = job_environment(options, place, command.env, command.cwd, name, task)
        reading = read_script(text, name, arguments, env, command.cwd, place.nodes)
        for launch in reading.launches:
            one = _found(launch, name)._replace(job=job)
            if not any(_same_but_for_task(one, task, *other) for other in launches):
                launches.append((task, one))
        otherwise = [path for path, made in reading.files.items() if files.get(path, made) != made]
        reasons = reasons or reading.reasons
        shown = (os.path.relpath(path, command.cwd) for path in otherwise)
        reasons += tuple(f"task {task} writes {path} otherwise" for path in shown)
        files = {**reading.files, **files}
    if len({task for task, _ in launches}) > 1 and (unread := unread_words(tasks)):
        reasons += (unread,)
    return LaunchesBehind(name, tuple(one for _, one in launches), files, reasons)


def _same_but_for_task(
    one: FoundCommand, task: int | None, other_task: int | None, other: FoundCommand
) -> bool:
    """Tell whether a line launches the same in two tasks of an array, but for their numbers: a seed, a folder."""
    if one.line != other.line or len(one.argv) != len(other.argv) or task == other_task:
        return False
    return all(
        word == another
        or re.sub(rf"(?<![\w.]){task}(?![\w.])", "", word)
        == re.sub(rf"(?<![\w.]){other_task}(?![\w.])", "", another)
        for word, another in zip(one.argv, other.argv, strict=True)
    )


def _found(launch: ScriptLaunch, name: str) -> FoundCommand:
    line = launch.origin.rpartition(":")[2]
    argv = (*launch.through, *launch.argv)
    try:
        is_known = not launch.through or bool(unwrapped(LaunchCommand(argv, launch.env)))
    except BadInput:
        is_known = False
    return FoundCommand(
        int(line) if line.isdecimal() else 1,
        argv if is_known else launch.argv,
        launch.env,
        launch.unknown,
        launch.dropped,
        cwd=launch.cwd if os.path.isdir(launch.cwd) else "",
    )


def _of_makefile(command: LaunchCommand) -> LaunchesBehind | None:
    """Return what the recipes start that `make -C DIR -f FILE TARGET NAME=VALUE` runs."""
    if program_name(command.argv[0]) != "make":
        return None
    folder, path, rest = ".", "Makefile", []
    words = iter(command.argv[1:])
    for word in words:
        if word in ("-C", "-f"):
            value = next(words, "")
            folder, path = (value, path) if word == "-C" else (folder, value)
        elif word in MAKE_FLAGS:
            continue
        elif word.startswith("-"):
            return None
        else:
            rest.append(word)
    whole = os.path.normpath(os.path.join(folder, path))
    place = command.resolve(folder)
    if not os.path.isfile(command.resolve(whole)):
        return None
    parts = made_parts(text_of(command.resolve(whole)), rest)
    found = (
        one._replace(cwd=one.cwd or place, env={**command.env, **one.env})
        for one in found_in_parts(path, parts, place)
    )
    return LaunchesBehind(whole, tuple(found))


def _of_envelope(command: LaunchCommand) -> LaunchesBehind | None:
    """Return what the file starts that a command submits."""
    name, words = program_name(command.argv[0]), command.argv[1:]
    if name == "docker" and words[:1] == ("compose",):
        return _of_compose(command, words[1:])
    if name not in SUBMITTERS or not words or words[0] not in SUBMITTERS[name]:
        return None
    said = _said(words, OPTIONS if name == "sky" else {})
    if said is None:
        return None
    named = [word.rpartition("=")[2] for word in words if word.endswith(ENDINGS)]
    paths = [path for path in named if os.path.isfile(command.resolve(path))]
    if len(paths) != 1:
        return None
    text = text_of(command.resolve(paths[0]))
    return LaunchesBehind(paths[0], tuple(found_in(paths[0], text, command.cwd, said)))


def _of_compose(command: LaunchCommand, words: Sequence[str]) -> LaunchesBehind | None:
    """Return what `docker compose -f FILE up SERVICE ...` starts; None for any other of its commands."""
    if "up" not in words:
        return None
    start = words.index("up")
    before, services = words[:start], [word for word in words[start + 1 :] if word[:1] != "-"]
    if len(before) not in (0, 2) or (before and before[0] not in ("-f", "--file")):
        return None
    names = [name for name in before[1:] or FILES if os.path.isfile(command.resolve(name))]
    if not names:
        return None
    found = found_in(names[0], text_of(command.resolve(names[0])), command.cwd)
    asked = [one for one in found if not services or _service_of(one) in services]
    return LaunchesBehind(names[0], tuple(asked))


def _service_of(found: FoundCommand) -> str:
    return "" if found.job is None else found.job.kind.rpartition(" ")[2]


def _said(words: Sequence[str], options: Mapping[str, str]) -> dict[str, str] | None:
    """Return what options say in place of keys of the file; None where one does that is not read."""
    found = {}
    for index, word in enumerate(words):
        option, is_joined, value = word.partition("=")
        if option in options:
            found[options[option]] = value if is_joined else "".join(words[index + 1 : index + 2])
        elif option in OVERRIDES:
            return None
    return found
