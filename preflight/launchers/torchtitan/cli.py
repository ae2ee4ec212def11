"""A launch of torchtitan as a LaunchPlan: `torchrun -m torchtitan.train`, or run_train.sh with its variables."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

from preflight.engines.settings import EngineSettings
from preflight.errors import BadInput, raise_if_any
from preflight.formats.load import launch_text
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.launchers.framework_keys import FrameworkKeys, FrameworkLibrary, note_placeholders
from preflight.launchers.script import make_plan
from preflight.launchers.torchrun import LAUNCHER as TORCHRUN
from preflight.launchers.torchrun.plan import parse_torchrun, torchrun_part
from preflight.launchers.torchtitan.config import FILE_FLAG, Words, read_config
from preflight.launchers.torchtitan.plan import read_plan
from preflight.libraries.resolve import libraries_of
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.launcher_part import LauncherPart
from preflight.trainers.arguments import TrainerArguments

SCRIPT = "run_train.sh"
SHELLS = ("bash", "sh", "/bin/bash", "/bin/sh")
VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^{}]*))?\}|\$(\w+)")
ASSIGNMENT = re.compile(r"^\s*(?:export\s+)?(\w+)=(\S.*?)?\s*$")
DECIDES = {"training.local_batch_size": "micro_batch_size", "training.seq_len": "seq_len"}


def read_torchtitan(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a torchtitan launch; None where it is another command."""
    at = _shell_script(command)
    if at is not None:
        return _from_script(command, at)
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
    if script.startswith("torchtitan.") or script.endswith("torchtitan/train.py"):
        return True
    flags = command.argv[index + 1 :]
    named = any(word.startswith((f"--{FILE_FLAG}", "--job.config-file")) for word in flags)
    return named and re.search(r"(^|[./])train(\.py)?$", script) is not None


def _shell_script(command: LaunchCommand) -> int | None:
    argv = command.argv
    for index in (0, 1):
        if index < len(argv) and argv[index].rsplit("/", 1)[-1] == SCRIPT:
            return index if index == 0 or argv[0] in SHELLS else None
    return None


def _from_script(command: LaunchCommand, at: int) -> LaunchPlan:
    """Read the torchrun line of run_train.sh with its variables, and the words that it hands on as "$@"."""
    path = command.argv[at]
    text = launch_text(command, path)
    line = _torchrun_line(text, dict(command.env))
    if line is None:
        raise BadInput.one(
            f"{path} has no line that starts torchrun",
            path,
            "give the torchrun command itself",
            "PF111",
        )
    inner = replace(command, argv=tuple(line))
    first = TORCHRUN.first_argument(inner.argv)
    assert first is not None
    options = parse_torchrun(inner, first)
    raise_if_any(options.problems)
    launched = torchrun_part(inner, options)
    words: list[tuple[int | None, str]] = []
    for word in line[options.script_index + 1 :]:
        if word == "$@":
            words += [(i, given) for i, given in enumerate(command.argv) if i > at]
        else:
            words.append((None, word))
    here = Place("script", path, "torchrun")
    ranks = {name: Setting(setting.value, here) for name, setting in launched.value.ranks.items()}
    part = replace(launched.value, first_option=at, script_index=at, ranks=ranks)
    return _plan(command, Reading(part, launched.problems), words)


def _torchrun_line(text: str, variables: dict[str, str]) -> list[str] | None:
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        if re.search(r"(^|\s)torchrun\s", line) and not line.lstrip().startswith("#"):
            start = re.search(r"(^|\s)torchrun\s", line)
            assert start is not None
            command = _expanded(line[start.start() :].strip(), variables)
            try:
                return shlex.split(command)
            except ValueError:
                return None
        found = ASSIGNMENT.match(line)
        if found is not None:
            value = _expanded((found[2] or "").strip("\"'"), variables)
            variables[found[1]] = value.strip("\"'")
    return None


def _expanded(text: str, variables: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        return variables.get(name) or (match[2] or "").strip("\"'")

    return VARIABLE.sub(value, text)


def _plan(command: LaunchCommand, launched: Reading[LauncherPart], words: Words) -> LaunchPlan:
    libraries = libraries_of(command)
    is_known = libraries.is_known("torchtitan")
    problems = Problems()
    part = replace(problems.take(launched), name="torchtitan")
    config = problems.take(
        read_config(command, words, libraries.version("torchtitan") if is_known else None)
    )
    keys = FrameworkKeys(FrameworkLibrary("torchtitan", config.version), dict(config.given))
    read_plan(keys, config, part.ranks["world_size"])
    note_placeholders(keys, DECIDES)
    problems.extend(keys.problems)
    keys.origins["trainer"] = Origin("torchtitan")
    trainer = TrainerArguments(
        trainer="torchtitan",
        raw=keys.given,
        settings=keys.settings,
        origins=keys.origins,
        places=keys.places,
    )
    engine = EngineSettings(fields=dict(part.ranks), library_names=("torch", "torchtitan"))
    part = replace(part, overrides=dict(config.overrides), own=config.version)
    plan = make_plan(command, part, trainer, engine, problems)
    if not is_known:
        reason = f"torchtitan is not installed here; the keys are those of {config.version}"
        plan = replace(plan, versions={**plan.versions, "torchtitan": config.version})
        origin = Origin(f"torchtitan {config.version}", True, reason)
        plan = plan.with_origin("versions.torchtitan", origin)
    return plan
