"""Whether an adapter reaches the experts of a mixture of experts, which transformers 5 keeps as fused parameters."""

from __future__ import annotations

from collections.abc import Collection

from preflight.launch import LaunchPlan
from preflight.model import LINEAR, ModelSpec
from preflight.versions.peft import CONVERTS_EXPERT_NAMES, CONVERTS_STRING_TARGETS
from preflight.versions.transformers import FUSES_EXPERTS

ADAPTED_EXPERTS = frozenset(
    {
        "mixtral", "qwen3_moe", "olmoe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe", "glm4_moe_lite",
        "qwen3_next",
    }
)  # fmt: skip
"""Types whose fused experts and router PEFT adapts under `all-linear`, because their linear layers of
transformers 4 became one stack (peft/utils/transformers_weight_conversion.py, 0.21.2); a test compares."""

LEFT_OUT = frozenset({"qwen2_moe", "granitemoe", "phimoe", "gpt_oss"})
"""Types with fused experts that PEFT 0.21.2 has no conversion for; a test compares."""


OLD_NAMES: dict[str, tuple[tuple[str, ...], str]] = {"mixtral": (("w1", "w3"), "w2")}
USUAL_NAMES = (("gate_proj", "up_proj"), "down_proj")
"""What the linear layers were called: the two that became one parameter, and the third."""


def expert_names(model: ModelSpec) -> tuple[str, ...]:
    """Return the names that mean a model's experts to PEFT."""
    fused, down = OLD_NAMES.get(model.model_type, USUAL_NAMES)
    return (*fused, down)


def adapts_experts(model: ModelSpec) -> bool:
    """Tell whether PEFT has a conversion for a model's fused experts."""
    return model.model_type in ADAPTED_EXPERTS or bool(model.facts.get("adapts_experts"))


def is_fused(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether the experts are parameters and no linear layers, as far as it is known of this type."""
    is_known = adapts_experts(model) or model.model_type in LEFT_OUT
    return is_known and FUSES_EXPERTS.holds_in(plan.versions)


def is_reached(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether PEFT adapts fused experts where their linear layers are named."""
    if names_linear_modules(plan) and not has_dense_layers(model):
        return False
    if not adapts_experts(model) or not CONVERTS_EXPERT_NAMES.holds_in(plan.versions):
        return False
    return not loses_string_targets(plan, model)


def loses_string_targets(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether PEFT takes the plan's targets for a set of letters, and refuses an adapter that reaches no module."""
    is_string = plan.adapter is not None and isinstance(plan.adapter.targets, str)
    converts = CONVERTS_EXPERT_NAMES.holds_in(plan.versions) and adapts_experts(model)
    is_old = not CONVERTS_STRING_TARGETS.holds_in(plan.versions)
    is_fused = FUSES_EXPERTS.holds_in(plan.versions)
    return is_string and converts and is_old and is_fused and not names_linear_modules(plan)


def names_linear_modules(plan: LaunchPlan) -> bool:
    """Tell whether all linear layers are named one by one, as axolotl does (axolotl/loaders/adapter.py:54, 0.19.0).

    PEFT then sees no `all-linear` to turn into the fused experts.
    """
    return (
        plan.launcher == "axolotl"
        and plan.adapter is not None
        and plan.adapter.targets == "all-linear"
    )


def has_dense_layers(model: ModelSpec) -> bool:
    """Tell whether a layer without experts, or a shared expert, has linear layers of the experts' names."""
    names = expert_names(model)
    return any(t.kind == LINEAR and t.module in names for _, t in model.tensors())


def lone_half(model: ModelSpec, targets: Collection[str]) -> str:
    """Return the other half of a fused pair of which only one is a target; empty where both or none are."""
    pair, _ = OLD_NAMES.get(model.model_type, USUAL_NAMES)
    missing = [name for name in pair if name not in targets]
    return missing[0] if len(missing) == 1 else ""


GATE_AND_UP, DOWN, ROUTER = "gate_up_proj", "down_proj", "gate"
"""The fused stacks of experts, and the router in front of them."""


def adapted_stacks(
    plan: LaunchPlan, model: ModelSpec, targets: tuple[str, ...] | str
) -> frozenset[str]:
    """Return which fused stacks an adapter is put on: by names of the linear layers that they were, or by all.

    PEFT refuses one half of gate and up; a router that is no linear layer is reached by its name
    and by `all-linear` (peft/utils/transformers_weight_conversion.py _convert_peft_config_moe, 0.21.2).
    """
    if not (FUSES_EXPERTS.holds_in(plan.versions) and is_reached(plan, model)):
        return frozenset()
    pair, down = OLD_NAMES.get(model.model_type, USUAL_NAMES)
    if targets == "all-linear":
        every = frozenset({GATE_AND_UP, DOWN, ROUTER})
        return every - {ROUTER} if names_linear_modules(plan) else every
    names = {
        name.rpartition(".")[2] for name in ((targets,) if isinstance(targets, str) else targets)
    }
    reached = {GATE_AND_UP: names.issuperset(pair), DOWN: down in names, ROUTER: ROUTER in names}
    return frozenset(stack for stack, is_named in reached.items() if is_named)


def idle_stack(plan: LaunchPlan, stacks: Collection[str]) -> str:
    """Return the packed stack whose adapter is never read beside the other's; empty where both train."""
    is_packed = plan.base_quantization is not None and plan.base_quantization.experts
    if not is_packed or not {GATE_AND_UP, DOWN} <= {*stacks}:
        return ""
    from preflight.versions.axolotl import TRAINS_INNER_ADAPTERS  # few launches have such stacks

    return "" if TRAINS_INNER_ADAPTERS.holds_in(plan.versions) else GATE_AND_UP
