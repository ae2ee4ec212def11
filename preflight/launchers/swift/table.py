"""The arguments that ms-swift's training commands take, release by release, and the configs that it brings along."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from preflight.launchers.release_rows import ReleaseRows
from preflight.own_tables import beside, read_table
from preflight.scripts.trainer_tables import ArgumentTable, argument_table
from preflight.versions.boundary import release


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    table: dict[str, Any] = read_table(beside(__file__, "arguments.json"))
    return table


def newest() -> str:
    """Return the newest release that the table has."""
    releases: list[str] = _table()["releases"]
    return releases[-1]


def names_before() -> frozenset[str]:
    """Return the arguments that releases before 3.0 alone had."""
    return frozenset(_table()["before"])


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


def preset(name: str, version: str) -> Mapping[str, Any] | None:
    """Return the config that a word such as `zero2` or `fsdp2` stands for in a release; None where it is no such word."""
    rows = _table()["presets"].get(name, [])
    found = [row for row in rows if release(row[0]) <= release(version)]
    return None if not rows else dict((found or rows)[-1][2])


def presets() -> tuple[str, ...]:
    """Return the words that stand for a config, in any release."""
    return tuple(_table()["presets"])
