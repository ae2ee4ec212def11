"""Keys of a framework's own config file (axolotl, LLaMA-Factory) as settings, and plan fields as they are told from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from math import isfinite, nan
from typing import Any

from preflight.bool_words import STRTOBOOL
from preflight.errors import Problem
from preflight.formats.document import Document
from preflight.launch import Origin, ScriptFacts
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.own_copy import copy_of, speaks_of
from preflight.launchers.placeholders import is_placeholder
from preflight.reading import Problems
from preflight.scripts.arguments.trainer_tables import argument_table
from preflight.setting import Place, Setting
from preflight.trainers.arguments import TrainerArguments
from preflight.values import NamedTuple, dataclass


class NotModelled(NamedTuple):
    """A key whose effect on memory no plan field holds."""

    message: str
    """What the estimate does instead."""
    unpriced: str = ""
    """What is left out of it; empty where the estimate holds all the same."""
    takes: str = ""
    """Whether the launch takes `more`, `less` or `either` beside the estimate."""


@dataclass
class FrameworkKeys:
    """What one config file and the command line say, and what the plan gets from it; filled while reading."""

    library: FrameworkLibrary
    given: dict[str, Setting]
    """Key -> value; the command line beats the file."""
    overridden: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    """Key -> places of it that count no more."""
    settings: dict[str, Setting] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    places: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    arguments: dict[str, Setting] = field(default_factory=dict)
    """TrainingArguments as the framework makes them."""
    environment: dict[str, Setting] = field(default_factory=dict)
    """Variables that the framework sets inside every worker."""
    problems: Problems = field(default_factory=Problems)
    libraries: list[str] = field(default_factory=list)
    """Libraries whose releases decide what is trained, beside those of every trainer."""

    # Looking up

    def get(self, *names: str) -> Setting | None:
        """Return the first of the keys that is given and not null; a placeholder counts as not given."""
        for name in names:
            setting = self.given.get(name)
            if setting is not None and setting.value is not None and not is_placeholder(setting):
                return setting
        return None

    def value(self, name: str, default: Any = None) -> Any:
        setting = self.get(name)
        return default if setting is None else setting.value

    def by_default(self, value: Any) -> Setting:
        """Return a value that the framework has by itself."""
        return Setting(value, self.library.default_place)

    def flag(self, name: str) -> Setting | None:
        """Return a switch; a word that is none is refused."""
        setting = self.get(name)
        if setting is None or isinstance(setting.value, bool):
            return setting
        switch = STRTOBOOL.read(setting.value)
        if switch is not None:
            return Setting(switch, setting.place)
        self.refuse(f"{name} must be true or false, not {setting.value!r}", setting)
        return None

    def is_unknown(self, name: str) -> bool:
        """Tell whether a placeholder stands where the key's value belongs."""
        setting = self.given.get(name)
        return setting is not None and is_placeholder(setting)

    def is_on(self, name: str) -> bool:
        setting = self.flag(name)
        return setting is not None and setting.value is True

    def count(self, name: str, least: int = 1) -> Setting | None:
        """Return a whole number; anything else is refused."""
        setting = self.get(name)
        if setting is None:
            return None
        value = setting.value
        if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.refuse(
                f"{name} must be a whole number from {least}, not {setting.value!r}", setting
            )
            return None
        return Setting(value, setting.place)

    def number(self, name: str) -> Setting | None:
        """Return a finite number; anything else is refused."""
        setting = self.get(name)
        if setting is None:
            return None
        try:
            value = float(setting.value)
        except (TypeError, ValueError, OverflowError):
            value = nan
        if isinstance(setting.value, bool) or not isfinite(value):
            self.refuse(f"{name} must be a number, not {setting.value!r}", setting)
            return None
        return Setting(value, setting.place)

    @property
    def words(self) -> dict[str, int]:
        """Return the argv index of the word that says a key, for every key that one says."""
        return {k: s.place.index for k, s in self.given.items() if s.place.index is not None}

    # Recording

    def put(self, plan_field: str, value: Any, *given: Setting) -> None:
        """Record a plan field with the settings that say it, the deciding one first."""
        self.settings[plan_field] = Setting(value, given[0].place)
        self.origins[plan_field] = Origin(given[0].place.where)
        places: list[Place] = []
        for setting in given:
            name = setting.place.key.lstrip("-").replace("-", "_")
            places += [setting.place, *self.overridden.get(name, ())]
        self.places[plan_field] = tuple(places)

    def decide(self, plan_field: str, value: Any, *said: Setting | None, reason: str = "") -> None:
        """Record a plan field with those settings that are given, or as the framework's default where none is."""
        given = [each for each in said if each is not None]
        if given:
            self.put(plan_field, value, *given)
        else:
            self.assume(plan_field, value, reason)

    def put_text(self, plan_field: str, name: str) -> Setting | None:
        """Record a plan field as the text of a key, where that is given, and return what the key says."""
        setting = self.get(name)
        if setting is not None:
            self.put(plan_field, str(setting.value), setting)
        return setting

    def put_count(self, plan_field: str, name: str, default: int) -> Setting | None:
        """Record a whole number as a key says it, or as it is without, and return what the key says; a placeholder says none."""
        setting = self.count(name)
        if setting is not None:
            self.put(plan_field, setting.value, setting)
        elif not self.is_unknown(name):
            self.assume(plan_field, default, f"no {name}")
        return setting

    def put_or(self, plan_field: str, name: str, default: Any) -> None:
        """Record a plan field as a key says it, or as it is without."""
        self.decide(plan_field, self.value(name, default), self.get(name))

    def assume(self, plan_field: str, value: Any, reason: str = "") -> None:
        """Record a plan field that the framework's default decides."""
        self.settings[plan_field] = self.by_default(value)
        self.origins[plan_field] = Origin(f"default of {self.library.label}", True, reason)

    def argument(self, name: str, value: Any, setting: Setting | None) -> None:
        """Record an argument that the framework hands to TrainingArguments."""
        place = self.library.default_place if setting is None else setting.place
        self.arguments[name] = Setting(value, place)

    def refuse(
        self, message: str, at: Setting, fix: str = "", severity: str = "error", key: str = ""
    ) -> None:
        """Say what the framework's own schema refuses: a value, or the key that it does not have.

        Where the repository has a copy of the framework that knows it, what it does is not known.
        """
        word, is_value = key or at.value, not key
        beside = os.path.dirname(os.path.join(self.library.folder, at.place.document))
        copy = None
        if isinstance(word, str):  # the one that the launch starts in, else that which has the file
            places = (self.library.folder, beside)
            copy = next(filter(None, (copy_of(self.library.packages, p) for p in places)), None)
        if severity == "error" and copy is not None and speaks_of(copy, word, is_value):
            name = self.library.name
            path = os.path.relpath(copy, self.library.folder or ".")
            told = f"{message}, in the releases that are known here; the copy in {path} has it"
            self.leave_out(
                NotModelled(told, f"{word} of the repository's own {name}", "either"), at
            )
            return
        self.problems.append(Problem(message, at.place.where, fix, "PF141", severity))

    def note(
        self,
        id: str,
        message: str,
        at: Setting,
        fix: str = "",
        severity: str = "warning",
        unpriced: str = "",
    ) -> None:
        """Say something of a key; with `unpriced`, what is left out because of it, which may take more or less."""
        takes = "either" if unpriced else ""
        self.problems.append(Problem(message, at.place.where, fix, id, severity, unpriced, takes))

    def leave_out(self, left_out: NotModelled, at: Setting) -> None:
        """Say what the estimate does not hold of a key."""
        message, unpriced, takes = left_out
        self.problems.append(Problem.left_out(message, at.place.where, unpriced, takes))

    def leave_out_given(self, table: Mapping[str, NotModelled]) -> None:
        """Say what the estimate does not hold of every key of a table that is given and turned on."""
        for name, left_out in table.items():
            setting = self.get(name)
            if setting is not None and not _is_off(setting.value):
                self.leave_out(left_out, setting)

    def finish(self, document: Document | None, names_release: bool = True) -> TrainerArguments:
        """Return the script's half of the launch; a report names the framework's release where somebody says it."""
        place = Place("default", "", "transformers")
        arguments = {
            name: Setting(argument.default, place)
            for name, argument in argument_table(None).arguments.items()
        }
        arguments.update(self.arguments)
        self.origins["trainer"] = Origin(self.library.label)
        is_axolotl = self.library.name == "axolotl"
        own = (self.library.key,) if names_release and self.library.is_known else ()
        return TrainerArguments(
            trainer="transformers",
            raw=dict(self.given),
            arguments=arguments,
            settings=self.settings,
            origins=self.origins,
            places=self.places,
            environment=self.environment,
            libraries=(*self.libraries, *own),
            documents={} if document is None else {"trainer": document.path},
            script=ScriptFacts(
                is_of_library=True,
                # axolotl builds an image processor only where a key names one
                is_text_only=is_axolotl and "processor_type" not in self.given,
                # load_adapter in loaders/adapter.py, 0.9.2 to 0.19.0
                inputs_ask=is_axolotl,
            ),
        )


def read_accumulation(keys: FrameworkKeys) -> None:
    """Record whether gradients are reduced in every micro step: the section goes to TrainingArguments as it is."""
    section = keys.get("accelerator_config")
    options = {} if section is None else section.value
    nested = options.get("gradient_accumulation_kwargs") if isinstance(options, Mapping) else None
    if section is not None and isinstance(nested, Mapping) and "sync_each_batch" in nested:
        keys.put("sync_each_batch", bool(nested["sync_each_batch"]), section)


def _is_off(value: object) -> bool:
    """Tell whether a value turns nothing on: zero, an empty list, a word for no."""
    return not value or (isinstance(value, str) and STRTOBOOL.read(value) is False)


def settings_of(document: Document) -> dict[str, Setting]:
    """Return the top-level keys of a file with their lines."""
    return {
        str(key): Setting(
            value, Place(document.kind, document.path, _key(key), document.line((str(key),)))
        )
        for key, value in document.value.items()
    }


def nested_settings(setting: Setting, document: Document | None) -> dict[str, Setting]:
    """Return the keys of a section with their lines; empty where it is no section."""
    if not isinstance(setting.value, Mapping):
        return {}
    place = setting.place
    found = {}
    for key, value in setting.value.items():
        line = place.line
        if document is not None and place.kind in ("yaml", "json"):
            line = document.line((place.key, str(key))) or line
        spelled = f"{place.key}.{_key(key)}"
        found[str(key)] = Setting(
            value, Place(place.kind, place.document, spelled, line, place.index)
        )
    return found


def _key(key: Any) -> str:
    return str(key).replace(".", "\\.")
