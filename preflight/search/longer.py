"""How long rows may be with each remedy, where nobody said how long they are: what a user can hold against the data."""

from __future__ import annotations

from preflight.judge import Judged, checked_item, judge_plan
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.remedy import BESIDE_TRAINING, UNPROVED, Remedy
from preflight.search.largest import NEARLY_THE_LARGEST, STEP, largest
from preflight.search.longest import most_looked_at
from preflight.values import dataclass

MOST_OPEN = 3
"""Open fields, versions among them, with which it is still asked: with more the lengths say little, and each of them takes
many readings."""


@dataclass(frozen=True)
class Longer:
    """A remedy, and the most tokens of a row with which the launch fits under every reading once it is made."""

    remedy: Remedy
    seq_len: int

    def to_dict(self) -> dict[str, object]:
        """Return it as an item of `longest_seq_len_with` of the JSON contract."""
        remedy = self.remedy
        return {
            "id": remedy.id,
            "title": remedy.title,
            "safety": remedy.safety,
            "seq_len": self.seq_len,
        }


def longer_rows(
    start: Judged, as_written: int | None, plugins: PluginManager, policy: Policy
) -> tuple[Longer, ...]:
    """Return the remedies that make longer rows fit than fit as written, each alone: those that keep the training
    first, and of these the one with the longest rows.

    Of doses of one remedy the first that helps stands for all: others cost an estimate each, and more of the step.
    """
    most = most_looked_at(start)
    if most is None or start.plan.seq_len is not None or as_written == most:
        return ()
    if start.readings is not None and len(start.readings.may_be) > MOST_OPEN:
        return ()
    aim = NEARLY_THE_LARGEST
    dearest = aim.deciding(start)
    found: dict[str, Longer] = {}
    items = plugins.collect(
        "preflight_remedies", plan=start.plan, model=start.model, device=start.device
    )
    for owner, item in items:
        remedy = checked_item(item, Remedy, owner, "preflight_remedies")
        is_held_back = remedy.id in UNPROVED - BESIDE_TRAINING or remedy.id in policy.forbid
        if is_held_back or remedy.id in found or "seq_len" in remedy.edits:
            continue
        shortest = start.plan.with_edits({**remedy.edits, "seq_len": STEP})
        # Of open values those that take most as written, until a length is found.
        judged = judge_plan(shortest, plugins, policy, start.model, start.device, dearest)
        if not aim.is_met(judged):
            continue
        length = largest(judged, "seq_len", STEP, most, aim, plugins, policy)
        if length is not None and length > max(as_written or 0, STEP):
            found[remedy.id] = Longer(remedy, length)
    return tuple(
        sorted(found.values(), key=lambda one: (not one.remedy.keeps_training, -one.seq_len))
    )
