"""Looks up a trainer argument among what was given: by its own name, then by the names people's scripts use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.errors import Problem
from preflight.launch import Origin, ScriptFacts
from preflight.plan_choices import HF_TRAINERS
from preflight.scripts.trainer_spellings import DECLARABLE, DTYPES, KINDS, SPELLINGS
from preflight.scripts.trainer_tables import Argument, ArgumentTable
from preflight.scripts.trainer_values import NotConverted, Written, from_file, from_text
from preflight.scripts.trainer_versions import LibraryVersions
from preflight.setting import Place, Setting
from preflight.trainers.kind import TrainerKind
from preflight.values import dataclass


@dataclass
class PlanFields:
    """Plan fields as they are told; filled by the functions that read one subject each."""

    settings: dict[str, Setting] = field(default_factory=dict)
    defaults: dict[str, tuple[Any, Origin]] = field(default_factory=dict)
    places: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    inferred: dict[str, str] = field(default_factory=dict)
    script: ScriptFacts = field(default_factory=ScriptFacts)
    environment: dict[str, Setting] = field(default_factory=dict)
    """Variables that a plugin which the script makes stands for."""
    problems: list[Problem] = field(default_factory=list)


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
    fields: PlanFields
    declared: Mapping[str, str] = field(default_factory=dict)
    """The script's own flag -> the plan field that the repository says it means."""

    @property
    def library(self) -> str:
        """Return the library whose defaults hold: trl or transformers."""
        return "trl" if self.kind.trainer == "trl" else "transformers"

    @property
    def has_trainer(self) -> bool:
        """Tell whether the Trainer's defaults hold."""
        return self.kind.trainer in HF_TRAINERS

    def get(self, name: str, plan_field: str = "") -> Setting | None:
        """Return what was given for an argument; a name that only looks like it is noted as inferred."""
        spellings = SPELLINGS.get(name, (name,))
        for spelling in spellings:
            if spelling in self.known:
                return self.known[spelling]
        for flag, declared in self.declared.items():
            if DECLARABLE.get(declared) == name and flag in self.others:
                setting = self._other(name, flag)
                if setting is not None:
                    return setting
        for spelling in spellings:
            setting = self._other(name, spelling)
            if setting is not None:
                if plan_field:
                    self.fields.inferred[plan_field] = (
                        f"read as {plan_field} from {setting.place.key}"
                    )
                return setting
        return None

    def value(self, name: str, default: Any = None) -> Any:
        """Return the value given for an argument, or a default."""
        setting = self.get(name)
        return default if setting is None or setting.value is None else setting.value

    def effective(self, name: str) -> Any:
        """Return the value given, or the library's default of this argument."""
        argument = self.table.arguments.get(name)
        return self.value(name, None if argument is None else argument.default)

    def put(self, plan_field: str, value: Any, *given: Setting) -> None:
        """Record a plan field with the settings that say it, the deciding one first."""
        self.fields.settings[plan_field] = Setting(value, given[0].place)
        places: list[Place] = []
        for setting in given:
            name = next(
                (n for n, s in (*self.known.items(), *self.others.items()) if s is setting), ""
            )
            places += [setting.place, *self.earlier.get(name, ())]
        self.fields.places[plan_field] = tuple(places)

    def assume(self, plan_field: str, value: Any, reason: str, library: str = "") -> None:
        """Record a plan field that a library's default decides."""
        library = library or self.library
        why = "; ".join(part for part in (reason, self.versions.reason(library)) if part)
        origin = Origin(f"default of {self.versions.label(library)}", assumed=True, reason=why)
        self.fields.defaults[plan_field] = (value, origin)

    def dtype(self, setting: Setting) -> str | None:
        """Return a dtype in the plan's words, None for auto; a problem where it is no dtype."""
        word = str(setting.value).removeprefix("torch.")
        if setting.value is None or word in ("auto", "None"):
            return None
        if word not in DTYPES:
            self.fields.problems.append(
                Problem(
                    f"{setting.place.key} must be auto, bfloat16, float16 or float32, not {setting.value!r}",
                    setting.place.where,
                )
            )
        return DTYPES.get(word)

    def _other(self, name: str, spelling: str) -> Setting | None:
        setting = self.others.get(spelling)
        negated = self.others.get(f"no_{spelling}")
        if setting is None and negated is not None and negated.value is True:
            return Setting(False, negated.place)
        if setting is None:
            return None
        argument = Argument(name, KINDS.get(name, "str"), None)
        written = Written(setting.place.key, setting.place.where)
        value = setting.value
        if argument.is_list:
            return Setting(_words(value), setting.place)
        if value is True and argument.kind != "flag":
            return None  # a switch of that name, not a value
        try:
            if isinstance(value, str):
                reading = from_text(argument, value, written)
            else:
                reading = from_file(argument, value, written, converts_text=True)
        except NotConverted as error:
            # The script is somebody's own: the value may be right there.
            problem = error.problem
            self.fields.problems.append(
                Problem(
                    f"{written.spelling} {value!r} is not understood, and is read as not given",
                    problem.where,
                    "say it with --set",
                    severity="warning",
                )
            )
            return None
        return Setting(reading.value, setting.place)


def _words(value: Any) -> list[str]:
    """Return a list as scripts take it: words, or one word with commas."""
    items = value if isinstance(value, list) else [value]
    return [word.strip() for item in items for word in str(item).split(",") if word.strip()]
