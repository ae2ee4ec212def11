"""Names that an adapter goes on, or that train whole beside it, and that no listed module of the model has."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from preflight.errors import Problem
from preflight.formulas.adapters.adapted_experts import expert_names, is_fused, is_reached
from preflight.formulas.adapters.adapters import (
    HEADS,
    SAVED_HEADS,
    TABLES,
    adapter_targets,
    is_target,
    may_have_others,
)
from preflight.launch import Adapter, LaunchPlan
from preflight.model import ModelSpec
from preflight.plan_choices import OPEN_PARTS
from preflight.unpriced_names import UNLISTED, UNSLOTH
from preflight.values import replace

SAVED_ELSEWHERE = "modules of other names that train beside the adapter"


def adapts_other_names(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether the adapter goes on modules that the model may have under names of its own, and no listed one has."""
    return plan.adapter is not None and may_have_others(model) and not _is_reached(plan, model)


def saves_other_names(plan: LaunchPlan, model: ModelSpec) -> tuple[str, ...]:
    """Return the modules that train whole beside the adapter and that the model may have, but no listed one is called so."""
    if plan.adapter is None or not may_have_others(model):
        return ()
    listed = {
        name for unit, t in model.tensors() for name in (t.module, unit.name.rsplit(".", 1)[-1])
    }
    known = {*listed, *TABLES, *HEADS, *SAVED_HEADS}
    return tuple(name for name in plan.adapter.modules_to_save or () if name not in known)


def left_out_of_adapter(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    """Yield the names of an adapter that no listed module has."""
    elsewhere = saves_other_names(plan, model)
    if elsewhere:
        yield Problem.left_out(
            f"modules_to_save has {', '.join(elsewhere)}, which is none of the names that are known of {model.name}",
            "the adapter's modules_to_save",
            SAVED_ELSEWHERE,
            "more",
            "`preflight trace` runs the model itself",
            "PF127",
        )
    if makes_unsloths(plan) and _names_experts(plan, model) and is_fused(plan, model):
        yield Problem.left_out(
            f"Unsloth puts adapters on the experts of {model.name}, which PEFT alone does not: they are not counted",
            "the adapter's target modules",
            "adapters on experts",
            "more",
        )
    if model.tower is not None and _saves_what_only_running_tells(plan):
        yield Problem.left_out(
            "which modules train whole beside the adapter is known only when the script runs: the tower may be one of them",
            "the adapter's modules_to_save",
            SAVED_ELSEWHERE,
            "more",
            "--set adapter.modules_to_save=NAME,... says which",
            "PF127",
        )
    if plan.adapter is not None and adapts_other_names(plan, model):
        names = adapter_targets(plan.adapter, model)
        shown = names if isinstance(names, str) else ", ".join(names)
        yield Problem.left_out(
            f"the target modules {shown} are none of the names that are known of {model.name}: the adapter is not counted, and it fits only where one on every linear layer does",
            "the adapter's target modules",
            UNLISTED,
            "either",
            "--set adapter.targets=all-linear counts one on every linear layer",
            "PF127",
        )


def makes_unsloths(plan: LaunchPlan) -> bool:
    """Tell whether Unsloth makes the adapter (get_peft_model in unsloth/models/llama.py and _utils.py, 2026.10)."""
    return any(each.unpriced == UNSLOTH for each in plan.notices)


def _names_experts(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether the targets mean experts that PEFT alone does not reach."""
    if plan.adapter is None or is_reached(plan, model):
        return False
    names = adapter_targets(plan.adapter, model)
    return isinstance(names, str) or bool({*names} & {*expert_names(model)})


def _saves_what_only_running_tells(plan: LaunchPlan) -> bool:
    """Tell whether what trains whole beside an adapter is open; its dearest are tables and heads, and no part that sees."""
    origin = plan.origins.get("adapter")
    part, dearest = OPEN_PARTS["lora_modules_to_save"]
    others = () if origin is None or plan.adapter is None else origin.may_be
    return any(getattr(one, part, None) == dearest for one in others)


def with_reached_adapters(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return the plan without those of its open adapters that go on no module of the model: PEFT makes none of these
    (`Target modules ... not found in the base model`, peft/tuners/tuners_utils.py:1066, 0.21.2). A model that may have
    modules of other names has them perhaps, at most on every linear layer."""
    origin = plan.origins.get("adapter")
    if origin is None or not origin.may_be or not model.layers or model.tower is not None:
        return plan  # names of a tower, and of a model that is counted alone, are not listed
    ways = (plan.adapter, *origin.may_be)
    listed = {
        part for _, tensor in model.tensors() for part in (tensor.module, *tensor.name.split("."))
    }
    listed.update((*TABLES, *HEADS, *SAVED_HEADS))
    reached = [each for each in ways if each is None or _names_any(each, listed)]
    if not reached or len(reached) == len(ways):
        return plan
    if may_have_others(model):
        elsewhere = (each for each in ways if each is not None and each not in reached)
        reached += [replace(each, targets="all-linear") for each in elsewhere]
    taken, *others = dict.fromkeys(reached)
    settled = replace(origin, assumed=bool(others), may_be=tuple(others))
    return replace(plan, adapter=taken, origins={**plan.origins, "adapter": settled})


def _names_any(adapter: Adapter, listed: Collection[str]) -> bool:
    """Tell whether an adapter may go on a module of a model: a list of names does where one of them is a module's, of
    whatever kind; a pattern, or PEFT's own default, is not asked."""
    targets = adapter.targets
    if not isinstance(targets, tuple) or targets == ("all-linear",):
        return True
    return any(name.rsplit(".", 1)[-1] in listed for name in targets)


def _is_reached(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether the adapter goes on any module that is listed; a model that is counted alone lists none."""
    if plan.adapter is None or not model.layers:
        return True
    targets = adapter_targets(plan.adapter, model)
    return any(is_target(tensor, targets) for _, tensor in model.tensors())
