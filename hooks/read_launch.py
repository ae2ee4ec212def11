"""Reads the commands of the launchers in `preflight/launchers/`, and writes them back: a plugin of its own for each of them."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.all import launchers
from preflight.launchers.contract import Launcher
from preflight.rewrite import Rewrite


class Reads:
    """A launcher that is read, and never written back."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    @hookimpl
    def preflight_read_launch(self, command: LaunchCommand) -> LaunchPlan | None:
        return self.launcher.read(command)


class ReadsAndWrites(Reads):
    """One that has words for other values of a plan too."""

    @hookimpl
    def preflight_write_launch(self, before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
        return self.launcher.write(before, after)


PLUGINS = {
    f"read_{one.name}": ReadsAndWrites(one) if one.writer else Reads(one) for one in launchers()
}
