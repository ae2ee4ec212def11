"""Which layers a step records: below the lowest adapter nothing asks for a gradient, and nothing is kept.

The output of a frozen embedding asks for none by itself. Trainer, TRL and PEFT make it ask where layers are checkpointed
(enable_input_require_grads: peft/peft_model.py:734 in 0.21.2, trl/trainer/sft_trainer.py:899 in 1.16.0), axolotl and some
scripts always. So where adapters are on attention alone, layers with a recurrent state below the first attention are
run as in an evaluation.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.formulas.adapters import adapter_tensors
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.remembered import remembered


@remembered
def recorded_layers(plan: LaunchPlan, model: ModelSpec) -> tuple[tuple[ModelUnit, ModelUnit], ...]:
    """Return each kind of decoder layers with those of it that keep something for backward: all of them in most plans,
    and a unit of no layer where none of its kind does."""
    lowest = _lowest_recorded(plan, model)
    layers = [unit for unit in model.layers if unit.layer is not None]
    above = [tuple(place for place in unit.places if place >= lowest) for unit in layers]
    return tuple(
        (unit, replace(unit, count=len(places), places=places) if lowest else unit)
        for unit, places in zip(layers, above, strict=True)
    )


def _lowest_recorded(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the place of the lowest layer that is recorded."""
    if plan.adapter is None or plan.activation_checkpointing != "none" or plan.vision is not None:
        return 0
    if plan.script_facts.inputs_ask:
        return 0
    trained = [unit for unit, tensor in adapter_tensors(plan, model) if tensor.gets_gradient]
    is_placed = all(unit.places for unit in model.layers)
    if not is_placed or any(u.role not in ("layer", "final_norm", "lm_head") for u in trained):
        return 0
    return min((place for unit in trained for place in unit.places), default=0)
