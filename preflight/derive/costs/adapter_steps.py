"""One step of a linear layer that a PEFT adapter is on: every tensor that it makes and frees, on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from preflight.values import NamedTuple

Shape = tuple[int, int, int]
"""Inputs, outputs and tokens."""


class Step(NamedTuple):
    """One step of an adapted layer, with its tensors by number."""

    forward: tuple[tuple[int, int], ...]
    """A tensor that is made or freed, and its bytes, or less than 0 where it is freed."""
    backward: tuple[tuple[int, int], ...]
    keeps_input: bool

    @property
    def order(self) -> tuple[Any, ...]:
        """Which tensors are made and freed when, whatever their sizes are."""
        return *(
            [(n, size > 0) for n, size in part] for part in (self.forward, self.backward)
        ), self.keeps_input


def made(
    cls: Any, options: Mapping[str, Any], shape: tuple[int, int], number: int
) -> tuple[int, int]:
    """Return the trained parameters of an adapter on some layers, and the bytes of what else it makes."""
    import torch

    model = _adapted(cls, options, [torch.nn.Linear(*shape, bias=False) for _ in range(number)])
    own = {_of(layer.get_base_layer().weight) for layer in model.base_model.model.layers}
    trained = [p for p in model.parameters() if p.requires_grad]
    storages = {
        _of(t): t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers())
    }
    beside = {*own, *(_of(p) for p in trained)}
    return (
        sum(p.numel() for p in trained),
        sum(size for storage, size in storages.items() if storage not in beside),
    )


def step_of(
    cls: Any, options: Mapping[str, Any], shape: Shape, mode: tuple[str, str, bool]
) -> Step:
    """Run one step of a linear layer that a kind of adapter is on."""
    import torch

    from preflight.trace.autocast import EmulatedAutocast
    from preflight.trace.log import AllocationLog
    from preflight.trace.recorder import Recorder, recording

    (inputs, outputs, tokens), (base, own, under) = shape, mode
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32}
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = _adapted(
            cls, options, [torch.nn.Linear(inputs, outputs, bias=False, dtype=dtypes[base])]
        ).train()
        layer = adapted.base_model.model.layers[0]
        trained = [p for p in adapted.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.data = parameter.data.to(dtypes[own])
        recorder = Recorder(AllocationLog(), "cpu")
        for tensor in (*adapted.parameters(), *adapted.buffers()):
            recorder.hold(tensor)
        leaf = torch.randn(1, tokens, inputs, dtype=dtypes[base], requires_grad=True)
        autocast = EmulatedAutocast(torch.bfloat16, recorder)
        given = leaf * 1
        recorder.hold(given)
        begun, (of_input, input_alive) = len(recorder.log.events), recorder.alive[_of(given)]
        with recording(recorder), autocast.region() if under else nullcontext():
            result = layer(given)
            del given
            keeps_input = input_alive() is not None
            gradient = torch.randn_like(result)
            turn = len(recorder.log.events)
            beside = {of_input, *(recorder.alive[_of(one)][0] for one in (result, gradient))}
            result.backward(gradient)
        beside |= {recorder.alive[_of(p.grad)][0] for p in trained if p.grad is not None}
        parts = (recorder.log.events[begun:turn], recorder.log.events[turn:])
    forward, backward = (tuple(_changes(each, recorder.log.sizes, beside)) for each in parts)
    return Step(forward, backward, keeps_input)


def _changes(
    events: Sequence[int], sizes: Sequence[int], beside: set[int]
) -> Iterator[tuple[int, int]]:
    """Yield what is made and freed, but the input, the result and gradients that stay."""
    for event in events:
        number = event if event >= 0 else ~event
        if number not in beside:
            yield number, sizes[number] if event >= 0 else -sizes[number]


def _of(tensor: Any) -> int:
    storage: int = tensor.untyped_storage()._cdata
    return storage


def _adapted(cls: Any, options: Mapping[str, Any], layers: Sequence[Any]) -> Any:
    """Return a model of some linear layers, each with an adapter."""
    import peft
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(layers)
            self.config = {"model_type": "layers"}

        def forward(self, given: Any) -> Any:
            return [layer(given) for layer in self.layers]

    targets = [str(place) for place in range(len(layers))]
    if options.get("feedforward_modules"):
        options = {**options, "feedforward_modules": targets}
    return peft.get_peft_model(Model(), cls(target_modules=targets, **options))
