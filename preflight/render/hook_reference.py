"""Every hook as a person reads it, in call order, made from the hook specifications."""

from __future__ import annotations

from preflight import hookspecs
from preflight.values import dataclass


@dataclass(frozen=True)
class HookReference:
    """One hook as a person reads it."""

    name: str
    signature: str
    about: str
    is_first_result: bool


def hooks_in_order() -> list[HookReference]:
    """Return every declared hook, in call order."""
    import inspect

    found = []
    for name in hookspecs.declared_hook_names():
        function = getattr(hookspecs, name)
        found.append(
            HookReference(
                name,
                str(inspect.signature(function)).replace("'", ""),
                " ".join((inspect.getdoc(function) or "").split()),
                bool(function.preflight_spec["firstresult"]),
            )
        )
    return found
