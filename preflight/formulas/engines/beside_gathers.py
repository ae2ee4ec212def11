"""What of a layer, of its gradients and of the loss is there or gone while FSDP has buffers beside it."""

from __future__ import annotations

from preflight.formulas.layers.layer_bytes import LayerCosts
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.objective import of_one_forward
from preflight.formulas.objectives.whole_logits import whole_logits
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.formulas.tensor_parallel import divided_elements, local_vocab
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.units import ceil_div


def layer_gradients(plan: LaunchPlan, model: ModelSpec, all_gradients: int) -> int:
    """Return the bytes of gradients that count on top of all activations of the layer in backward."""
    layer = model.largest_layer
    if layer is None or layer.layer is None or not all_gradients:
        return all_gradients
    precision = precision_of(plan, model)
    freed = freed_by_mlp(plan, model)
    matrices = [divided_elements(plan, layer, t) for t in layer.tensors if len(t.shape) >= 2]
    last = precision.bytes_of("compute") * max(matrices, default=0) if plan.adapter is None else 0
    return max(min(last, all_gradients), all_gradients - max(0, freed))


def freed_by_mlp(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the bytes that a layer's backward has freed of its most when its MLP has gone back."""
    costs = _costs(plan, model)
    if costs is None:
        return 0
    return num_tokens(plan) * (costs.saved + costs.backward_transient - costs.attention_backward)


def _costs(plan: LaunchPlan, model: ModelSpec) -> LayerCosts | None:
    """Return the costs of the largest layer; None of a model without layers."""
    layer = model.largest_layer
    if layer is None or layer.layer is None:
        return None
    return layer_costs(plan, model, layer, precision_of(plan, model))


def passing_bytes(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the bytes that a layer's forward adds at its worst moment: none of them is there before it computes."""
    costs = _costs(plan, model)
    if costs is None:
        return 0
    if plan.activation_checkpointing == "none":
        return num_tokens(plan) * (costs.saved + costs.forward_transient)
    return num_tokens(plan) * costs.forward_checkpointed


def layer_backward_bytes(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the bytes that pass through a layer's backward."""
    costs = _costs(plan, model)
    return 0 if costs is None else num_tokens(plan) * costs.backward_transient


def kept_by_layer(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the bytes that a layer keeps from its forward to its backward."""
    costs = _costs(plan, model)
    return 0 if costs is None else num_tokens(plan) * costs.kept(plan.activation_checkpointing)


def saved_before_last(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the bytes that all layers but one keep by the end of a forward, at least."""
    return max(0, model.num_layers - 1) * kept_by_layer(of_one_forward(plan), model)


def gradient_shard(plan: LaunchPlan, model: ModelSpec, elements: int) -> int:
    """Return the bytes of one rank's shard of a unit's gradients; 0 where they are stepped with and freed at once."""
    if plan.optimizer_in_backward:
        return 0
    return precision_of(plan, model).bytes_of("gradient") * ceil_div(elements, plan.shard_degree)


def logits_bytes(plan: LaunchPlan, model: ModelSpec, size: int) -> int:
    """Return the bytes of whole logits in the compute dtype; 0 where the loss never makes them."""
    if plan.loss not in (None, "full_logits"):
        return 0
    return size * num_tokens(plan) * local_vocab(plan, model.vocab_size)


def loss_forward_bytes(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the bytes of a loss over whole logits at its forward's worst moment; 0 where it never makes them."""
    entries = logits_bytes(plan, model, 1)
    return entries * whole_logits(plan, model).forward if entries else 0
