"""What would fit where nothing safe does: other methods, more devices, larger ones, as values of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.launch import plain
from preflight.values import dataclass

QUALITY = {
    "full": ("", ""),
    "lora": (
        "LoRA learns less than full training where much is new, and forgets less",
        "Biderman et al. 2024, LoRA Learns Less and Forgets Less",
    ),
    "qlora": (
        "QLoRA with NF4 was on par with 16-bit LoRA on the benchmarks tried",
        "Dettmers et al. 2023, QLoRA, section 4",
    ),
}
"""Method -> what is known of its quality, and from where. Neither paper speaks of this model and this data."""
METHOD_NAMES = {"full": "full", "lora": "LoRA", "qlora": "QLoRA"}


@dataclass(frozen=True)
class MethodAdvice:
    """One way to train the model, in the least memory that changes nothing else about it."""

    method: str
    """full, lora or qlora."""
    num_trainable_params: int
    device_peak_bytes: int
    """On as many ranks as the launch has."""
    verdict: str
    least_ranks: int | None
    """The fewest devices of this type that it fits; None where not even the most that are tried do."""
    least_nodes: int | None
    least_peak_bytes: int | None
    usd_per_hour: float | None
    """Of those devices; None where nobody lists a price."""
    edits: Mapping[str, Any]
    how: str
    """The flags, or what to write into the script."""

    def to_dict(self) -> dict[str, Any]:
        text, source = QUALITY[self.method]
        return {
            "method": self.method,
            "num_trainable_params": self.num_trainable_params,
            "device_peak_bytes": self.device_peak_bytes,
            "verdict": self.verdict,
            "least_ranks": self.least_ranks,
            "least_nodes": self.least_nodes,
            "least_peak_bytes": self.least_peak_bytes,
            "usd_per_hour": self.usd_per_hour,
            "quality": text,
            "quality_source": source,
            "edits": plain(self.edits),
            "how": self.how,
        }


@dataclass(frozen=True)
class DeviceAdvice:
    """A larger device on which the launch's own method fits with as many ranks."""

    key: str
    name: str
    capacity_bytes: int
    device_peak_bytes: int
    num_ranks: int
    usd_per_hour: float | None

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Advice:
    """Everything that was found for one launch."""

    methods: tuple[MethodAdvice, ...]
    device: DeviceAdvice | None
    prices: Mapping[str, str]
    """GPU key -> whose price was taken."""

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as the `advice` of the JSON contract."""
        return {
            "methods": [method.to_dict() for method in self.methods],
            "larger_device": None if self.device is None else self.device.to_dict(),
            "prices": dict(self.prices),
        }
