"""A pre-flight check for training launches: read the configs, price every rank, act before spawn.

`import preflight` loads nothing: each name below is fetched when it is first used (docs/api.md).
"""

from __future__ import annotations

from preflight.version import __version__

TYPE_CHECKING = (
    False  # typing takes longer to import than all of this, and every Python start pays it
)

if TYPE_CHECKING:
    from typing import Any

    from preflight.api import before_launch as before_launch
    from preflight.api import check as check
    from preflight.api import compare as compare
    from preflight.api import estimate as estimate
    from preflight.embedded.callback import PreflightCallback as PreflightCallback
    from preflight.embedded.guard import guard as guard
    from preflight.embedded.loop import measure as measure
    from preflight.errors import BadInput as BadInput
    from preflight.errors import HookFailed as HookFailed
    from preflight.errors import LaunchRefused as LaunchRefused
    from preflight.errors import PreflightError as PreflightError
    from preflight.launch import LaunchPlan as LaunchPlan
    from preflight.policy import Policy as Policy
    from preflight.report import Report as Report


_HOMES = {
    "check": "preflight.api",
    "before_launch": "preflight.api",
    "estimate": "preflight.api",
    "compare": "preflight.api",
    "guard": "preflight.embedded.guard",
    "measure": "preflight.embedded.loop",
    "PreflightCallback": "preflight.embedded.callback",
    "LaunchPlan": "preflight.launch",
    "Policy": "preflight.policy",
    "Report": "preflight.report",
    "PreflightError": "preflight.errors",
    "BadInput": "preflight.errors",
    "HookFailed": "preflight.errors",
    "LaunchRefused": "preflight.errors",
}
"""Public name -> the module that has it."""

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Fetch a public name from its module, once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'preflight' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
