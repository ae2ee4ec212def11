"""The options of accelerate's, torch's and DeepSpeed's launchers: option_table.json, which `python -m preflight.derive launcher_options` writes."""

from __future__ import annotations

from functools import partial
from typing import Any

from preflight.own_tables import table_beside
from preflight.shell.starters.launcher_options import LauncherOption

_table = partial(table_beside, __file__, "option_table.json")


def options_of(launcher: str) -> tuple[LauncherOption, ...]:
    """Return every option of a launcher's own parser, in its order."""
    return tuple(
        LauncherOption(key, tuple(flags), kind, tuple(choices), _frozen(default))
        for key, flags, kind, choices, default in _table()["options"][launcher]
    )


def _frozen(default: Any) -> Any:
    return tuple(default) if isinstance(default, list) else default
