"""The options of accelerate's, torch's and DeepSpeed's launchers: option_table.json, which `python -m preflight.derive launcher_options` writes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from preflight.own_tables import beside, read_table
from preflight.shell.starters.launcher_options import LauncherOption


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    table: dict[str, Any] = read_table(beside(__file__, "option_table.json"))
    return table


def options_of(launcher: str) -> tuple[LauncherOption, ...]:
    """Return every option of a launcher's own parser, in its order."""
    return tuple(
        LauncherOption(key, tuple(flags), kind, tuple(choices), _frozen(default))
        for key, flags, kind, choices, default in _table()["options"][launcher]
    )


def _frozen(default: Any) -> Any:
    return tuple(default) if isinstance(default, list) else default
