"""Manifests of Kubernetes: whatever has containers (Pod, Job, JobSet, PyTorchJob, MPIJob, an Argo workflow), TrainJob and RayJob.

Sources: core/v1 Container; training-operator 1.9 (pkg/controller.v1/pytorch/envvar.go: PET_NNODES, PET_NPROC_PER_NODE,
MASTER_ADDR, WORLD_SIZE); Kubeflow Trainer 2.1 (pkg/constants/constants.go, TrainJob.spec.trainer); KubeRay 1.4
(RayJob.spec.entrypoint).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from preflight.devices.cloud_names import bounded, card_of_any, count_of
from preflight.envelopes.contract import Job, Part
from preflight.envelopes.texts import Sheet, shell_text, variables, words_as_text
from preflight.shell.starters.program_names import program_name
from preflight.shell.starters.wrapper_options import SHELLS

GPUS = ("nvidia.com/gpu", "amd.com/gpu", "gpu")
CARDS = (
    "nvidia.com/gpu.product",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "gpu.nvidia.com/class",
    "gpu.nvidia.com/model",
    "skypilot.co/accelerator",
    "k8s.amazonaws.com/accelerator",
)
"""Labels of a node that name its card."""
MASTER = "10.0.0.1"
_DEEPEST = 24
Path = tuple[str | int, ...]


def kubernetes_parts(sheet: Sheet) -> Iterator[Part]:
    """Yield what the containers of a manifest start; nothing for a file of another kind."""
    manifest = sheet.document.value
    kind = manifest.get("kind")
    if not isinstance(kind, str) or "apiVersion" not in manifest:
        return
    spec = manifest.get("spec")
    if not isinstance(spec, Mapping):
        return
    if kind == "TrainJob":
        yield from _train_job(sheet, spec)
    if kind in ("RayJob", "RayCluster"):
        for block in shell_text(sheet, ("spec", "entrypoint"), spec.get("entrypoint"), {}):
            yield Part(block, Job(kind))
    for keys, container, pod in _containers(("spec",), spec, {}):
        yield from _container(sheet, kind, spec, keys, container, pod)


def _containers(
    keys: Path, value: object, pod: Mapping[str, object]
) -> Iterator[tuple[Path, Mapping[str, object], Mapping[str, object]]]:
    """Yield every container below a value, with its place and the pod that it is in."""
    if len(keys) > _DEEPEST:
        return
    if isinstance(value, Mapping):
        if "image" in value and {"command", "args"} & set(value):
            yield keys, value, pod
            return
        pod = value if "containers" in value or "container" in value else pod
        for key, inner in value.items():
            yield from _containers((*keys, str(key)), inner, pod)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _containers((*keys, index), inner, pod)


def _container(
    sheet: Sheet,
    kind: str,
    spec: Mapping[str, object],
    keys: Path,
    container: Mapping[str, object],
    pod: Mapping[str, object],
) -> Iterator[Part]:
    gpus, at = _gpus(container.get("resources"), (*keys, "resources"))
    where = sheet.where(*(at if gpus is not None else keys))
    job = Job(kind, where, None, gpus, _card(pod))
    replicas = spec.get("pytorchReplicaSpecs")
    if isinstance(replicas, Mapping):
        nodes = sum(_replicas(each) for each in replicas.values())
        per_node = spec.get("nprocPerNode")
        job = _elastic(replace(job, num_nodes=nodes), per_node if per_node else None)
        role = next((key for key in keys if key in replicas), "")
        if role == "Worker" and "Master" in replicas:
            job = replace(job, env={**job.env, "PET_NODE_RANK": "1", "RANK": "1"})
    env = {**variables(container.get("env")), **job.variables}
    named = [((*keys, name), container[name]) for name in ("command", "args") if name in container]
    command = container.get("command")
    if isinstance(command, list) and command and "source" in container:  # a script of Argo's
        is_shell = program_name(str(command[0])) in SHELLS
        source = container["source"] if is_shell else None
        for block in shell_text(sheet, (*keys, "source"), source, env):
            yield Part(block, job)
        return
    for block in words_as_text(sheet, named, env):
        yield Part(block, job)


def _replicas(value: object) -> int:
    return (count_of(value.get("replicas", 1)) or 1) if isinstance(value, Mapping) else 1


def _elastic(job: Job, per_node: object) -> Job:
    """Return a job whose containers are told of each other in torchrun's variables."""
    env = {
        "PET_NNODES": str(job.num_nodes),
        "PET_NODE_RANK": "0",
        "PET_MASTER_ADDR": MASTER,
        "MASTER_ADDR": MASTER,
        "RANK": "0",
        "WORLD_SIZE": str(job.num_nodes),
    }
    ranks = str(per_node) if per_node is not None else str(job.gpus_per_node or "")
    if ranks:
        env["PET_NPROC_PER_NODE"] = ranks
    return replace(job, env=env)


def _train_job(sheet: Sheet, spec: Mapping[str, object]) -> Iterator[Part]:
    trainer = spec.get("trainer")
    if not isinstance(trainer, Mapping):
        return
    keys: Path = ("spec", "trainer")
    gpus, at = _gpus(trainer.get("resourcesPerNode"), (*keys, "resourcesPerNode"))
    nodes = count_of(trainer.get("numNodes", 1))
    where = sheet.where(*(at if gpus is not None else keys))
    job = _elastic(Job("TrainJob", where, nodes or 1, gpus), trainer.get("numProcPerNode"))
    env = {**variables(trainer.get("env")), **job.variables}
    if "image" in trainer:
        return  # read with all other containers
    named = [((*keys, name), trainer[name]) for name in ("command", "args") if name in trainer]
    for block in words_as_text(sheet, named, env):
        yield Part(block, job)


def _gpus(resources: object, keys: Path) -> tuple[int | None, Path]:
    """Return the GPUs that a container may have, and where that stands."""
    for name in ("limits", "requests"):
        asked = resources.get(name) if isinstance(resources, Mapping) else None
        for key in GPUS:
            if isinstance(asked, Mapping) and key in asked:
                return bounded(count_of(asked[key])), (*keys, name, key)
    return None, keys


def _card(pod: Mapping[str, object]) -> str | None:
    """Return the card that a pod is bound to by labels of its node; None where it may get any."""
    selector = pod.get("nodeSelector")
    named = [
        str(selector[key]) for key in CARDS if isinstance(selector, Mapping) and key in selector
    ]
    if named:
        return card_of_any(named)
    return card_of_any(_wanted(pod.get("affinity"))) if "affinity" in pod else None


def _wanted(value: object) -> list[str]:
    """Return the values of such labels that an affinity requires."""
    if isinstance(value, list):
        return [word for item in value for word in _wanted(item)]
    if not isinstance(value, Mapping):
        return []
    if value.get("key") in CARDS and value.get("operator") == "In":
        values = value.get("values")
        return [str(word) for word in values] if isinstance(values, list) else []
    return [
        word
        for key, inner in value.items()
        if not str(key).startswith("preferred")
        for word in _wanted(inner)
    ]
