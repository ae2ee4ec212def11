"""A built model: the modules that a trace runs, and how deep it is."""

from __future__ import annotations

from typing import Any

from preflight.trace.compose import Depth
from preflight.values import dataclass

INDEX_NAMES = frozenset({"layer_idx", "layer_id", "layer_index", "layer_number", "idx"})
"""What modules call their own position, which is not a difference between layers."""


@dataclass(frozen=True)
class BuiltModel:
    """A model ready to be traced, shallow or deep."""

    model: Any
    layers: Any
    """The ModuleList of decoder layers that are left."""
    prefix: str
    """The name of `layers` in the model's parameter names."""
    depth: Depth

    @property
    def embeddings(self) -> frozenset[str]:
        """The names of embedding weights, by which bitsandbytes spares them."""
        import torch

        modules = self.model.named_modules()
        return frozenset(f"{n}.weight" for n, m in modules if isinstance(m, torch.nn.Embedding))


def torch_dtype(name: str) -> Any:
    """Return torch's dtype of a short name."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
