"""PF508, PF509: libraries that the launch trains with (what its options need beside is PF433), and tools that DeepSpeed's operators are built with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from preflight.files import entries_of, find_program
from preflight.finding import Finding
from preflight.findings import found
from preflight.launch import LaunchPlan
from preflight.libraries.distributions import versions_in
from preflight.node.launch_packages import folders_of_launch
from preflight.node.packages import PACKAGES, build_tools
from preflight.node.this_node import environment
from preflight.plan_choices import HF_TRAINERS


def findings(plan: LaunchPlan, root: str = "/") -> Iterator[Finding]:
    """Compare what the options import with what the launcher's Python has."""
    folders = folders_of_launch(plan)
    versions = versions_in(folders, PACKAGES)
    if "torch" not in versions:
        return  # not the environment that trains, or one that cannot be read
    for package, why in _wanted(plan):
        if package not in versions:
            yield found(
                "PF508",
                f"{package} is not installed where {plan.launcher or 'the launch'} is, and {why}",
                _where(plan, package),
                f"pip install {package}",
            )
    operator = _operator(plan)
    if operator is not None and "deepspeed" in versions:
        yield from _build(plan, operator, versions, folders, root)


def _wanted(plan: LaunchPlan) -> Iterator[tuple[str, str]]:
    if plan.zero_stage is not None:
        yield "deepspeed", "this launch trains with DeepSpeed"
    if plan.trainer == "trl":
        yield "trl", "the script trains with it"
    if plan.trainer in HF_TRAINERS:
        yield "transformers", "the script trains with it"
        yield "accelerate", "Trainer imports it"


def _where(plan: LaunchPlan, package: str) -> str:
    origin = plan.origins.get("engine" if package == "deepspeed" else "trainer")
    return origin.where if origin is not None else ""


def _operator(plan: LaunchPlan) -> str | None:
    """Return the operator that DeepSpeed compiles for this plan: CPUAdam for offload, FusedAdam for its own Adam."""
    if plan.zero_stage is None:
        return None
    if plan.offload_optimizer != "none":
        return "cpu_adam"
    return "fused_adam" if plan.optimizer == "deepspeed_fused_adam" else None


def _build(
    plan: LaunchPlan,
    operator: str,
    versions: Mapping[str, str],
    folders: tuple[str, ...],
    root: str,
) -> Iterator[Finding]:
    if _is_prebuilt(operator, folders):
        return
    env = environment(plan)
    tools = build_tools(env, root)
    # torch calls `ninja` by name (verify_ninja_availability in torch/utils/cpp_extension.py, 2.13).
    if tools.ninja is None:
        yield found(
            "PF509",
            f"DeepSpeed compiles {operator} when the engine is made, and there is no ninja on PATH",
            "$PATH",
            "pip install ninja, in the environment of the launch",
        )
        return
    is_cuda = "+cpu" not in versions["torch"] and "+rocm" not in versions["torch"]
    on_cpu = env.get("DS_ACCELERATOR") == "cpu"
    if is_cuda and not on_cpu and tools.cuda_home is None:
        yield found(
            "PF509",
            f"DeepSpeed compiles {operator} when the engine is made, and finds no CUDA toolkit",
            "$CUDA_HOME",
            "module load cuda, or CUDA_HOME=the toolkit's folder, of the CUDA version that torch was built with",
        )
    elif find_program(env.get("CXX", "c++"), env.get("PATH", "")) is None:
        yield found(
            "PF509",
            f"DeepSpeed compiles {operator} when the engine is made, and there is no"
            f" {env.get('CXX', 'c++')} on PATH",
            "$PATH",
            "install a C++ compiler, or name it in CXX",
        )


def _is_prebuilt(operator: str, folders: tuple[str, ...]) -> bool:
    """Tell whether DeepSpeed was installed with the operator built (DS_BUILD_CPU_ADAM=1)."""
    for folder in folders:
        names = entries_of(os.path.join(folder, "deepspeed", "ops", "adam"))
        if any(name.startswith(f"{operator}_op") and name.endswith(".so") for name in names):
            return True
    return False
