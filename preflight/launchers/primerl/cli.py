"""prime-rl's trainers as a LaunchPlan: `sft @ FILE`, `rl @ FILE`, `trainer @ FILE`, and their scripts under torchrun.

Source: src/prime_rl/entrypoints and packages/prime-rl-configs of its repository, November 2026; it is on no package index.
Its words, of docs/configuration.md (pydantic-config's `cli`): files are merged in order, `--section @ FILE` is a file of
one section, `--a.b-c 1` is the key a.b_c, `--flag` and `--no-flag` are switches.
"""

from __future__ import annotations

from preflight.errors import BadInput
from preflight.formats.toml import toml_leaves
from preflight.launch import LaunchCommand, LaunchPlan, ScriptFacts
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.framework_launch import own_loop_plan, with_expandable_segments
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.launcher_in_front import launcher_in_front
from preflight.launchers.literal_words import literal_of
from preflight.launchers.primerl import LAUNCHER, PROGRAMS, is_ours
from preflight.launchers.primerl.plan import deployed_ranks, has_tower, read_trainer
from preflight.reading import Problems
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.program_names import program_name

NEWEST = "of November 2026"


def read_primerl(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a training of prime-rl's; None where it is another command."""
    problems = Problems()
    part: LauncherPart | None = None
    program, first = program_name(command.argv[0]), 1
    if program not in PROGRAMS:
        found = launcher_in_front(command, lambda index: is_ours(command.argv[index]))
        if found is None:
            return None
        part, notes = problems.take(found)
        problems.extend(notes)
        script = command.argv[part.script_index].replace("\\", "/").replace(".", "/")
        program, first = "sft" if "sft/train" in script else "trainer", part.script_index + 1
    library = FrameworkLibrary.of("prime-rl", command, NEWEST, "prime_rl")
    keys = FrameworkKeys(library, read_words(command, first))
    is_started = part is None and program != "trainer"
    part = part or _started_part(keys, program)
    read_trainer(keys, program, part.ranks["world_size"].value)
    problems.extend(keys.problems)
    plan = own_loop_plan(
        command,
        part,
        keys,
        "plain_loop",
        library.label,
        problems,
        library="transformers",
        script=ScriptFacts(is_of_library=True, is_text_only=not has_tower(keys)),
    )
    return with_expandable_segments(plan, keys) if is_started else plan


def _started_part(keys: FrameworkKeys, program: str) -> LauncherPart:
    """Return the ranks of the trainer that `sft` and `rl` start with torchrun; `trainer` is one process."""
    default = keys.by_default(1)
    ranks, nodes = deployed_ranks(keys) if program != "trainer" else (default, default)
    return LauncherPart(
        name=LAUNCHER.name,
        first_option=1,
        script_index=1,
        ranks={"world_size": ranks, "num_nodes": nodes},
        mode="multi_gpu" if ranks.value > 1 else "single",
        mode_place=ranks.place,
        origins={},
    )


USAGE = "uv run sft @ FILE.toml --data.seq-len 4096"


def read_words(command: LaunchCommand, first: int) -> dict[str, Setting]:
    """Return every key that a command gives, from an argv index on; raise BadInput where a file cannot be read."""
    argv = command.argv
    files: dict[str, Setting] = {}
    flags: dict[str, Setting] = {}
    section, at = "", first
    while at < len(argv):
        word = argv[at]
        if word == "@":
            if at + 1 >= len(argv):
                raise BadInput.one("no file behind @", "the command after --", USAGE, "PF141")
            for key, setting in toml_leaves(command, argv[at + 1], "@").items():
                files[f"{section}.{key}" if section else key] = setting
            section, at = "", at + 2
        elif word.startswith("--"):
            name, is_joined, text = word[2:].partition("=")
            key = name.replace("-", "_")
            after = argv[at + 1] if at + 1 < len(argv) and not is_joined else ""
            if after == "@":
                section, at = key, at + 1
                continue
            place = Place("argv", "", f"--{name}", index=at)
            if is_joined or (after and not after.startswith("--")):
                flags[key] = Setting(literal_of(text if is_joined else after), place)
                at += 1 if is_joined else 2
            else:
                flags[key.removeprefix("no_")] = Setting(not key.startswith("no_"), place)
                at += 1
        else:
            at += 1
    return {**files, **flags}
