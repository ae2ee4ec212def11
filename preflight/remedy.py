"""A change to a plan that may make it fit, in plan fields only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.launch import Adapter, LaunchPlan
from preflight.values import dataclass

SUGGESTED_ADAPTER = Adapter("lora", rank=16, alpha=32, dropout=0.0, targets="all-linear")
"""What `lora` and `qlora` suggest where the launch has no adapter of its own."""

SAFETIES = ("same", "equivalent", "changes_training")
"""`same`: bit-identical maths. `equivalent`: same semantics, other rounding or order. Applied unasked: these two."""

UNPROVED = frozenset({"chunked_loss", "context_parallel", "engine_sleep", "engine_share"})
"""Remedies that should keep the training and have no row in docs/remedies-proof.md yet: only `--allow ID` applies them."""

BESIDE_TRAINING = frozenset({"engine_sleep", "engine_share"})
"""Unproved remedies that are suggested all the same: they touch what runs between updates, and no step of training."""

DEAR_FACTOR = 1.5
"""A rewrite whose step takes longer than this many times the launch's own is not started unasked where something
cheaper fits: half as much time again is a day in three, and a person may rather train something else."""


@dataclass(frozen=True)
class Remedy:
    """One lever. It claims no saving: the edited plan is estimated again."""

    id: str
    """The name that `--allow`, `--forbid` and `preflight explain` take: `activation_checkpointing`."""
    title: str
    """What it does, as an imperative: `turn activation checkpointing on`."""
    edits: Mapping[str, Any]
    safety: str
    step_time_factor: float = 1.0
    """A cost that the plan's fields do not show, as step time with it over without; the rest is estimated
    (preflight/devices/step_time.py)."""
    may_raise_peak: bool = False
    """True where this dose can make a plan larger than the dose before it does, or none, by itself or by a
    lever that it rules out: the search tries both."""
    needs_host: bool = False
    """True where it moves what the device held to host memory: tried where nothing else fits, unless the host's
    size is known."""
    may_raise_host: bool = False
    """True where this dose can make a node's host memory hold more, beside those that need it: where the host's
    size is known, the search tries both."""
    notes: tuple[str, ...] = ()
    """What the user must also do or know, where an edit alone is not enough."""
    how: str = ""
    """For suggestions: the flags to add, in the user's dialect where known."""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keeps_training(self) -> bool:
        """True where the maths is the same, or the same but for rounding and order."""
        return self.safety in ("same", "equivalent")

    @property
    def is_safe(self) -> bool:
        """True where it may be applied without being asked for: it keeps the training, and that was shown."""
        return self.keeps_training and self.id not in UNPROVED


def beside_adapter(plan: LaunchPlan) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what an adapter leaves no place for, as edits, and a note for who takes it out by hand; mostly nothing.

    GaLore, APOLLO and BAdam save by other means what an adapter saves, and LLaMA-Factory refuses the two together
    (hparams/parser.py, 0.9.5).
    """
    if plan.low_rank is None and plan.layers_at_a_time is None:
        return {}, ()
    name = "BAdam" if plan.low_rank is None else plan.optimizer
    edits: dict[str, Any] = {"low_rank": None, "layers_at_a_time": None}
    if plan.low_rank is not None:
        edits["optimizer"] = "adamw_torch"
    return edits, (f"in place of {name}, whose settings have to be taken out",)
