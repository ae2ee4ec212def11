"""The arguments that ms-swift's training commands take, release by release, and the configs that it brings along."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache, partial
from typing import Any

from preflight.launchers.release_rows import ReleaseRows
from preflight.own_tables import table_beside
from preflight.scripts.arguments.trainer_tables import ArgumentTable, argument_table
from preflight.values import NamedTuple
from preflight.versions.boundary import release


class ModelBefore(NamedTuple):
    """A model of releases before 3.0."""

    identifier: str
    """At the Hugging Face hub, where it is there."""
    targets: list[str] | None
    """Modules that LoRA adapts by default; None for a model that sees or hears, of which it asks the model itself."""
    dtype: str | None
    """Of its own, where it has one."""
    checkpoints: bool
    """Whether its layers can be recomputed."""


_table = partial(table_beside, __file__, "arguments.json")


def newest() -> str:
    """Return the newest release that the table has."""
    releases: list[str] = _table()["releases"]
    return releases[-1]


def names_before() -> frozenset[str]:
    """Return the arguments that releases before 3.0 alone had."""
    return frozenset(_table()["before"])


def is_before(names: Collection[str]) -> bool:
    """Tell whether arguments are those of a release before 3.0: some has gone, or the kind of a model stands for it."""
    needs_model = "model" not in names and "resume_from_checkpoint" not in names
    return bool(names_before() & set(names)) or ("model_type" in names and needs_model)


@lru_cache(maxsize=4)
def _rows(command: str) -> ReleaseRows:
    """Return the rows of a command's own arguments; `pt` takes those of `sft`."""
    table = _table()
    rows = {**table["sft"], **table["rlhf"]} if command == "rlhf" else dict(table["sft"])
    return ReleaseRows(rows, newest())


@lru_cache(maxsize=4)
def arguments_of(command: str) -> ArgumentTable:
    """Return every argument that a command has in any release, each as its newest has it, with TrainingArguments."""
    trainers = argument_table(None)
    return ArgumentTable({**trainers.arguments, **_rows(command).arguments()}, trainers.versions)


def releases_of(command: str, name: str) -> tuple[str, str] | None:
    """Return the first and the last release in which a command has an argument of its own; None where none has."""
    return _rows(command).span(name)


def newest_with(command: str, names: Collection[str]) -> str:
    """Return the newest release in which a command has all of some arguments; the newest of all where none has."""
    return _rows(command).newest_with(names)


def default_of(command: str, name: str, version: str) -> Any:
    """Return an argument's default in a release."""
    rows = _rows(command)
    if name in rows.rows:
        return rows.default(name, version)
    return argument_table(None).arguments[name].default


def newest_before() -> str:
    """Return the newest release before 3.0 that the table has."""
    releases: list[str] = _table()["releases_before"]
    return releases[-1]


def arguments_before() -> ArgumentTable:
    """Return the arguments that `sft` and `pt` had before 3.0, each as its newest release has it."""
    rows = ReleaseRows(_table()["sft_before"], newest_before())
    return ArgumentTable(rows.arguments(), argument_table(None).versions)


def model_before(name: str, identifier: str) -> ModelBefore | None:
    """Return the model that releases before 3.0 have by a name of their own, or else by its id; None where they have none."""
    table = table_beside(__file__, "models.json")
    models = table["models"]
    short = identifier.rstrip("/").rpartition("/")[2].lower()
    is_same = (n for n, row in models.items() if short in {_last(row[0]), _last(row[1])})
    name = name or (next(is_same, "") if short else "")
    if name not in models:
        return None
    at_modelscope, at_hub, kind, dtype, checkpoints = models[name]
    return ModelBefore(
        at_hub or at_modelscope or "", table["targets"].get(kind), dtype, bool(checkpoints)
    )


def _last(identifier: str | None) -> str:
    return (identifier or "").rpartition("/")[2].lower()


def preset(name: str, version: str) -> Mapping[str, Any] | None:
    """Return the config that a word such as `zero2` or `fsdp2` stands for in a release; None where it is no such word."""
    is_before = release(version) <= release(newest_before())
    rows = _table()["presets_before" if is_before else "presets"].get(name, [])
    found = [row for row in rows if release(row[0]) <= release(version)]
    return None if not rows else dict((found or rows)[-1][2])


def presets() -> tuple[str, ...]:
    """Return the words that stand for a config, in any release."""
    return tuple(_table()["presets"])
