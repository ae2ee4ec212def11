"""What an envelope is to everybody else: texts that a shell gets, and the job around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from preflight.shell.blocks import Block
from preflight.shell.starters.variables import numbered
from preflight.values import dataclass


@dataclass(frozen=True)
class Job:
    """The machines that an envelope asks for."""

    kind: str
    """As its users call it: `SkyPilot task`."""
    where: str = ""
    """`task.yaml:3`: where the machines are asked for."""
    num_nodes: int | None = None
    gpus_per_node: int | None = None
    device: str | None = None
    """Key of the GPU table; None where no card is named, or several may be it."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that its commands get beside those of the file, as they are on the first node."""
    has_files: bool = False
    """Whether its machines see the files and environments that are here, as Slurm's do, and run no image of their own."""

    @property
    def words(self) -> str:
        """Return the job in words: `SkyPilot task: 2 nodes of 8 h100-sxm-80 (task.yaml:3)`."""
        parts = []
        if self.num_nodes is not None:
            parts.append(f"{self.num_nodes} node{'s' if self.num_nodes > 1 else ''}")
        if self.gpus_per_node is not None:
            card = self.device or f"GPU{'s' if self.gpus_per_node > 1 else ''}"
            parts.append(f"{self.gpus_per_node} {card}{' each' if parts else ''}")
        said = f": {' of '.join(parts).removesuffix(' each')}" if parts else ""
        return f"{self.kind}{said}{f' ({self.where})' if self.where else ''}"

    @property
    def variables(self) -> dict[str, str]:
        """Return what its commands find in their environment; the GPUs of a node are those that are visible there."""
        visible = {}
        if self.gpus_per_node:
            visible["CUDA_VISIBLE_DEVICES"] = numbered(self.gpus_per_node)
        return {**visible, **self.env}


@dataclass(frozen=True)
class Part:
    """One text of an envelope, with the job that it is started in; None where it is started where it stands."""

    block: Block
    job: Job | None = None
