"""PF137: an optimizer on the CPU with one thread per rank, because nobody set OMP_NUM_THREADS.

torchrun sets it to 1 for more than one rank on a node (torch/distributed/run.py:872, 2.13), accelerate
to `--num_cpu_threads_per_process`, 1 by default (accelerate/commands/launch.py:1365, 1.15).
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of

FLAGS = ("--num_cpu_threads_per_process", "--num-cpu-threads-per-process")


@hookimpl
def preflight_findings(plan: LaunchPlan) -> Iterable[Finding]:
    """Look for offloaded optimizer states behind a launcher that gives each rank one thread."""
    steps_on_cpu = plan.offload_optimizer == "cpu" or (
        plan.is_fsdp and plan.offload_params == "cpu"
    )
    if not steps_on_cpu or plan.ranks_per_node == 1:
        return
    command = plan.command
    if command is None or not launcher_of(plan).gives_one_thread:
        return
    if "OMP_NUM_THREADS" in command.env:
        return
    words = command.argv[: plan.script_facts.index]
    if any(word.partition("=")[0] in FLAGS for word in words):
        return
    where = "offload_optimizer" if plan.offload_optimizer == "cpu" else "offload_params"
    origin = plan.origins.get(where)
    yield found(
        "PF137",
        f"the optimizer steps on the CPU, and {plan.launcher} gives each of {plan.ranks_per_node} ranks"
        " one thread",
        origin.where if origin else "",
        f"OMP_NUM_THREADS=the CPUs of a node divided by {plan.ranks_per_node}",
    )
