"""A plugin that counts how often memory is estimated."""

from __future__ import annotations

from preflight.hookspecs import hookimpl


class Counting:
    """A plugin that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    @hookimpl
    def preflight_memory_terms(self, plan):
        self.asked += 1
        return ()
