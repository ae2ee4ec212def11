"""Modules whose own code is replaced by fused kernels, by the names that a plan has for them."""

from __future__ import annotations

from typing import Any

from preflight.launch import LaunchPlan

LIGER_SWITCHES = {
    "liger_rms_norm": ("rms_norm",),
    "liger_swiglu": ("swiglu", "geglu"),
    "liger_rope": ("rope",),
}
"""Plan's name -> arguments of Liger's apply functions (liger_kernel/transformers/monkey_patch.py, 0.8.5); the gated
MLP of any family goes by the name of the usual one."""
LIGER_KERNELS = tuple(LIGER_SWITCHES)


def liger_kernels(config: Any = None) -> tuple[str, ...]:
    """Return what `use_liger_kernel` replaces beside the loss: all that Liger has, less what its config switches off."""
    off = (
        {key for key, value in config.items() if value is False}
        if isinstance(config, dict)
        else set()
    )
    return tuple(name for name, switches in LIGER_SWITCHES.items() if not off & set(switches))


def asks_liger(plan: LaunchPlan) -> bool:
    """Tell whether a plan has Liger's modules wherever Liger has one, as its cost files were traced with them.

    Under ZeRO-2 and -3 the model's own modules are counted: eight published runs with Liger's took 5 to 17 GiB more
    than what is counted with them, which nothing here explains (docs/accuracy.md).
    """
    is_explained = plan.zero_stage not in (2, 3)
    return is_explained and plan.kernels is not None and set(LIGER_KERNELS) <= set(plan.kernels)
