"""Bytes on disk of one checkpoint of transformers' Trainer: weights, and what the optimizer needs to go on."""

from __future__ import annotations

from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import HeldTensor, held_tensors
from preflight.formulas.stored_bytes import held_state_bytes, whole_bytes
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.values import dataclass


@dataclass(frozen=True)
class CheckpointBytes:
    """One checkpoint, whatever the number of files; tokenizer, random states and the like left out."""

    weights: int
    states: int
    formula: str

    @property
    def total(self) -> int:
        return self.weights + self.states


def checkpoint_bytes(plan: LaunchPlan, model: ModelSpec, only_model: bool) -> CheckpointBytes:
    """Return the bytes of a checkpoint (Trainer._save_checkpoint, transformers 5.24).

    With an adapter the adapter alone. DeepSpeed adds a file of its own with the weights in the dtype
    of the computation, and keeps fp32 masters beside the states (engine.save_checkpoint, 0.19.8).
    """
    precision = precision_of(plan, model)
    held = list(held_tensors(plan, model))
    saved = [one for one in held if one.trains] if plan.adapter is not None else held
    weights = sum(one.count * whole_bytes(plan, precision, one) for one in saved)
    states = sum(_states(plan, model, one) for one in held if one.trains)
    zero = plan.zero_stage
    if zero == 3 and not (plan.deepspeed and _gathers(plan)):
        weights = 0
    formula = f"weights {weights:,}"
    if only_model:
        return CheckpointBytes(weights, 0, formula)
    formula += f" + states {states:,}"
    if zero:
        trained = sum(one.count * one.tensor.num_params for one in held if one.trains)
        size = precision.bytes_of("compute")
        own = size * sum(one.count * one.tensor.num_params for one in saved)
        states += 4 * trained + own
        formula += f" + fp32 masters {4 * trained:,} + DeepSpeed's own weights {own:,}"
    return CheckpointBytes(weights, states, formula)


def _gathers(plan: LaunchPlan) -> bool:
    settings = plan.deepspeed
    return settings is not None and settings.stage3_gather_16bit_weights_on_model_save


def _states(plan: LaunchPlan, model: ModelSpec, one: HeldTensor) -> int:
    return one.count * held_state_bytes(
        plan, model, precision_of(plan, model), one, one.tensor.num_params
    )
