"""What one decoder layer really keeps for backward: storages seen by autograd's saved-tensor hooks on a CPU run."""

from __future__ import annotations

from typing import Any

import torch


def saved_bytes_of_layer(
    model: Any, layers: Any, index: int, batch: int, length: int, **inputs: Any
) -> int:
    """Run one forward and return the bytes that layer `index` saved, parameters and buffers apart."""
    owned = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    live: dict[int, Any] = {}
    inside = False

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if inside:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in owned:
                live[storage.data_ptr()] = storage  # kept alive, so that no address is used twice
        return tensor

    def enter(*_: Any) -> None:
        nonlocal inside
        inside = True

    def leave(*_: Any) -> None:
        nonlocal inside
        inside = False

    handles = [
        layers[index].register_forward_pre_hook(enter),
        layers[index].register_forward_hook(leave),
    ]
    ids = torch.randint(0, model.config.get_text_config().vocab_size, (batch, length))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(input_ids=ids, use_cache=False, **inputs)
    for handle in handles:
        handle.remove()
    total = sum(storage.nbytes() for storage in live.values())
    del output
    return total


def decoder_layers(model: Any) -> Any:
    """Return the list of decoder layers of any Hugging Face causal language model."""
    for _, module in model.named_modules():
        if (
            isinstance(module, torch.nn.ModuleList)
            and len(module) == model.config.get_text_config().num_hidden_layers
        ):
            return module
    raise AssertionError("no decoder layers found")
