"""A dstack task: its `commands` in one shell on every node, with the GPUs of `resources.gpu`.

Source: dstack 0.22.5, core/models/configurations.py (TaskConfiguration) and core/models/resources.py (GPUSpec.parse);
the variables are those of its page on distributed tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from preflight.devices.cloud_names import bounded, card_of_any, count_of, named_and_counted
from preflight.envelopes.contract import Job, Part
from preflight.envelopes.texts import Sheet, shell_text, variables

KINDS = ("task", "dev-environment", "service")


def dstack_parts(sheet: Sheet) -> Iterator[Part]:
    """Yield what a task's commands run, one text per entry; nothing for a file of another kind."""
    task = sheet.document.value
    commands = task.get("commands")
    if task.get("type") not in KINDS or not isinstance(commands, list):
        return
    job = _job(sheet, task)
    env = {**variables(task.get("env")), **job.variables}
    blocks = []
    for index, text in enumerate(commands):
        blocks += list(shell_text(sheet, ("commands", index), text, env))
    # One shell gets them all: what an entry exports, or changes to, holds for the next.
    line, whole = 0, ""
    for block in blocks:
        line = line or block.line
        gap = block.line - line - whole.count("\n")
        whole += "\n" * max(0, gap) + block.text.rstrip("\n") + "\n"
    if blocks:
        yield Part(replace(blocks[0], text=whole), job)


def _job(sheet: Sheet, task: Mapping[str, object]) -> Job:
    resources = task.get("resources")
    asked = resources.get("gpu") if isinstance(resources, Mapping) else None
    device, gpus = None, None
    if isinstance(asked, (str, int)):
        names = [word for word in str(asked).split(":") if "," in word]
        device, gpus = named_and_counted(str(asked))
        if names:
            device = card_of_any(names[0].split(","))
    elif isinstance(asked, Mapping):
        name = asked.get("name")
        words = name if isinstance(name, list) else [name] if name else []
        memory = str(asked.get("memory", ""))
        words = [f"{word}:{memory}" if memory.isalnum() else str(word) for word in words]
        cards = {named_and_counted(word)[0] for word in words}
        device = cards.pop() if len(cards) == 1 else None
        gpus = bounded(count_of(asked.get("count", 1)))
    num_nodes = count_of(task.get("nodes", 1)) or 1
    env = {"DSTACK_NODES_NUM": str(num_nodes), "DSTACK_NODE_RANK": "0", "DSTACK_MASTER_NODE_IP": "10.0.0.1"}  # fmt: skip
    if gpus is not None:
        env["DSTACK_GPUS_PER_NODE"] = str(gpus)
        env["DSTACK_GPUS_NUM"] = str(gpus * num_nodes)
    keys = ("resources", "gpu") if asked is not None else ("commands",)
    return Job("dstack task", sheet.where(*keys), num_nodes, gpus, device, env)
