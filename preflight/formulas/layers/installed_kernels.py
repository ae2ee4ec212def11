"""Layers that a package's kernels run where it is installed, and transformers' own torch code where it is not."""

from __future__ import annotations

from preflight.device import DeviceSpec
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm
from preflight.model import ModelSpec
from preflight.versions.boundary import OLDEST
from preflight.versions.transformers import (
    SCANS_IN_PRODUCTS,
    SOLVES_DELTA_RULE,
    STACKS_GRANITES_EXPERTS,
)

KERNELS = "kernels of other packages"
SCANS = {"mamba_ssm": SCANS_IN_PRODUCTS, "fla": SOLVES_DELTA_RULE}
"""Packages that scan states, and since when transformers' own code does it as it was traced in the newest release."""
ON_ARM = ("gh", "gb", "jetson")
"""How keys of cards begin that have an Arm CPU beside them."""
OF_LAYERS = "preflight/formulas/"
"""Where the terms of layers have their source: traces of torch code, or what its parts keep."""


def kernel_packages(model: ModelSpec) -> tuple[str, ...]:
    """Return the packages whose kernels would take the place of what a type's layers were traced with."""
    return tuple(model.facts.get("kernels") or ())


def scans_states(model: ModelSpec) -> bool:
    """Tell whether a package's kernels would scan a model's states."""
    return any(package in SCANS for package in kernel_packages(model))


def scans_as_newest(plan: LaunchPlan, model: ModelSpec, device: DeviceSpec | None) -> bool:
    """Tell whether a launch surely has a release whose own code is the newest's, or none of that runs; a convolution's is
    in all."""
    packages = kernel_packages(model)
    if _has_fla(plan, device):
        packages = tuple(package for package in packages if package != "fla")
    scans = (since for package, since in SCANS.items() if package in packages)
    return all(since.holds_in(plan.versions, OLDEST) for since in scans)


def _has_fla(plan: LaunchPlan, device: DeviceSpec | None) -> bool:
    """Tell whether a launch surely has flash-linear-attention, whose kernels are then what scans."""
    key = None if device is None else device.key
    if plan.launcher != "axolotl" or key is None or key.startswith(ON_ARM):
        return False
    from preflight.versions.axolotl import BRINGS_FLA  # other launches ask for none of its releases

    return BRINGS_FLA.holds_in(plan.versions, OLDEST)


def loops_over_experts(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether a launch has a release in which experts beside a scan are others than those of its tables."""
    has_experts = any(unit.layer is not None and unit.layer.num_experts for unit in model.layers)
    is_granite = model.model_type == "granitemoehybrid"
    return is_granite and has_experts and not STACKS_GRANITES_EXPERTS.holds_in(plan.versions)


def is_of_layers(term: MemoryTerm) -> bool:
    """Tell whether a kernel may change a term: a refusal without any such holds with every package."""
    return term.source.startswith(OF_LAYERS)
