"""The variables that Slurm sets for a job's script, as far as its options and the nodes that it may get say.

Source: sbatch(1) of Slurm 24.11, OUTPUT ENVIRONMENT VARIABLES, and what jobs of the tests' cluster print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.shell.starters.variables import numbered
from preflight.slurm.array_tasks import array_tasks
from preflight.slurm.hostlist import MOST_DIGITS, MOST_NAMES, host_list
from preflight.slurm.nodes import Candidates
from preflight.slurm.options import SubmitOptions
from preflight.values import dataclass

JOB_ID = "1000000"
MOST_GPUS = 1024
"""Of a node, in what a script is told of them."""
"""A job has its number only when it is submitted."""
_OF_SUBMISSION = ("SBATCH_", "SALLOC_", "SLURM_")


@dataclass(frozen=True)
class JobPlace:
    """Where a job is taken to run, and the GPUs that it has on each node."""

    nodes: tuple[str, ...]
    num_gpus: int
    """On a node."""
    num_cpus: int


def place_of(options: SubmitOptions, found: Candidates | None) -> JobPlace:
    """Return nodes that a job may well get: candidates by name, made-up ones where too few are known."""
    groups = found.groups if found is not None else ()
    nodes = [node for group in groups for node in group.nodes]
    if not nodes and found is not None:
        nodes = list(found.nodes)
    num_nodes = min(options.num_nodes, MOST_NAMES)
    names = sorted(dict.fromkeys(node.name for node in nodes))[:num_nodes]
    names += [f"node-{number}" for number in range(len(names) + 1, num_nodes + 1)]
    num_gpus = options.num_gpus_per_node
    if num_gpus is None:
        num_gpus = min((group.num_gpus_per_node for group in groups), default=0)
    cpus = next((node.num_cpus for node in nodes if node.num_cpus), 1)
    if not options.exclusive:
        per_node = options.ntasks_per_node or -(-options.num_tasks // options.num_nodes)
        cpus = min(cpus, (options.cpus_per_task or 1) * per_node)
    return JobPlace(tuple(names), num_gpus, cpus)


def job_environment(
    options: SubmitOptions,
    place: JobPlace,
    env: Mapping[str, str],
    cwd: str,
    name: str = "job",
    task: int | None = None,
) -> dict[str, str]:
    """Return the environment of a job's script on its first node; of an array, that of a task, or of the first."""
    job = exported(options, env)
    num_nodes = str(options.num_nodes)
    gpus = numbered(min(place.num_gpus, MOST_GPUS))
    per_node = options.ntasks_per_node or -(-options.num_tasks // options.num_nodes)
    values: dict[str, object] = {
        "SLURM_JOB_ID": JOB_ID,
        "SLURM_JOBID": JOB_ID,
        "SLURM_JOB_NAME": options.job_name or name,
        "SLURM_JOB_NODELIST": host_list(place.nodes),
        "SLURM_NODELIST": host_list(place.nodes),
        "SLURM_JOB_NUM_NODES": num_nodes,
        "SLURM_NNODES": num_nodes,
        "SLURM_TASKS_PER_NODE": f"{per_node}(x{num_nodes})" if options.num_nodes > 1 else per_node,
        "SLURM_SUBMIT_DIR": cwd,
        "SLURM_SUBMIT_HOST": "localhost",
        "SLURM_CLUSTER_NAME": "cluster",
        "SLURM_JOB_USER": env.get("USER", "user"),
        "SLURM_JOB_PARTITION": options.partitions[0] if options.partitions else "",
        "SLURM_CPUS_ON_NODE": place.num_cpus,
        "SLURM_JOB_CPUS_PER_NODE": place.num_cpus,
        "SLURMD_NODENAME": place.nodes[0] if place.nodes else "node-1",
        "SLURM_NODEID": 0,
        "SLURM_PROCID": 0,
        "SLURM_LOCALID": 0,
        "SLURM_GTIDS": 0,
        "ENVIRONMENT": "BATCH",
    }
    if options.ntasks is not None or options.ntasks_per_node is not None:
        values["SLURM_NTASKS"] = values["SLURM_NPROCS"] = options.num_tasks
    if options.ntasks_per_node is not None:
        values["SLURM_NTASKS_PER_NODE"] = options.ntasks_per_node
    if options.cpus_per_task is not None:
        values["SLURM_CPUS_PER_TASK"] = options.cpus_per_task
    if options.mem_bytes is not None:
        values["SLURM_MEM_PER_NODE"] = options.mem_bytes >> 20
    if place.num_gpus:
        values["SLURM_GPUS_ON_NODE"] = place.num_gpus
        values["SLURM_JOB_GPUS"] = values["CUDA_VISIBLE_DEVICES"] = gpus
    for field in ("gpus", "gpus_per_node", "gpus_per_task"):
        asked = getattr(options, field)
        if asked and not (field == "gpus_per_node" and options.gres):
            words = ",".join(f"{gpu.type}:{gpu.count}" if gpu.type else f"{gpu.count}" for gpu in asked)  # fmt: skip
            values[f"SLURM_{field.upper()}"] = words
    if options.array:
        tasks = array_tasks(options.array) or (0,)
        values["SLURM_ARRAY_JOB_ID"] = JOB_ID
        values["SLURM_ARRAY_TASK_ID"] = tasks[0] if task is None else task
        values["SLURM_ARRAY_TASK_COUNT"] = len(tasks)
        values["SLURM_ARRAY_TASK_MIN"], values["SLURM_ARRAY_TASK_MAX"] = min(tasks), max(tasks)
    if options.het:
        values["SLURM_HET_SIZE"] = len(options.components)
        for number, _ in enumerate(options.components):
            values[f"SLURM_JOB_NODELIST_HET_GROUP_{number}"] = host_list(place.nodes)
    return {**job, **{key: str(value) for key, value in values.items()}}


def exported(options: SubmitOptions, env: Mapping[str, str]) -> dict[str, str]:
    """Return what of the submitter's environment reaches the job: `--export` says."""
    own = {key: value for key, value in env.items() if not key.startswith(_OF_SUBMISSION)}
    if options.export is None or options.export == "ALL":
        return own
    kept: dict[str, str] = {}
    items = options.export.split(",")
    if "ALL" in items:
        kept.update(own)
    else:
        kept.update({key: own[key] for key in ("HOME", "USER", "LOGNAME", "PATH") if key in own})
    for item in items:
        key, equals, value = item.partition("=")
        if equals:
            kept[key] = value
        elif key in own:
            kept[key] = own[key]
    return kept


def components_of(through: Sequence[str], num_components: int) -> tuple[int, ...]:
    """Return which components of a heterogeneous job an srun line is for: `--het-group=0,1`."""
    found: list[int] = []
    for index, word in enumerate(through):
        name, equals, value = word.partition("=")
        if name in ("--het-group", "--pack-group"):
            text = value if equals else "".join(through[index + 1 : index + 2])
            for item in text.split(","):
                low, _, high = item.partition("-")
                if low.isdecimal() and (high or low).isdecimal() and len(item) <= MOST_DIGITS:
                    found += range(int(low), min(int(high or low) + 1, num_components))
    return tuple(number for number in found if number < num_components) or (0,)
