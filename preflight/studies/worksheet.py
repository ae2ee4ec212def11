"""The sizing worksheet as values: what each way to train a model takes, on what, at what price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.formulas.engines.buckets import at_peak
from preflight.memory import MemoryEstimate, Phase
from preflight.values import dataclass

BUCKETS = ("weights", "gradients", "optimizer_states", "activations", "other")
"""Where the bytes of a row stand; they add up to its total. Other: logits, copies of weights, buffers, runtime."""


@dataclass(frozen=True)
class Buckets:
    """One rank's bytes at the moment that decides."""

    phase: Phase
    num_bytes: Mapping[str, int]
    logits_bytes: int
    """Of `other`: logits, their gradient and what the loss makes of them."""
    runtime_bytes: int
    """Of `other`: what allocator, CUDA context and NCCL hold beside live tensors."""


def buckets_of(estimate: MemoryEstimate) -> Buckets:
    """Return what the terms of an estimate add up to at its largest device peak."""
    worst = max(estimate.peaks, key=lambda peak: peak.device_bytes)
    sums = at_peak(estimate, worst)
    kept = {name: sums.pop(name) for name in BUCKETS if name != "other"}
    return Buckets(
        worst.phase,
        {**kept, "other": sum(sums.values())},
        sums["logits"],
        sums["allocator"] + sums["outside_torch"],
    )


@dataclass(frozen=True)
class WorksheetRow:
    """One way to train the model: one rank on one device, and the fewest devices it can be sharded over."""

    method: str
    """full, lora or qlora."""
    variant: str
    """`8bit` for an 8-bit optimizer, `dora`, or empty for the plain method."""
    seq_len: int
    micro_batch_size: int
    activation_checkpointing: str
    num_trainable_params: int
    buckets: Buckets
    smallest_device: str | None
    """The key of the smallest card that holds it alone."""
    num_devices: Mapping[str, int | None]
    """Card -> the fewest that hold it, sharded; None where none of the numbers tried does."""
    usd_per_hour: Mapping[str, float | None]
    """Of those devices; None where nobody lists a price."""
    usd_per_million_tokens: Mapping[str, float | None]

    @property
    def total_bytes(self) -> int:
        return sum(self.buckets.num_bytes.values())

    @property
    def name(self) -> str:
        """How a table calls it: `lora`, `full 8bit`, `qdora`."""
        if self.variant == "dora":
            return self.method.replace("lora", "dora")
        return f"{self.method} {self.variant}".rstrip()

    def cheapest(self, budget: float | None = None) -> str | None:
        """Return the card whose fewest devices cost least an hour, within a budget where one is given."""
        priced = [
            (usd, key)
            for key, usd in self.usd_per_hour.items()
            if usd is not None and (budget is None or usd <= budget)
        ]
        return min(priced)[1] if priced else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "variant": self.variant,
            "seq_len": self.seq_len,
            "micro_batch_size": self.micro_batch_size,
            "activation_checkpointing": self.activation_checkpointing,
            "num_trainable_params": self.num_trainable_params,
            "peak_phase": self.buckets.phase.value,
            **{f"{name}_bytes": num for name, num in self.buckets.num_bytes.items()},
            "logits_bytes": self.buckets.logits_bytes,
            "runtime_bytes": self.buckets.runtime_bytes,
            "total_bytes": self.total_bytes,
            "smallest_device": self.smallest_device,
            "num_devices": dict(self.num_devices),
            "usd_per_hour": dict(self.usd_per_hour),
            "usd_per_million_tokens": dict(self.usd_per_million_tokens),
        }


@dataclass(frozen=True)
class Worksheet:
    """All rows of one model, and what they take for granted."""

    model: str
    num_params: int
    rows: tuple[WorksheetRow, ...]
    assumptions: Mapping[str, str]
    """What was assumed -> why, or what says otherwise."""
    prices: Mapping[str, str]
    """Card -> whose price was taken."""
    quality: Mapping[str, tuple[str, str]]
    """Method -> what is known of its quality, and from where."""
    longest: Mapping[str, Mapping[str, int | None]]
    """Card -> method -> the longest rows, a power of two, that fit on one with checkpointing; None for none."""

    def to_dict(self) -> dict[str, Any]:
        """Return the worksheet as the JSON contract has it, without the schema version."""
        return {
            "model": {"name": self.model, "num_params": self.num_params},
            "assumptions": dict(self.assumptions),
            "prices": dict(self.prices),
            "quality": {
                method: {"note": note, "source": source}
                for method, (note, source) in self.quality.items()
            },
            "longest_seq_len": {card: dict(methods) for card, methods in self.longest.items()},
            "rows": [row.to_dict() for row in self.rows],
        }
