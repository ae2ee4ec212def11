"""What a launch that fits leaves: bytes of the card, and the largest micro batch and the longest rows that fit too.

Each is looked for alone, the rest of the plan as it is.
"""

from __future__ import annotations

from typing import Any

from preflight.judge import Judged
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.search.largest import NEARLY_THE_LARGEST, STEP, largest
from preflight.search.longest import longest_row_of
from preflight.values import dataclass
from preflight.verdict import Answer

MOST_ROWS = 1024
"""Rows of a micro batch that are looked at."""


@dataclass(frozen=True)
class Room:
    """What a launch that fits leaves on the fullest rank, under every reading."""

    headroom_bytes: int
    """Capacity of the device less the peak that the driver would report."""
    micro_batch_size: int | None = None
    """The most rows of a micro batch with which it fits; None where that was not looked for."""
    seq_len: int | None = None
    """The most tokens of a row, a multiple of STEP unless it is the launch's own; None where that was not looked for."""

    def to_dict(self) -> dict[str, Any]:
        """Return the room as the `room` of the JSON contract."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def room_of(start: Judged, plugins: PluginManager, policy: Policy) -> Room | None:
    """Return what a launch that fits leaves; None where its answer is another.

    Of rollouts prompts and completions have a length each, and groups have a size: the headroom alone is said.
    """
    plan, device, estimate = start.plan, start.device, start.estimate
    if start.verdict.answer is not Answer.FITS or device is None or estimate is None:
        return None
    headroom = device.capacity_bytes - NEARLY_THE_LARGEST.peak(start)
    micro, seq_len = plan.micro_batch_size, plan.seq_len
    if plan.generation is not None or micro is None or seq_len is None:
        return Room(headroom)

    def of(field: str, step: int, most: int) -> int | None:
        return largest(start, field, step, most, NEARLY_THE_LARGEST, plugins, policy)

    return Room(
        headroom, of("micro_batch_size", 1, MOST_ROWS), of("seq_len", STEP, longest_row_of(start))
    )
