"""Looks up a trainer argument among what was given: by its own name, then by the names people's scripts use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from preflight.errors import Problem
from preflight.plan_choices import HF_TRAINERS
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_spellings import DECLARABLE, SPELLINGS
from preflight.scripts.arguments.trainer_tables import Argument, ArgumentTable
from preflight.scripts.arguments.trainer_values import NotConverted, Written, from_file, from_text
from preflight.scripts.arguments.trainer_versions import LibraryVersions
from preflight.setting import Place, Setting
from preflight.trainers.argument_kinds import KINDS, is_of_its_kind
from preflight.trainers.kind import TrainerKind
from preflight.values import dataclass


@dataclass(frozen=True)
class Match:
    """What was given for an argument."""

    setting: Setting | None = None
    looks_alike: bool = False
    """It stands under a name that people's scripts use, not under the argument's own."""


@dataclass(frozen=True)
class Given:
    """What the command line and the argument file say, and how sure we are of the script's parser."""

    kind: TrainerKind
    table: ArgumentTable
    versions: LibraryVersions
    known: Mapping[str, Setting]
    others: Mapping[str, Setting]
    """Flags and keys that the table does not have."""
    earlier: Mapping[str, tuple[Place, ...]]
    """Places that say the same argument and are overridden."""
    declared: Mapping[str, str] = field(default_factory=dict)
    """The script's own flag -> the plan field that the repository says it means."""
    positionals: tuple[Setting, ...] = ()
    """Words that belong to no flag, in order."""

    @property
    def library(self) -> str:
        """Return the library whose defaults hold: trl or transformers."""
        return "trl" if self.has_trl_arguments else "transformers"

    @property
    def has_trl_arguments(self) -> bool:
        """Tell whether the arguments are those of TRL's own class: its trainers take plain TrainingArguments too."""
        return self.kind.arguments_library == "trl"

    @property
    def loads_as_trl(self) -> bool:
        """Tell whether TRL loads the model: by its ModelConfig, or as it is named to a trainer."""
        classes = self.kind.classes
        if self.kind.trainer != "trl":
            return False
        return classes is None or "trl.ModelConfig" in classes or not self.kind.loads_model

    @property
    def has_trainer(self) -> bool:
        """Tell whether the Trainer's defaults hold."""
        return self.kind.trainer in HF_TRAINERS

    def told(self, names: Iterable[str]) -> Setting | None:
        """Return what was given under the first of some names of the script's own, or in their place among the words."""
        from preflight.scripts.python.argument_parsers import positional_index

        for name in names:
            for said in (self.known, self.others):
                if name in said:
                    return said[name]
            place = positional_index(name)
            if place is not None and place < len(self.positionals):
                return self.positionals[place]
        return None

    def without(self, names: Iterable[str]) -> Given:
        """Return the rest of what was given where nothing that is said of some arguments counts."""
        dropped = {spelling for name in names for spelling in SPELLINGS.get(name, (name,))}
        if not dropped:
            return self
        known, others = (
            {name: setting for name, setting in said.items() if name not in dropped}
            for said in (self.known, self.others)
        )
        return replace(self, known=known, others=others)

    def find(self, name: str) -> Reading[Match]:
        """Return what was given for an argument, under whatever name."""
        spellings = SPELLINGS.get(name, (name,))
        if name == "seq_len" and self.kind.trainer == "transformers":
            spellings = (
                name,
                *spellings,
            )  # where the script cuts, whatever else has a length's name
        for spelling in spellings:
            if spelling in self.known:
                return Reading(Match(self.known[spelling]))
        problems = Problems()
        for flag, declared in self.declared.items():
            if DECLARABLE.get(declared) == name and flag in self.others:
                setting = problems.take(self._other(name, flag))
                if setting is not None:
                    return Reading(Match(setting), tuple(problems))
        for spelling in spellings:
            setting = problems.take(self._other(name, spelling))
            if setting is not None:
                return Reading(Match(setting, looks_alike=True), tuple(problems))
        return Reading(Match(), tuple(problems))

    def _other(self, name: str, spelling: str) -> Reading[Setting | None]:
        setting = self.others.get(spelling)
        negated = self.others.get(f"no_{spelling}")
        if setting is None and negated is not None and negated.value is True:
            return Reading(Setting(False, negated.place))
        if setting is None:
            return Reading(None)
        argument = Argument(name, KINDS.get(name, "str"), None)
        written = Written(setting.place.key, setting.place.where)
        value = setting.value
        if isinstance(value, Mapping) and not is_of_its_kind(name, value, self.table):
            return Reading(None)  # a section of somebody's own file: `optimizer: {name: adamw}`
        if argument.is_list:
            return Reading(Setting(_words(value), setting.place))
        if value is True and argument.kind != "flag":
            return Reading(None)  # a switch of that name, not a value
        if name == "model_name_or_path" and isinstance(value, list):
            # which of them, or whether all, its parser knows
            several = Problem.not_understood(value, written.spelling, written.where)
            return Reading(None, (several,))
        try:
            if isinstance(value, str):
                reading = from_text(argument, value, written)
            else:
                reading = from_file(argument, value, written, converts_text=True)
        except NotConverted as error:
            # The script is somebody's own: the value may be right there.
            not_understood = Problem.not_understood(value, written.spelling, error.problem.where)
            return Reading(None, (not_understood,))
        return Reading(Setting(reading.value, setting.place))


def _words(value: Any) -> list[str]:
    """Return a list as scripts take it: words, or one word with commas."""
    items = value if isinstance(value, list) else [value]
    return [word.strip() for item in items for word in str(item).split(",") if word.strip()]
