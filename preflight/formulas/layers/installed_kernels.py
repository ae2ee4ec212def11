"""Layers that a package's kernels run where it is installed, and transformers' own torch code where it is not."""

from __future__ import annotations

from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm
from preflight.model import ModelSpec
from preflight.versions.boundary import OLDEST
from preflight.versions.transformers import SCANS_IN_PRODUCTS

KERNELS = "kernels of other packages"
SCANS = ("mamba_ssm", "fla")
"""Packages that scan states, which transformers' own code does in another way in every few releases."""
OF_LAYERS = "preflight/formulas/"
"""Where the terms of layers have their source: traces of torch code, or what its parts keep."""


def kernel_packages(model: ModelSpec) -> tuple[str, ...]:
    """Return the packages whose kernels would take the place of what a type's layers were traced with."""
    return tuple(model.facts.get("kernels") or ())


def runs_own_scan(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether a launch surely has a release whose own code is what was traced; a convolution's is in all."""
    scans = any(package in SCANS for package in kernel_packages(model))
    return not scans or SCANS_IN_PRODUCTS.holds_in(plan.versions, OLDEST)


def is_of_layers(term: MemoryTerm) -> bool:
    """Tell whether a kernel may change a term: a refusal without any such holds with every package."""
    return term.source.startswith(OF_LAYERS)
