"""PF405, PF421 to PF424, PF426, PF447: where an adapter goes, and where it cannot.

PF405  no target modules on an architecture that PEFT has no default for: the estimate takes all linear layers
PF421  target modules of which the model has none
PF422  some target modules that the model does not have, among others that it has
PF423  adapters on fused experts with dropout, with DoRA, or on one half of gate and up: PEFT refuses them
PF424  adapters that were meant for experts, and do not reach them
PF426  an adapter on lm_head under TRL, whose fused head never runs it
PF447  adapters on the linears of Gemma 4's tower by their own names, which PEFT does not know
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.adapters.adapted_experts import (
    expert_names,
    is_fused,
    is_reached,
    lone_half,
    loses_string_targets,
    names_linear_modules,
)
from preflight.formulas.adapters.adapted_names import adapts_other_names, makes_unsloths
from preflight.formulas.adapters.adapters import PEFT_DEFAULT_TARGETS, peft_model_type
from preflight.formulas.adapters.frozen_parts import is_frozen
from preflight.formulas.trainer_arguments import method_of, where_of
from preflight.formulas.user_loop import has_own_model_code
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import EXPERTS, LINEAR, ModelSpec
from preflight.near_names import nearest_fix
from preflight.versions.transformers import FUSES_EXPERTS
from preflight.versions.trl import FUSES_HEAD

TOWER, INSIDE = "tower", ".linear.weight"
SOME_MODULES = "an adapter on some modules"
"""What a script leaves out of those that its targets name (`exclude_modules`)."""


@hookimpl
def preflight_findings(plan: LaunchPlan, model: ModelSpec | None) -> Iterable[Finding]:
    """Compare the target modules with those of the model."""
    adapter = plan.adapter
    if adapter is None or has_own_model_code(plan):
        return  # without PEFT
    where = where_of(plan, "adapter")
    targets = _names(adapter.targets)
    is_fused_head = method_of(plan) == "sft" and FUSES_HEAD.holds_in(plan.versions)
    if is_fused_head and "lm_head" in targets:
        yield found(
            "PF426",
            "an adapter on lm_head is not supported: TRL's fused head never runs it",
            where,
            "lm_head in --lora_modules_to_save trains it whole; or leave it out",
        )
    if model is None:
        return
    if adapter.targets is None:
        kind = peft_model_type(model)
        facts = plan.script_facts
        is_said = "adapter" not in facts.inferred and "adapter" not in facts.unread
        if is_said and kind not in PEFT_DEFAULT_TARGETS:
            yield found(
                "PF405",
                f"PEFT has no default target modules for {kind}: every worker stops when the adapter is made",
                where,
                "--lora_target_modules all-linear, or the names of the layers to adapt",
            )
        return
    yield from _wrapped(plan, model, targets, where)
    has_towers = not model.is_decoder_lm or peft_model_type(model) != model.model_type
    if has_towers or adapts_other_names(plan, model):
        return  # not all modules are listed, or PF127 says that none of them is meant
    yield from _unmatched(plan, model, targets, where)
    yield from _experts(plan, model, where)


def _wrapped(
    plan: LaunchPlan, model: ModelSpec, targets: tuple[str, ...], where: str
) -> Iterable[Finding]:
    """Name targets that are linears inside another module, which PEFT finds by the name of that one."""
    if isinstance(plan.adapter and plan.adapter.targets, str) or any(
        notice.unpriced == SOME_MODULES for notice in plan.notices
    ):
        return
    paths = [
        f".{unit.name}.{tensor.name.removesuffix(INSIDE)}."
        for unit, tensor in model.tensors()
        if unit.role == TOWER and tensor.name.endswith(INSIDE) and not is_frozen(plan, unit)
    ]
    reached = [name for name in targets if any(path.endswith(f".{name}.") for path in paths)]
    if reached:
        yield found(
            "PF447",
            f"{', '.join(reached)} are in the vision tower of {model.name} too, as Gemma4ClippableLinear: PEFT refuses it",
            where,
            r"--lora_target_modules all-linear, or a pattern as '.*language_model\..*\.(q_proj|v_proj)'",
        )


def _names(targets: tuple[str, ...] | str | None) -> tuple[str, ...]:
    names = (targets,) if isinstance(targets, str) else targets or ()
    return () if names == ("all-linear",) else names


def _unmatched(
    plan: LaunchPlan, model: ModelSpec, targets: tuple[str, ...], where: str
) -> Iterable[Finding]:
    """Name targets that no module is called; PEFT takes the last parts of a module's name."""
    if not targets or any(not name.replace(".", "_").isidentifier() for name in targets):
        return
    paths = _module_paths(model)
    missing = [name for name in targets if not any(f".{p}.".endswith(f".{name}.") for p in paths)]
    has_experts = any(tensor.kind == EXPERTS for _, tensor in model.tensors())
    if is_fused(plan, model) or (has_experts and not FUSES_EXPERTS.holds_in(plan.versions)):
        # Of fused experts it is told below what becomes of their own names; before, modules are called so.
        missing = [name for name in missing if name not in expert_names(model)]
    if not missing:
        return
    last_parts = sorted({path.rpartition(".")[2] for path in _adaptable(model)})
    near = nearest_fix(missing[0], tuple(last_parts)) or f"the model has {', '.join(last_parts)}"
    if len(missing) == len(targets):
        yield found(
            "PF421",
            f"none of the target modules {', '.join(missing)} is in a {model.model_type} model: PEFT refuses them",
            where,
            near,
        )
    else:
        yield found(
            "PF422",
            f"no module of a {model.model_type} model is called {', '.join(missing)}: the adapter goes on the others",
            where,
            near,
        )


def _module_paths(model: ModelSpec) -> set[str]:
    """Return the dotted names of all modules, layer numbers as `*`."""
    paths = {"lm_head"}  # a tied one is in no unit
    for unit, tensor in model.tensors():
        parts = f"{unit.name}.{tensor.name}".split(".")
        paths.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return paths


def _adaptable(model: ModelSpec) -> set[str]:
    return {
        tensor.name.rpartition(".")[0]
        for unit, tensor in model.tensors()
        if unit.role == "layer" and tensor.kind == LINEAR and tensor.name.endswith(".weight")
    }


def _experts(plan: LaunchPlan, model: ModelSpec, where: str) -> Iterable[Finding]:
    adapter = plan.adapter
    if adapter is None or not is_fused(plan, model):
        return
    names = expert_names(model)
    is_all = adapter.targets in ("all-linear", ("all-linear",))
    named = [name for name in _names(adapter.targets) if name in names]
    if not is_all and not named:
        return
    of_model = f"the experts of a {model.model_type} model"
    if loses_string_targets(plan, model):
        yield found(
            "PF423",
            f"PEFT 0.19 takes {adapter.targets} for a set of letters where it looks for {of_model}, and finds no module",
            where,
            "PEFT 0.20 or newer, or the names of the target modules one by one",
        )
    elif makes_unsloths(plan):
        return  # which adapts them itself
    elif not is_reached(plan, model):
        all_linear = "lora_target_linear" if names_linear_modules(plan) else "all-linear"
        yield found(
            "PF424",
            f"{all_linear if is_all else ', '.join(named)} does not reach {of_model}:"
            " they are one fused parameter, not linear layers",
            where,
            "--lora_target_parameters mlp.experts.gate_up_proj mlp.experts.down_proj, with --lora_dropout 0",
        )
    elif adapter.dropout > 0:
        yield found(
            "PF423",
            f"PEFT cannot adapt {of_model} with lora_dropout {adapter.dropout:g}: they are one fused parameter",
            where,
            "--lora_dropout 0",
            {"adapter.dropout": 0.0},
        )
    elif adapter.kind == "dora":
        yield found(
            "PF423",
            f"PEFT cannot adapt {of_model} with DoRA: they are one fused parameter",
            where,
            "LoRA, without use_dora",
            {"adapter.kind": "lora"},
        )
    elif not is_all and lone_half(model, named):
        yield found(
            "PF423",
            f"PEFT cannot adapt {', '.join(named)} of {of_model} without {lone_half(model, named)}: they are fused",
            where,
            f"add {lone_half(model, named)} to the target modules",
        )
