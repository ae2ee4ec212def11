"""PF433: a package that the launch needs and its Python does not have.

Only where the launch starts on this node (docs/decisions.md, 34), by the Python of the program that it calls.
Names of `*.dist-info` folders are read, nothing is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.trainer_arguments import argument, has_trainer, where_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.values import NamedTuple


class Need(NamedTuple):
    """A package and what cannot be had without it."""

    package: str
    """Import name, which is that of its folder in site-packages."""
    install: str
    what: str
    where: str


OPTIMIZER_PACKAGES: Mapping[str, tuple[str, str]] = {
    "galore_": ("galore_torch", "galore-torch"),
    "apollo_": ("apollo_torch", "apollo-torch"),
    "lomo": ("lomo_optim", "lomo-optim"),
    "adalomo": ("lomo_optim", "lomo-optim"),
    "grokadamw": ("grokadamw", "grokadamw"),
    "schedule_free_": ("schedulefree", "schedulefree"),
    "stable_adamw": ("torch_optimi", "torch-optimi"),
    "adamw_torch_4bit": ("torchao", "torchao"),
    "adamw_torch_8bit": ("torchao", "torchao"),
    "adamw_anyprecision": ("torchdistx", "torchdistx"),
}
"""First letters of an optimizer's name -> package, as transformers/trainer_optimizer.py (5.24.0) asks for it."""

BITSANDBYTES_OPTIMIZERS = ("paged_", "ademamix", "lion_", "rmsprop_bnb", "adamw_8bit", "adamw_bnb")


@hookimpl
def preflight_findings(plan: LaunchPlan) -> Iterable[Finding]:
    """Compare what the launch needs with what its Python has."""
    if not has_trainer(plan) or plan.command is None:
        return
    needs = list(_needs(plan))
    if not needs:
        return
    versions = _versions_here(plan, tuple(need.package for need in needs))
    if versions is None:
        return
    for need in needs:
        is_missing = need.package not in versions
        # transformers 5 takes the kernel from the hub where `kernels` is installed.
        if need.package.startswith("flash_attn") and "kernels" in versions:
            is_missing = False
        if is_missing:
            yield found(
                "PF433",
                f"{need.what} needs {need.install}, which the Python of this launch does not have",
                need.where,
                f"pip install {need.install}",
            )


def _needs(plan: LaunchPlan) -> Iterable[Need]:
    if plan.attention in ("flash_attention_2", "flash_attention_3"):
        suffix = "" if plan.attention.endswith("2") else "_3"
        asked = argument(plan, "attn_implementation").value
        if asked in (None, plan.attention):
            name = f"flash_attn{suffix}"
            yield Need(name, name.replace("_", "-"), plan.attention, where_of(plan, "attention"))
    where = where_of(plan, "optimizer")
    if plan.optimizer.startswith(BITSANDBYTES_OPTIMIZERS):
        yield Need("bitsandbytes", "bitsandbytes", f"optim {plan.optimizer}", where)
    for start, (package, install) in OPTIMIZER_PACKAGES.items():
        if plan.optimizer.startswith(start):
            yield Need(package, install, f"optim {plan.optimizer}", where)
    liger = argument(plan, "use_liger_kernel")
    if liger.is_on:
        yield Need("liger_kernel", "liger-kernel", "use_liger_kernel", liger.where)
    if plan.base_quantization is not None:
        where = where_of(plan, "base_quantization")
        yield Need("bitsandbytes", "bitsandbytes", "a quantized base", where)
    if plan.adapter is not None:
        yield Need("peft", "peft", "an adapter", where_of(plan, "adapter"))


def _versions_here(plan: LaunchPlan, names: tuple[str, ...]) -> Mapping[str, str] | None:
    """Return what the launch's Python has of some packages; None where that Python is not known here."""
    from preflight.libraries.distributions import versions_in
    from preflight.node.launch_packages import folders_of_launch
    from preflight.node.this_node import starts_here

    if not starts_here(plan):
        return None
    versions = versions_in(folders_of_launch(plan), (*names, "transformers", "kernels"))
    return versions if "transformers" in versions else None
