"""What FSDP gathers of a model on one rank, as memory terms; fsdp1_terms.py and fsdp2_terms.py say when it is there."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.beside_gathers import layer_gradients
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import WrapUnits, wrap_units, wraps_both_ends
from preflight.launch import LaunchPlan
from preflight.memory import Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import dtype_bytes
from preflight.values import dataclass

LAST_LAYER, FIRST_LAYER = Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD
HEAD, EMBEDDING = Moment.HEAD_BACKWARD, Moment.EMBEDDING_BACKWARD
LAYERS = (LAST_LAYER, FIRST_LAYER)
BEFORE_LAYERS = (Moment.FORWARD, Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD, HEAD, LAST_LAYER)
END = (FIRST_LAYER, EMBEDDING)
GATHER = "all_gather"
FSDP1_SOURCE = "torch/distributed/fsdp/_runtime_utils.py, _flat_param.py (2.13)"
FSDP2_SOURCE = "torch/distributed/fsdp/_fully_shard/_fsdp_param_group.py (2.13)"


@dataclass(frozen=True)
class Gathers:
    """The units of a plan's FSDP, and what their terms have in common."""

    plan: LaunchPlan
    model: ModelSpec
    units: WrapUnits
    trains: WrapUnits
    """What of them has gradients."""
    size: int
    """Bytes of a gathered element."""
    source: str

    @classmethod
    def of(cls, plan: LaunchPlan, model: ModelSpec) -> Gathers:
        precision = precision_of(plan, model)
        size = precision.bytes_of("compute" if plan.mixed_precision != "no" else "frozen")
        units = wrap_units(plan, model, padded=True)
        trains = wrap_units(plan, model, trains_only=True)
        source = FSDP2_SOURCE if plan.engine == "fsdp2" else FSDP1_SOURCE
        return cls(plan, model, units, trains, size, source)

    @property
    def reduced_size(self) -> int:
        """Bytes of an element that is reduced."""
        return dtype_bytes(self.plan.reduce_dtype) if self.plan.reduce_dtype else self.size

    @property
    def accumulates(self) -> bool:
        """Whether gradients stay unsharded between micro steps."""
        return self.plan.gradient_accumulation_steps > 1 and not self.plan.sync_each_batch

    @property
    def stay_gathered(self) -> int:
        """Elements that stay gathered from forward to backward."""
        plan, units = self.plan, self.units
        if plan.engine == "fsdp1" and plan.shard_degree == 1:
            return 0  # NO_SHARD: the copies in the compute dtype are freed all the same
        if plan.reshard_after_forward is False:
            return units.layer * units.num_layers + units.embedding
        if plan.reshard_after_forward == "default" and plan.engine == "fsdp2":
            # torchtitan once resharded every block but the last
            return 0 if wraps_both_ends(plan) else units.layer
        return 0

    def term(
        self,
        name: str,
        elements: int,
        moments: Iterable[Moment],
        stream: str = "default",
        size: int | None = None,
        source: str = "",
    ) -> MemoryTerm:
        """Return the term of some elements in the size of what is gathered, or in another one."""
        size = self.size if size is None else size
        formula = f"{elements:,} x {size}"
        return self.bytes(name, size * elements, moments, formula, stream, source=source)

    def bytes(
        self,
        name: str,
        num_bytes: int,
        moments: Iterable[Moment],
        formula: str,
        stream: str = "default",
        level: Level = Level.ALLOCATED,
        source: str = "",
    ) -> MemoryTerm:
        """Return a term whose bytes are no plain product."""
        alive = frozenset(moments)
        return MemoryTerm(
            name, num_bytes, alive, formula, source or self.source, level, stream=stream
        )

    def layer_gradients(self, times: int = 1) -> MemoryTerm:
        """Return the gradients of one layer before they are reduced, as far as its activations leave them no room.

        `times`: how often each element is there.
        """
        size = self.size * times
        num_bytes = layer_gradients(self.plan, self.model, size * self.trains.layer)
        product = f"{self.trains.layer:,} x {self.size}"
        formula = f"beyond the layer's activations; all of them: {product}"
        if times == 2:
            formula = f"beyond the layer's activations; 2 x {product}: each parameter's, and the flat one they are concatenated into"
        return self.bytes("unsharded gradients of a layer", num_bytes, LAYERS, formula)
