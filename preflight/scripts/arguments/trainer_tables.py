"""The arguments that transformers' and TRL's parsers know, with type, default and choices, from the shipped table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property, lru_cache, partial
from typing import Any

from preflight.own_tables import table_beside
from preflight.values import NamedTuple, dataclass


class Argument(NamedTuple):
    """One argument of a trainer's parser."""

    name: str
    """Underscore spelling."""
    kind: str
    """flag (value optional), bool (value needed), int, float, str, optional_str, list, list_int, list_float,
    dict (JSON text or a path), file_only (argparse cannot set it)."""
    default: Any
    choices: tuple[Any, ...] | None = None

    @property
    def is_list(self) -> bool:
        return self.kind.startswith("list")


@dataclass(frozen=True)
class ArgumentTable:
    """Every argument one script's parser takes."""

    arguments: Mapping[str, Argument]
    versions: Mapping[str, str]
    """Library versions the table was derived from."""

    @cached_property
    def options(self) -> Mapping[str, tuple[Argument, bool]]:
        """Return option string -> (argument, True where it is the `--no_` form), as HfArgumentParser adds them."""
        options: dict[str, tuple[Argument, bool]] = {}
        for name, argument in self.arguments.items():
            options[f"--{name}"] = (argument, False)
            options[f"--{name.replace('_', '-')}"] = (argument, False)
            if argument.kind == "flag" and argument.default is True:
                options[f"--no_{name}"] = (argument, True)
                options[f"--no-{name.replace('_', '-')}"] = (argument, True)
        return options

    def only(self, names: Collection[str] | None) -> ArgumentTable:
        """Return the table of a parser that has these arguments and no others of it; None is all."""
        if names is None:
            return self
        key = frozenset(names)
        if key not in self._parts:
            kept = {name: argument for name, argument in self.arguments.items() if name in key}
            self._parts[key] = ArgumentTable(kept, self.versions)
        return self._parts[key]

    def with_more(self, names: Iterable[str]) -> ArgumentTable:
        """Return the table of a parser that takes these too, whatever their values are."""
        more = {name: Argument(name, "optional_str", None) for name in names}
        return ArgumentTable({**more, **self.arguments}, self.versions) if more else self

    @cached_property
    def _parts(self) -> dict[frozenset[str], ArgumentTable]:
        """Tables that were asked for: one command line asks for the same one at every word."""
        return {}


_tables = partial(table_beside, __file__, "trainer_arguments.json")


def table_versions() -> Mapping[str, str]:
    """Return the library versions that the shipped table was derived from."""
    versions: Mapping[str, str] = _tables()["versions"]
    return versions


WITHOUT_GENERATION = ("sft", "dpo", "kto", "reward")


@lru_cache(maxsize=8)
def argument_table(trl_script: str | None) -> ArgumentTable:
    """Return the arguments of TrainingArguments alone (None), or of a TRL script: sft, dpo, distillation, ...

    A trainer of TRL that has no such script is read with what the arguments of all the others have.
    """
    tables = _tables()
    entries = dict(tables["TrainingArguments"])
    if trl_script is not None:
        scripts = tables["scripts"]
        entries.update(scripts[trl_script] if trl_script in scripts else _of_all(scripts))
    arguments = {
        name: Argument(name, entry[0], entry[1], tuple(entry[2]) if len(entry) > 2 else None)
        for name, entry in entries.items()
    }
    return ArgumentTable(arguments, tables["versions"])


def has_table(trl_script: str) -> bool:
    """Tell whether the arguments of a TRL script are known as its own."""
    return trl_script in _tables()["scripts"]


def _of_all(scripts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the arguments that scripts of TRL without generation have alike."""
    first, *others = (scripts[name] for name in WITHOUT_GENERATION)
    return {
        name: entry
        for name, entry in first.items()
        if all(other.get(name) == entry for other in others)
    }


def table_of_classes(trl_script: str, classes: Collection[str]) -> ArgumentTable:
    """Return the arguments of a parser made of TrainingArguments, of these classes of TRL, and of somebody's own.

    What TRL's own arguments add to TrainingArguments, and their other defaults, are those of a TRL script alone.
    """
    whole, plain = argument_table(trl_script), argument_table(None)
    names = {name for each in classes for name in _tables()["other_classes"].get(each, ())}
    added = {name: argument for name, argument in whole.arguments.items() if name in names}
    return ArgumentTable({**plain.arguments, **added}, whole.versions)


def fields_of_class(name: str) -> frozenset[str] | None:
    """Return the arguments that a dataclass of transformers or TRL gives a parser; None where it is not in the table."""
    tables = _tables()
    if name in tables["trainer_classes"]:
        return frozenset((*tables["TrainingArguments"], *tables["trainer_classes"][name]))
    fields = tables["other_classes"].get(name)
    return None if fields is None else frozenset(fields)
