"""Plan fields as a training script's arguments say them, and how a function reads those of its subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from preflight.errors import Problem
from preflight.launch import Origin, ScriptFacts
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_spellings import DTYPES
from preflight.setting import Place, Setting
from preflight.trainers.lookup import Given
from preflight.unpriced_names import WIDE_WEIGHTS
from preflight.values import dataclass


@dataclass(frozen=True)
class PlanFields:
    """Plan fields as what was given and the library's defaults say them."""

    settings: Mapping[str, Setting]
    defaults: Mapping[str, tuple[Any, Origin]]
    places: Mapping[str, tuple[Place, ...]]
    inferred: Mapping[str, str]
    """Plan field -> why a name that only looks like the argument was taken for it."""
    unsure: Mapping[str, tuple[tuple[Any, ...], str]]
    """Plan field that a setting leaves open -> what else it may be, and why."""
    script: ScriptFacts = field(default_factory=ScriptFacts)
    environment: Mapping[str, Setting] = field(default_factory=dict)
    """Variables that a plugin which the script makes stands for."""

    def value(self, plan_field: str) -> Any:
        """Return the value given, or the default; None where there is neither."""
        if plan_field in self.settings:
            return self.settings[plan_field].value
        return self.defaults.get(plan_field, (None, None))[0]


def joined(*parts: PlanFields) -> PlanFields:
    """Return the fields that functions of one subject each have read."""
    settings: dict[str, Setting] = {}
    defaults: dict[str, tuple[Any, Origin]] = {}
    places: dict[str, tuple[Place, ...]] = {}
    inferred: dict[str, str] = {}
    unsure: dict[str, tuple[tuple[Any, ...], str]] = {}
    for part in parts:
        settings.update(part.settings)
        defaults.update(part.defaults)
        places.update(part.places)
        inferred.update(part.inferred)
        unsure.update(part.unsure)
    return PlanFields(settings, defaults, places, inferred, unsure=unsure)


class FieldReader:
    """Reads plan fields of one subject from what was given.

    A function makes one for itself and returns its `reading()`.
    """

    def __init__(self, given: Given) -> None:
        self.given = given
        self.settings: dict[str, Setting] = {}
        self.defaults: dict[str, tuple[Any, Origin]] = {}
        self.places: dict[str, tuple[Place, ...]] = {}
        self.inferred: dict[str, str] = {}
        self.unsure: dict[str, tuple[tuple[Any, ...], str]] = {}
        self.problems = Problems()

    def reading(self) -> Reading[PlanFields]:
        """Return what was read, and what there is to say about it."""
        fields = PlanFields(
            self.settings, self.defaults, self.places, self.inferred, unsure=self.unsure
        )
        return Reading(fields, tuple(self.problems))

    def get(self, name: str, plan_field: str = "") -> Setting | None:
        """Return what was given for an argument; a name that only looks like it is noted as inferred."""
        match = self.problems.take(self.given.find(name))
        if match.setting is not None and match.looks_alike and plan_field:
            how = f"read as {plan_field} from {match.setting.place.key}"
            self.inferred[plan_field] = how
        return match.setting

    def value(self, name: str, default: Any = None) -> Any:
        """Return the value given for an argument, or a default."""
        setting = self.get(name)
        return default if setting is None or setting.value is None else setting.value

    def positive(self, name: str, plan_field: str) -> Setting | None:
        """Return a count, or None with a problem where it is no whole number from 1."""
        setting = self.get(name, plan_field)
        if setting is None or setting.value is None:
            return None
        value = setting.value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.problems.append(self._wrong(setting, plan_field, "a whole number from 1"))
            return None
        return setting

    def _wrong(self, setting: Setting, plan_field: str, what: str) -> Problem:
        """Return what a value must be and is not; a script's own flag may mean something else by it, and is not read."""
        name = setting.place.key or plan_field
        if self.inferred.pop(plan_field, None) is not None:
            return Problem.not_understood(setting.value, name, setting.place.where)
        return Problem(f"{name} must be {what}, not {setting.value!r}", setting.place.where)

    def put(self, plan_field: str, value: Any, *stated: Setting) -> None:
        """Record a plan field with the settings that say it, the deciding one first."""
        given = self.given
        self.settings[plan_field] = Setting(value, stated[0].place)
        places: list[Place] = []
        for setting in stated:
            name = next(
                (n for n, s in (*given.known.items(), *given.others.items()) if s is setting), ""
            )
            places += [setting.place, *given.earlier.get(name, ())]
        self.places[plan_field] = tuple(places)

    def decide(
        self, plan_field: str, value: Any, stated: Sequence[Setting], reason: str, library: str
    ) -> None:
        """Record a plan field with the settings that say it, or as a library's default where none does."""
        if stated:
            self.put(plan_field, value, *stated)
        else:
            self.assume(plan_field, value, reason, library)

    def leave_open(self, plan_field: str, others: tuple[Any, ...], reason: str) -> None:
        """Record what else a field may be whose setting does not decide it."""
        self.unsure[plan_field] = (others, reason)

    def leave_out(self, message: str, name: str, takes: str, at: Setting) -> None:
        """Say what no formula counts, and whether the launch takes `more`, `less` or `either` for it."""
        self.problems.append(Problem.left_out(message, at.place.where, name, takes))

    def assume(self, plan_field: str, value: Any, reason: str, library: str = "") -> None:
        """Record a plan field that a library's default decides."""
        versions = self.given.versions
        library = library or self.given.library
        why = "; ".join(part for part in (reason, versions.reason(library)) if part)
        origin = Origin(f"default of {versions.label(library)}", assumed=True, reason=why)
        self.defaults[plan_field] = (value, origin)

    def dtype(self, setting: Setting, plan_field: str = "") -> str | None:
        """Return a dtype in the plan's words, None for auto; a problem where it is no dtype."""
        word = str(setting.value).removeprefix("torch.")
        if setting.value is None or word in ("auto", "None"):
            return None
        if word in ("float64", "double"):
            self.leave_out("weights in 64 bits are estimated in 32", WIDE_WEIGHTS, "more", setting)
            return "fp32"
        if word not in DTYPES:
            what = "auto, bfloat16, float16 or float32"
            self.problems.append(self._wrong(setting, plan_field, what))
        return DTYPES.get(word)
