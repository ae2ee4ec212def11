"""`trl sft ...` as a LaunchPlan: which words are the script's and which are accelerate's, then both halves.

Source: TrainingCommand.run and resolve_accelerate_config_argument of TRL 1.16.0 (trl/cli). The CLI
parses its words with the script's own parser; what that does not know, in the command and in the
`--config` file, goes to `accelerate launch`. The script gets the rest, the file's name included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace

from preflight.errors import BadInput, Problem, raise_if_any
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.accelerate.argv import OPTIONS, parse_launcher_arguments
from preflight.launchers.accelerate.checks import check_beside_file
from preflight.launchers.accelerate.launcher import read_launcher_settings
from preflight.launchers.accelerate.plan import accelerate_part, launcher_notes
from preflight.launchers.script import make_plan
from preflight.launchers.script_arguments import read_script_arguments, read_script_engine
from preflight.launchers.trl import LAUNCHER
from preflight.launchers.trl.profiles import profile_names, with_profile
from preflight.libraries.resolve import libraries_of
from preflight.libraries.ruled_out import gone_from_trl
from preflight.near_names import nearest_fix
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_spellings import argument_fix
from preflight.scripts.arguments.trainer_tables import ArgumentTable, argument_table
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import ParsedOptions, options_by_flag
from preflight.trainers.argv import ParserRules, parse_argv
from preflight.values import dataclass
from preflight.versions.boundary import release

PROFILE_OPTION = "accelerate_config"


@dataclass(frozen=True)
class SplitWords:
    """What of a `trl` command goes to accelerate."""

    words: tuple[str, ...] = ()
    """As the CLI hands them on: those of the file first."""
    places: tuple[Place, ...] = ()
    """Where each of them is written."""
    indices: frozenset[int] = frozenset()
    """argv indices that are not the script's."""
    file_keys: Mapping[str, Place] = field(default_factory=dict)
    """Keys of the `--config` file that are accelerate's."""
    file_environment: Mapping[str, str] = field(default_factory=dict)
    """The file's `env:`, which the CLI exports before it starts anything."""


def read_trl(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a `trl` training command; None where it is another command."""
    first = LAUNCHER.first_argument(command.argv)
    if first is None:
        return None
    name = command.argv[first]
    problems = Problems()
    older = _of_older_releases(command, name)
    split = problems.take(split_words(command, first + 1, argument_table(name).with_more(older)))
    problems.extend(_unknown_to_both(split, name))
    words, profile, command = problems.take(_with_config_file(split, command))
    raise_if_any(problems)
    parsed = parse_launcher_arguments((*words.words, "script.py"), 0)
    problems.extend(_placed(problem, words) for problem in parsed.problems)
    raise_if_any(problems)
    given = {key: _moved(setting, words) for key, setting in parsed.given.items()}
    arguments = ParsedOptions(given, first + 1, first)
    # The CLI exports the file's `env:` itself, before accelerate looks at anything.
    launcher_side = replace(command, env={**command.env, **split.file_environment})
    settings = problems.take(read_launcher_settings(arguments, launcher_side))
    part = problems.take(accelerate_part(launcher_side, arguments, settings))
    part = replace(part, name="trl", profile=profile)
    script = f"trl.scripts.{name}"
    trainer = problems.take(read_script_arguments(command, first, script, split.indices))
    engine = problems.take(read_script_engine(command, part, trainer, problems))
    problems.extend(check_beside_file(settings, engine.deepspeed_file))
    refused = problems.refused
    problems.extend(launcher_notes(launcher_side, settings, part, trainer, engine, refused))
    # Keys that the script ignores are not lost: they went to accelerate.
    taken = {place.where for place in split.file_keys.values()}
    left = (
        p
        for p in problems
        if p.id not in ("", "PF122") or p.severity == "error" or p.where not in taken
    )
    return make_plan(command, part, trainer, engine, left)


def _of_older_releases(command: LaunchCommand, method: str) -> tuple[str, ...]:
    """Return the arguments that the parser has no more, and had in a release that the launch may have."""
    known = libraries_of(command).known
    return tuple(
        name
        for name, (library, since) in gone_from_trl(method).items()
        if library not in known or release(known[library].version) < release(since)
    )


def split_words(command: LaunchCommand, first: int, table: ArgumentTable) -> Reading[SplitWords]:
    """Return what goes to accelerate: everything that the script's parser does not know."""
    argv = command.argv
    words = list(enumerate(argv))[first:]
    at = next((i for i, (_, word) in enumerate(words) if word == "--config"), None)
    file_words: list[str] = []
    file_keys: dict[str, Place] = {}
    file_environment: dict[str, str] = {}
    if at is not None and at + 1 < len(words):
        path = words[at + 1][1]
        words = words[:at] + words[at + 2 :]
        try:
            document = read_document(command, path, stated_at="--config")
        except BadInput as error:
            return Reading(SplitWords(), error.problems)  # and the script's half would say it again
        for key, value in document.value.items():
            if key == "env":
                if isinstance(value, Mapping):
                    file_environment = {str(n): str(text) for n, text in value.items()}
            elif key not in table.arguments:
                place = Place(document.kind, path, str(key), document.line((str(key),)))
                file_keys[str(key)] = place
                file_words += [f"--{key}", str(value)]
    own = _unknown_positions([word for _, word in words], table)
    indices = [words[position][0] for position in own.value]
    places = [place for place in file_keys.values() for _ in range(2)]
    places += [Place("argv", "", argv[index], index=index) for index in indices]
    split = SplitWords(
        (*file_words, *(argv[index] for index in indices)),
        tuple(places),
        frozenset(indices),
        file_keys,
        file_environment,
    )
    return Reading(split, own.problems)


def _unknown_to_both(split: SplitWords, name: str) -> Iterator[Problem]:
    """Yield a problem for every flag and key that neither TRL's script nor accelerate knows."""
    launcher = {*options_by_flag(OPTIONS), f"--{PROFILE_OPTION}", "--help"}
    known = (*argument_table(name).arguments, *sorted(flag.lstrip("-") for flag in launcher))
    for word, place in zip(split.words, split.places, strict=True):
        flag = word.partition("=")[0]
        if not flag.startswith("--") or flag in launcher:
            continue
        dashes = "--" if place.kind == "argv" else ""
        shown = f"{dashes}{flag[2:]}"
        fix = argument_fix(flag[2:], known).replace("you mean ", f"you mean {dashes}")
        message = (
            f"{shown} is known neither to trl {name} nor to accelerate launch, which stops at it"
        )
        where = place.where if not dashes else shown
        yield Problem(message, where, fix, "PF111", refused_by="trl")


def _unknown_positions(words: Sequence[str], table: ArgumentTable) -> Reading[list[int]]:
    """Return the positions of the words that the script's parser leaves over, in order."""
    parsed = parse_argv(list(enumerate(words)), table, ParserRules(is_exact=False))
    starts = {
        place.index
        for name, setting in parsed.unknown.items()
        for place in (setting.place, *parsed.earlier.get(name, ()))
        if place.index is not None
    }
    known = {setting.place.index for setting in parsed.known.values()} | {
        place.index for name in parsed.known for place in parsed.earlier.get(name, ())
    }
    loose = [index for index, _ in parsed.positionals]
    positions: list[int] = []
    position = 0
    while position < len(words):
        if position in starts:
            positions.append(position)
            position += 1
            while position < len(words) and position not in starts | known:
                positions.append(position)
                position += 1
            continue
        position += 1
    problems = (
        Problem(
            f"{words[index]!r} stands alone: trl takes options only, and accelerate would start it as a script",
            words[index],
            "put the option that it belongs to in front of it",
            "PF111",
        )
        for index in loose
        if index not in positions
    )
    return Reading(positions, tuple(problems))


def _with_config_file(
    split: SplitWords, command: LaunchCommand
) -> Reading[tuple[SplitWords, str | None, LaunchCommand]]:
    """Return the words with `--accelerate_config` as accelerate's `--config_file`, the profile's name if it is one, and
    the command that can read it."""
    flag = f"--{PROFILE_OPTION}"
    if flag not in split.words:
        return Reading((split, None, command))
    at = split.words.index(flag)
    place = split.places[at]
    if at + 1 >= len(split.words):
        missing = Problem(f"{flag} needs a value", flag, "a file, or fsdp2, zero3", "PF111")
        return Reading((split, None, command), (missing,))
    name = split.words[at + 1]
    path, profile = name, None
    if not command.exists(name):
        found = with_profile(command, name)
        if found is None:
            return Reading((split, None, command), (_no_profile(name, place),))
        profile, (command, path) = name, found
    words = ["--config_file", path, *split.words[:at], *split.words[at + 2 :]]
    places = [place, place, *split.places[:at], *split.places[at + 2 :]]
    return Reading((replace(split, words=tuple(words), places=tuple(places)), profile, command))


def _no_profile(name: str, place: Place) -> Problem:
    known = profile_names()
    return Problem(
        f"accelerate_config {name!r} is neither a file nor one of TRL's own",
        place.where,
        nearest_fix(name, known) or f"one of {', '.join(known)}",
        "PF111",
    )


def _moved(setting: Setting, words: SplitWords) -> Setting:
    """Return a setting with the place that the user wrote it at."""
    index = setting.place.index
    return setting if index is None else replace(setting, place=words.places[index])


def _placed(problem: Problem, words: SplitWords) -> Problem:
    """Return a problem of a flag that the file gave with the file's line."""
    for word, place in zip(words.words, words.places, strict=True):
        if word == problem.where and place.kind != "argv":
            return replace(problem, where=place.where)
    return problem
