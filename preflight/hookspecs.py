"""Every hook, typed, in the order in which a launch passes them.

`None` (or nothing) means "not mine". An exception means "mine, and wrong".
A plugin takes only the arguments it reads.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from preflight.device import DeviceSpec
from preflight.finding import Finding
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.memory import MemoryEstimate, MemoryTerm
from preflight.model import ModelSpec
from preflight.remedy import Remedy
from preflight.report import Report
from preflight.rewrite import Rewrite

hookspec = pluggy.HookspecMarker("preflight")
hookimpl = pluggy.HookimplMarker("preflight")


@hookspec(firstresult=True)
def preflight_read_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Read a launch command and the files it names into a plan. First result wins."""


@hookspec(firstresult=True)
def preflight_describe_model(plan: LaunchPlan) -> ModelSpec | None:
    """Describe the plan's model from its config. First result wins."""


@hookspec(firstresult=True)
def preflight_describe_device(plan: LaunchPlan) -> DeviceSpec | None:
    """Describe the device the plan asks for. First result wins."""


@hookspec
def preflight_findings(
    plan: LaunchPlan,
    model: ModelSpec | None,
    device: DeviceSpec | None,
    estimate: MemoryEstimate | None,
) -> Iterable[Finding]:
    """Check the launch and yield what a person should know before it starts."""


@hookspec
def preflight_memory_terms(
    plan: LaunchPlan, model: ModelSpec, device: DeviceSpec | None
) -> Iterable[MemoryTerm]:
    """Price what this plugin knows of one rank's memory; names must be unique over all plugins."""


@hookspec
def preflight_remedies(
    plan: LaunchPlan, model: ModelSpec, device: DeviceSpec | None
) -> Iterable[Remedy]:
    """Propose changes that may make the plan smaller; each is estimated, none is believed."""


@hookspec(firstresult=True)
def preflight_write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Write the launch back so that reading it again gives `after`; None unless every change can be said."""


@hookspec
def preflight_reported(report: Report) -> None:
    """Look at the finished report: notify, log, count. The return value is ignored."""


LATER_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "preflight_findings": ("estimate",),
    "preflight_memory_terms": ("device",),
    "preflight_remedies": ("device",),
}
"""Hook -> arguments that it did not have at first: None from a caller that does not know them."""


def declared_hook_names() -> list[str]:
    """Return the names of all hooks, in call order."""
    return [name for name in globals() if name.startswith("preflight_")]
