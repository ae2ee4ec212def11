"""The options of accelerate's, torch's and DeepSpeed's launchers, and those that accelerate's has no more.

`python -m preflight.derive launcher_options older_options` writes both tables.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from preflight.own_tables import table_beside
from preflight.shell.starters.launcher_options import LauncherOption

_table = partial(table_beside, __file__, "option_table.json")
_older = partial(table_beside, __file__, "older_options.json")


def options_of(launcher: str) -> tuple[LauncherOption, ...]:
    """Return every option of a launcher's own parser, in its order."""
    return tuple(
        LauncherOption(key, tuple(flags), kind, tuple(choices), _frozen(default))
        for key, flags, kind, choices, default in _table()["options"][launcher]
    )


@cache
def older_options() -> tuple[LauncherOption, ...]:
    """Return the options that accelerate's launcher took once, each with the first release that does not."""
    return tuple(
        LauncherOption(key, tuple(flags), kind, until=until)
        for key, flags, kind, until in _older()["options"]
    )


def abbreviates_until() -> str:
    """Return the first release of accelerate whose launcher takes no part of an option's name for the whole."""
    until: str = _older()["abbreviates_until"]
    return until


def _frozen(default: Any) -> Any:
    return tuple(default) if isinstance(default, list) else default
