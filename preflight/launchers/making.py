"""A plan as it is put together: what its launcher, its trainer's arguments and its engine say, with the place of each value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace

from preflight.engines.settings import EngineSettings
from preflight.errors import Problem
from preflight.launch import SCRIPT_DECIDES, LaunchCommand, Origin, VersionReading
from preflight.launchers.not_read import unseen
from preflight.launchers.other_versions import span_of
from preflight.libraries.requirement import LIBRARIES
from preflight.libraries.resolve import Libraries
from preflight.libraries.ruled_out import not_taken
from preflight.plan_choices import OPEN_VALUES
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import UNSAID_RANKS, LauncherPart
from preflight.trainers.arguments import TrainerArguments
from preflight.trainers.left_open import why_open
from preflight.values import dataclass


@dataclass
class Making:
    """A plan as it is put together: what is told of each field, where it was said, and what was seen on the way."""

    command: LaunchCommand
    part: LauncherPart
    trainer: TrainerArguments
    engine: EngineSettings
    problems: list[Problem]
    libraries: Libraries
    fields: dict[str, Setting] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)

    def put(self, name: str, setting: Setting) -> None:
        """Record a field with its value and its place."""
        self.fields[name] = setting
        self.origins[name] = origin_of(setting.place, self.libraries)

    def take_what_is_said(self) -> None:
        """Take the fields of the trainer's arguments, then the engine's, which beat them but for its defaults' places."""
        self.fields.update(self.trainer.settings)
        self.origins.update(self.trainer.origins)
        for name, setting in self.engine.fields.items():
            before = self.origins.get(name)
            self.put(name, setting)
            if before is not None and setting.place.kind == "default":
                self.origins[name] = before
        if self.engine.deepspeed is not None:
            self.origins["deepspeed"] = origin_of(self.engine.deepspeed_place, self.libraries)

    def open_what_only_running_tells(self) -> None:
        """Open the fields that the script sets to what cannot be read, and the number of ranks where nobody says it."""
        fields, origins, script = self.fields, self.origins, self.trainer.script
        for name, place in script.unread.items():
            if name != "engine" and (name not in fields or fields[name].place.kind == "default"):
                where = origins[name].where if name in origins else SCRIPT_DECIDES
                reason = why_open(place)
                may_be = script.may_be.get(name, OPEN_VALUES.get(name, ()))
                origins[name] = Origin(where, True, reason, may_be)
        for name, others in script.half_said.items():
            reason = "the script sets a part of it to something known only when it runs"
            if others == script.may_be.get(name) and None not in others:
                reason = f"the script has {' or '.join(map(str, others))}, and chooses when it runs"
            origins[name] = replace(origins[name], assumed=True, reason=reason, may_be=others)
        engine, of_launcher = fields.get("engine"), dict(self.part.origins)
        is_said = engine is not None and engine.place != self.part.mode_place
        if engine is not None and is_said and engine.place.kind != "default":
            of_launcher.pop("engine", None)  # the trainer's arguments choose another
        if fields["world_size"].place != self.part.ranks["world_size"].place:
            of_launcher.pop("world_size", None)  # degrees that must make it up say it
            self.problems = [each for each in self.problems if each.id != "PF115"]
            ranks = None
        else:
            ranks = ranks_of(self.part, self.trainer, self.problems)
        origins.update(of_launcher)
        if ranks is not None:
            origins["world_size"] = ranks
        self.problems += synchronised(self.trainer, fields.get("engine"))

    def note_versions(self, taken: Mapping[str, str], others: tuple[VersionReading, ...]) -> None:
        """Record where the version of each library was said, and which others it may have."""
        libraries, origins = self.libraries, self.origins
        self.problems += lacking(self.command, libraries)
        if libraries.unseen and not self.command.in_container:
            self.problems.append(unseen(libraries.unseen))
        for name in taken:
            origins[f"versions.{name}"] = libraries.of(name).origin
        if others:
            reason = (
                f"nothing says which the launch will have: {span_of(taken, others[-1].versions)}"
            )
            may_be = tuple(other.versions for other in others)
            origins["versions"] = Origin("nobody", True, reason, may_be)


def synchronised(trainer: TrainerArguments, engine: Setting | None) -> Iterator[Problem]:
    """Yield that a reference model may never be brought up to date, of which the estimate has both models whole on every rank
    of ZeRO-3: a training of fewer steps than ref_model_sync_steps is not refused for it (hooks/memory_save.py)."""
    said = trainer.arguments.get("sync_ref_model")
    if said is not None and said.value is True and engine is not None and engine.value == "zero3":
        yield Problem(
            "sync_ref_model is estimated to gather both models on every rank under ZeRO-3, as it does where a training has"
            " ref_model_sync_steps of them (512 unless somebody says it)",
            said.place.where,
            "sync_ref_model: false, or shard with FSDP, where it needs nothing",
            "PF143",
            "info",
            unpriced="how soon both models are synchronised",
            takes="less",
        )


def ranks_of(
    part: LauncherPart, trainer: TrainerArguments, problems: Iterable[Problem]
) -> Origin | None:
    """Return the origin of a number of ranks that is open; None where the launcher says it."""
    told = part.origins.get("world_size")
    if told is not None and told.may_be:
        return told  # its launcher knows what it counts
    if any(problem.id == "PF115" for problem in problems):
        return UNSAID_RANKS
    if part.name == "python" and part.mode == "single" and not trainer.is_here:
        reason = "a script that is not here may start ranks itself"
        return Origin("python", True, reason, UNSAID_RANKS.may_be)
    return None


def origin_of(place: Place, libraries: Libraries) -> Origin:
    """Return a place as an Origin; a default names the library and version that it belongs to."""
    if place.kind != "default":
        return Origin(place.where)
    library, _, rest = place.key.partition(":")
    label = f"{library} {libraries.version(library)}" if library in LIBRARIES else library
    return Origin(f"default of {label}{':' + rest if rest else ''}")


def lacking(command: LaunchCommand, libraries: Libraries) -> Iterator[Problem]:
    """Yield the arguments, and the calls and imports of the script, at which every rank would stop: what runs has others."""
    known = {name: libraries.version(name) for name in libraries.known if libraries.is_known(name)}
    script = command.named_script() or ""
    for each in not_taken(command, known):
        release = f"{each.library} {each.version}"
        when = "any more" if each.span.is_over(each.version) else "yet"
        message = f"{each.words}: {release} does not have it {when}, and the script stops there"
        fix = f"{each.library}{each.span}, or what it is called there"
        where = f"{script}:{each.line}" if each.line else each.words
        unpriced = f"a release of {each.library} that has {each.words}"
        yield Problem(message, where, fix, "PF151", "warning", unpriced, "either")
