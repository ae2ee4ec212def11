"""A SkyPilot task: `run:` on every node, with the GPUs of `resources.accelerators`.

Source: SkyPilot 0.14.1, sky/utils/schemas.py (get_task_schema), sky/skylet/constants.py (variables), and
sky/resources.py (_set_accelerators): a mapping or a list of accelerators is a choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from preflight.devices.cloud_names import count_of, named_and_counted
from preflight.envelopes.contract import Job, Part
from preflight.envelopes.texts import Sheet, shell_text, variables

OPTIONS: Mapping[str, str] = {"--num-nodes": "num_nodes", "--gpus": "accelerators"}
"""Options of `sky launch` and its kin that stand for a key (sky/client/cli/command.py, 0.14.1)."""


def sky_parts(sheet: Sheet) -> Iterator[Part]:
    """Yield what a task runs; nothing for a file of another kind."""
    task = sheet.document.value
    if not {"run", "resources"} <= set(task) or not isinstance(task.get("resources"), Mapping):
        return
    job = _job(sheet, task)
    env = {**variables(task.get("envs")), **job.variables}
    for key in ("setup", "run"):
        for block in shell_text(sheet, (key,), task.get(key), env):
            yield Part(block, job)


def _job(sheet: Sheet, task: Mapping[str, object]) -> Job:
    resources = task["resources"]
    assert isinstance(resources, Mapping)
    written = task.get("num_nodes", resources.get("num_nodes", 1))
    num_nodes = count_of(sheet.said.get("num_nodes", written)) or 1
    said = sheet.said.get("accelerators")
    asked = [said] if said is not None else _asked(resources)
    cards = [named_and_counted(word) for value in asked for word in _accelerators(value)]
    counts = {count for _, count in cards}
    devices = {card for card, _ in cards}
    gpus = counts.pop() if len(counts) == 1 else None
    device = devices.pop() if len(devices) == 1 else None
    keys = ("resources", "accelerators") if "accelerators" in resources else ("resources",)
    ips = "\n".join(f"10.0.0.{number}" for number in range(1, min(num_nodes, 250) + 1))
    env = {
        "SKYPILOT_NUM_NODES": str(num_nodes),
        "SKYPILOT_NODE_RANK": "0",
        "SKYPILOT_NODE_IPS": ips,
    }
    if gpus is not None:
        env["SKYPILOT_NUM_GPUS_PER_NODE"] = str(gpus)
    where = "--gpus" if "accelerators" in sheet.said else sheet.where(*keys)
    return Job("SkyPilot task", where, num_nodes, gpus, device, env)


def _asked(resources: Mapping[str, object]) -> list[object]:
    """Return the accelerators of every set of resources that may do; nothing where one of them has none."""
    own = resources.get("accelerators")
    sets = [resources[key] for key in ("any_of", "ordered") if key in resources]
    choices = sets[0] if sets and isinstance(sets[0], list) else [{}]
    asked = [one.get("accelerators", own) for one in choices if isinstance(one, Mapping)]
    return [] if None in asked else asked


def _accelerators(value: object) -> list[str]:
    """Return the choices of accelerators, each as `NAME:COUNT`."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [f"{name}:{1 if count is None else count}" for name, count in value.items()]
    return [str(item) for item in value] if isinstance(value, (list, tuple, set)) else []
