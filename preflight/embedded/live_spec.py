"""A live model that no config describes, as a ModelSpec of its named parameters: its states are known, its activations are not."""

from __future__ import annotations

from typing import Any

from preflight.embedded.live_model import base_of, num_elements, unwrapped
from preflight.errors import BadInput
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import LINEAR, OTHER, ModelSpec, ModelUnit, ParameterTensor


class LiveModels:
    """A plugin that describes one live model where its config does not."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @hookimpl
    def preflight_describe_model(self, plan: LaunchPlan) -> ModelSpec | None:
        """Describe the live model by its parameters where nothing else can."""
        if plan.model_config is not None:
            from preflight.models import describe

            try:
                return describe(plan.model_config, plan.model or "", "the live model's config")
            except BadInput:
                pass
        return spec_of(self._model)


def spec_of(model: Any) -> ModelSpec:
    """Return every parameter of a live model in one unit, with no formula for what it saves."""
    base = base_of(unwrapped(model))
    tensors = []
    for name, parameter in base.named_parameters():
        shape = tuple(int(size) for size in parameter.shape)
        count = num_elements(parameter)
        product = 1
        for size in shape:
            product *= size
        kind = LINEAR if len(shape) == 2 and product == count else OTHER
        tensors.append(ParameterTensor(name, shape if product == count else (count,), kind))
    name = type(base).__name__
    return ModelSpec(
        name=name,
        config={},
        model_type=name,
        hidden_size=0,
        vocab_size=0,
        num_layers=0,
        units=(ModelUnit("the live model", "other", tuple(tensors)),),
        is_decoder_lm=False,
        source="its live parameters",
    )
