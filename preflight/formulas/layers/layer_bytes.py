"""What one layer keeps and needs in passing, in bytes per token."""

from __future__ import annotations

from preflight.values import dataclass


@dataclass(frozen=True)
class LayerCosts:
    """Bytes per token of one layer (a sequence's own squares are in `per_token` too, times its length)."""

    saved: int
    """Kept from the layer's forward to its backward when it is not checkpointed."""
    residual: int
    """Kept instead when it is: the layer's input."""
    forward_transient: int
    """Alive beside `saved` at the end of a layer's forward that keeps everything."""
    forward_checkpointed: int
    """Alive at the worst moment of a checkpointed layer's forward, which keeps nothing."""
    backward_transient: int
    """Alive beside `saved` at the worst moment of the layer's backward."""
    selective: int
    """Kept under torchtitan's selective_op checkpointing."""
    attention_backward: int
    """`saved` less what the MLP's backward has already freed, for the later half of the layer's backward."""
    held: int = 0
    """Kept beside either of the two by nodes that a checkpoint leaves: what packed layers read."""
    copied_bytes: int = 0
    """Copies of one layer's weights in the compute dtype that its backward still needs."""
    copied_again_bytes: int = 0
    """Copies that a checkpointed layer makes once more when it is recomputed, for its backward."""
    copied_in_forward_bytes: int = 0
    """Copies that are gone when the forward's autocast ends."""
    traced_forward_bytes: int | None = None
    """Of all tokens at the worst moment of a layer's forward, above what was alive when it began."""
    traced_backward_bytes: int | None = None
    """The same of its backward, the gradients of its parameters among them; both None without a trace."""

    def kept(self, mode: str) -> int:
        """Return what stays from forward to backward under a kind of checkpointing."""
        if mode == "none":
            return self.saved
        if mode == "selective_every_2":
            return (self.saved + self.residual) // 2
        return self.held + (self.selective if mode == "selective_op" else self.residual)
