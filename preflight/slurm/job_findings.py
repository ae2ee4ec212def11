"""What a Slurm job and the launch inside it do not agree on: host memory, GPUs, tasks and nodes.

PF119 and PF501 as they are told on a node, and PF522 to PF524, which only a job has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from preflight.finding import Finding
from preflight.findings import found
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.memory import MemoryEstimate
from preflight.node.checks.memory import compared
from preflight.slurm.host_memory import memory_on
from preflight.slurm.inventory import Inventory, Partition, default_memory
from preflight.slurm.nodes import Candidates
from preflight.slurm.options import SubmitOptions, submit_options
from preflight.units import ceil_div


def job_findings(
    plan: LaunchPlan,
    estimate: MemoryEstimate | None,
    options: SubmitOptions,
    candidates: Candidates,
    inventory: Inventory,
    through: tuple[str, ...] = (),
    cluster: Callable[[], Partition] = default_memory,
) -> Iterator[Finding]:
    """Compare a launch with the component of the job that it runs in.

    `through` holds the words in front of the launch, `srun --nodes=2`, where the plan does not know them.
    """
    step = step_of(plan, options, through)
    yield from _nodes(plan, options, step)
    yield from _tasks(plan, options, step)
    yield from _gpus(plan, options, step, candidates)
    if estimate is not None and estimate.host_peak_bytes_per_node:
        yield from _host_memory(plan, estimate, options, candidates, inventory, cluster)


def step_of(
    plan: LaunchPlan, options: SubmitOptions, through: tuple[str, ...] = ()
) -> SubmitOptions | None:
    """Return the options of the srun that starts a launch, the job's where it gives none; None without srun."""
    words: tuple[str, ...] | None = None
    for layer in plan.wrapping:
        if layer.kind == "srun":
            words = layer.command.argv[1 : layer.start]
    if words is None and "srun" in through:
        words = through[through.index("srun") + 1 :]
    if words is None:
        return None
    # What sbatch exports for its steps: SLURM_NTASKS, SLURM_NNODES and the like.
    env = {}
    if options.ntasks is not None or options.ntasks_per_node is not None:
        env["SLURM_NTASKS"] = str(options.num_tasks)
    if options.ntasks_per_node is not None:
        env["SLURM_NTASKS_PER_NODE"] = str(options.ntasks_per_node)
    env["SLURM_NNODES"] = str(options.num_nodes)
    return submit_options(words, env, program="srun")


def _tasks_per_node(step: SubmitOptions) -> int:
    """Return the tasks that a step starts on a node; without any option, one on each."""
    if step.ntasks_per_node is not None and "ntasks_per_node" in step.origins:
        given_here = not step.origins["ntasks_per_node"].startswith("SLURM_")
        if given_here or step.ntasks is None or step.origins["ntasks"].startswith("SLURM_"):
            return step.ntasks_per_node
    if step.ntasks is None:
        return 1
    return max(1, ceil_div(step.ntasks, step.num_nodes))


def _nodes(
    plan: LaunchPlan, options: SubmitOptions, step: SubmitOptions | None
) -> Iterator[Finding]:
    if launcher_of(plan).reaches_other_nodes or options.min_nodes is None:
        return
    there = options.num_nodes if step is None else step.num_nodes
    if plan.num_nodes > there:
        said_by = options.origins.get("min_nodes", "")
        if step is not None and not step.origins["min_nodes"].startswith("SLURM_"):
            said_by = step.origins["min_nodes"]
        yield found(
            "PF523",
            f"the launch is for {plan.num_nodes} nodes, and {said_by or 'the job'} gives it {there}",
            _origin(plan, "num_nodes"),
            f"{plan.num_nodes} nodes for the job, or {there} for the launch",
        )
    elif plan.num_nodes < options.num_nodes and options.wants_gpus:
        yield found(
            "PF522",
            f"the launch uses {plan.num_nodes} of the {options.num_nodes} nodes of the job",
            options.origins.get("min_nodes", ""),
            f"--nodes={plan.num_nodes}, or a launch for {options.num_nodes} nodes",
        )


def _tasks(
    plan: LaunchPlan, options: SubmitOptions, step: SubmitOptions | None
) -> Iterator[Finding]:
    if step is None or plan.launcher in (None, "python") or plan.ranks_per_node < 2:
        return
    tasks = _tasks_per_node(step)
    if tasks > 1:
        where = step.origins.get("ntasks_per_node") or step.origins.get("ntasks", "")
        own = [options.origins.get(name, "") for name in ("ntasks_per_node", "ntasks")]
        if where.startswith("SLURM_"):
            where = next((place for place in own if place), where)
        yield found(
            "PF524",
            f"srun starts {plan.launcher} in {tasks} tasks on a node, and each makes {plan.ranks_per_node} ranks",
            where,
            "srun --ntasks-per-node=1",
        )


def _gpus(
    plan: LaunchPlan, options: SubmitOptions, step: SubmitOptions | None, candidates: Candidates
) -> Iterator[Finding]:
    per_task = sum(gpu.count for gpu in options.gpus_per_task)
    if step is not None and per_task and plan.launcher not in (None, "python"):
        there, said_by = per_task, options.origins.get("gpus_per_task", "")
    elif options.num_gpus_per_node is not None and not (options.gpus and not options.min_nodes):
        there = options.num_gpus_per_node
        fields = ("gpus_per_node", "gres", "gpus_per_task", "gpus")
        said_by = next((options.origins[f] for f in fields if f in options.origins), "")
    elif options.exclusive and candidates.groups:
        there = max(group.num_gpus_per_node for group in candidates.groups)
        said_by = options.origins.get("exclusive", "--exclusive")
    else:
        return
    ranks = plan.ranks_per_node
    if plan.launcher in (None, "python") and step is not None:
        ranks = _tasks_per_node(step)
    if ranks > there:
        yield found(
            "PF119",
            f"{ranks} {_ranks(ranks)} on a node on which the job has {there} GPUs"
            + (f" ({said_by})" if said_by else ""),
            _origin(plan, "world_size"),
            f"{ranks} GPUs for a node, or {there} ranks and more gradient accumulation",
        )
    elif ranks < there and not (options.exclusive and not options.requested_gpus):
        yield found(
            "PF522",
            f"the launch starts {ranks} {_ranks(ranks)} on a node on which the job has {there} GPUs",
            said_by,
            f"{there} ranks on a node, or {ranks} GPUs in the request",
        )


def _host_memory(
    plan: LaunchPlan,
    estimate: MemoryEstimate,
    options: SubmitOptions,
    candidates: Candidates,
    inventory: Inventory,
    cluster: Callable[[], Partition],
) -> Iterator[Finding]:
    limits = []
    alike = set()
    once = lru_cache(maxsize=1)(cluster)
    for group in candidates.groups:
        for node in group.nodes:
            kind = (group.num_gpus_per_node, node.memory_bytes, node.num_cpus, node.partitions)
            if kind in alike:
                continue
            alike.add(kind)
            limit = memory_on(options, node, group.num_gpus_per_node, inventory, once)
            if limit is not None:
                limits.append(limit)
    # A job may land on the largest of its nodes: only what is short there is short.
    largest = max(limits, key=lambda limit: limit.num_bytes, default=None)
    if largest is None or estimate.host_peak_bytes_per_node <= largest.num_bytes:
        return
    if once().limits_memory:
        yield from compared(plan, estimate, largest)


def _origin(plan: LaunchPlan, field: str) -> str:
    origin = plan.origins.get(field) or plan.origins.get("world_size")
    return origin.where if origin else ""


def _ranks(count: int) -> str:
    return "rank" if count == 1 else "ranks"
