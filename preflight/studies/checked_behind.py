"""The launches of a file that a command hands to a shell or a scheduler, each checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.launchers.not_read import DOES_NOT_TRAIN, HELD, NO_TRAINING
from preflight.plugin_manager import PluginManager
from preflight.report import Report
from preflight.request import Request
from preflight.studies.launches_behind import launches_behind
from preflight.studies.scan import ScannedLaunch, check_found


def checked_launches(
    command: LaunchCommand, plugins: PluginManager, request: Request
) -> list[ScannedLaunch]:
    """Return the launches of the file that a command hands on, each checked, without programs that train nothing, and what
    of it was not read beside them; none of a command that hands on no file."""
    behind = launches_behind(command)
    if behind is None:
        return []
    around = replace(command, env={}, overlay={**command.overlay, **behind.files})
    starts = _once(behind.launches)
    found = [check_found(behind.path, one, around, plugins, request) for one in starts]
    checked = [one for one in found if one is not None]
    if not checked:
        scripts = (
            check_found(behind.path, one, around, plugins, request, of_any_script=True)
            for one in starts
        )
        trained = [one for one in scripts if one is not None and _may_train(one.report)]
        checked = trained if len(trained) == 1 else []
    unread = (ScannedLaunch(behind.path, 1, (), untold=reason) for reason in behind.reasons)
    return [*checked, *unread] if checked else []


def _may_train(report: Report | None) -> bool:
    """Tell whether a script that names no trainer is here, and has words of a training of its own."""
    if report is None:
        return False
    return {NO_TRAINING, DOES_NOT_TRAIN, HELD}.isdisjoint(n.unpriced for n in report.plan.notices)


def _once(launches: Sequence[Any]) -> list[Any]:
    """Return launches that differ: a loop over seeds starts one of them many times."""
    kept: dict[object, Any] = {}
    for one in launches:
        kept.setdefault((one.line, one.argv, one.cwd), one)
    return list(kept.values())


def single_report(launches: Sequence[ScannedLaunch]) -> Report | None:
    """Return the report of the only launch, with the place where it stands; None where there are several, or none was read.

    Raises BadInput with what its reader refuses.
    """
    if len(launches) != 1 or launches[0].untold:
        return None
    (launch,) = launches
    if launch.report is None:
        raise BadInput(*launch.problems)
    return replace(
        launch.report, notes=(f"the launch is that of {launch.where}", *launch.report.notes)
    )
