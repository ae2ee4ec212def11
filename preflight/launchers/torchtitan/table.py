"""torchtitan's keys, defaults, models and configs by version; derived from its wheels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from preflight.own_tables import table_beside
from preflight.versions.boundary import release
from preflight.versions.torchtitan import CONFIGS_ARE_PYTHON

FILE_VERSIONS = ("0.1.0", "0.2.0", "0.2.2")
"""Releases that read TOML (`--job.config_file`), oldest first."""
MODULE_VERSION = "0.3.0"
"""The first release whose configs are Python (`--module llama3 --config llama3_8b`)."""
CHECKED = ("training", "parallelism", "compile", "comm", "debug", "activation_checkpoint")
"""Sections of 0.3 that every config has in the same class; keys of the others depend on the config."""


_tables = partial(table_beside, __file__, "table.json")


def table(version: str) -> Mapping[str, Any]:
    """Return one release's table."""
    found: Mapping[str, Any] = _tables()[version]
    return found


def is_key(version: str, section: str, name: str) -> bool:
    """Tell whether a release has a key; `quantize.linear.float8` counts as a section of `quantize`."""
    top, _, inner = section.partition(".")
    if version == MODULE_VERSION and top not in CHECKED:
        return top in table(version)["keys"] or not section
    names = table(version)["keys"].get(top)
    if names is None:
        return False
    full = f"{inner}.{name}" if inner else name
    if version == MODULE_VERSION and top == "activation_checkpoint":
        return name not in ("mode", "selective_ac_option", "enable")
    return full in names or any(key.startswith(f"{full}.") for key in names)


def file_version(keys: Mapping[tuple[str, str], Any], installed: str | None) -> str:
    """Return the release whose keys a file has: the installed one, else the newest that knows them all."""
    if installed is not None and release(installed) < CONFIGS_ARE_PYTHON.release:
        older = [v for v in FILE_VERSIONS if release(v) <= release(installed)]
        return older[-1] if older else FILE_VERSIONS[0]
    unknown = {version: sum(not is_key(version, *key) for key in keys) for version in FILE_VERSIONS}
    return min(reversed(FILE_VERSIONS), key=lambda version: unknown[version])


def model_of(version: str, family: str, flavor: str) -> Mapping[str, Any] | None:
    """Return a flavor's model; another release's where this one could not be built for the table."""
    for other in (version, *reversed(FILE_VERSIONS)):
        found: Mapping[str, Any] | None = table(other)["models"].get(family, {}).get(flavor)
        if found is not None:
            return found
    return None


def flag_names(version: str) -> tuple[str, ...]:
    """Return every `section.key` of a release."""
    return tuple(
        f"{section}.{name}" if name else section
        for section, names in table(version)["keys"].items()
        for name in (names or [""])
    )
