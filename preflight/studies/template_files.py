"""The files of templates/: their names, what each is, and how values and reasons are put into their lines."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.formats.edits import yaml_text
from preflight.near_names import nearest_fix
from preflight.values import NamedTuple

TEMPLATES: dict[str, tuple[str, str]] = {
    "accelerate/single.yaml": ("accelerate.yaml", "accelerate: one GPU"),
    "accelerate/ddp.yaml": ("accelerate.yaml", "accelerate: every rank the whole model"),
    "accelerate/fsdp2.yaml": ("accelerate.yaml", "accelerate: FSDP2, everything sharded"),
    "accelerate/fsdp2-qlora.yaml": ("accelerate.yaml", "accelerate: FSDP2 over 4-bit weights"),
    "accelerate/hsdp.yaml": ("accelerate.yaml", "accelerate: sharded in a node, copied over nodes"),
    "accelerate/context-parallel.yaml": (
        "accelerate.yaml",
        "accelerate: FSDP2 with sequences split over ranks",
    ),
    "accelerate/zero2.yaml": ("accelerate.yaml", "accelerate: DeepSpeed ZeRO-2"),
    "accelerate/zero3.yaml": ("accelerate.yaml", "accelerate: DeepSpeed ZeRO-3"),
    "deepspeed/zero2.json": ("zero2.json", "DeepSpeed's own file for the Trainer: ZeRO-2"),
    "deepspeed/zero3.json": ("zero3.json", "DeepSpeed's own file for the Trainer: ZeRO-3"),
    "training/train.py": ("train.py", "a training script: TRL's SFTTrainer"),
    "training/full.yaml": ("training.yaml", "its arguments: full fine-tuning"),
    "training/lora.yaml": ("training.yaml", "its arguments: LoRA"),
    "training/qlora.yaml": ("training.yaml", "its arguments: QLoRA"),
    "training/launch.sh": ("launch.sh", "the launch on one node, guarded"),
    "slurm/one-node.sbatch": ("job.sbatch", "a Slurm job on one node, guarded"),
    "slurm/accelerate.sbatch": ("job.sbatch", "a Slurm job on several nodes: accelerate"),
    "slurm/torchrun.sbatch": ("job.sbatch", "a Slurm job on several nodes: torchrun, DeepSpeed"),
    "kubernetes/job.yaml": ("job.yaml", "a Kubernetes Job, the check in an init container"),
    "skypilot/task.yaml": ("task.yaml", "a SkyPilot task, the check first in its setup"),
    "github/preflight.yml": (
        ".github/workflows/preflight.yml",
        "GitHub: launches that a pull request concerns",
    ),
    "pre-commit/pre-commit-config.yaml": (
        ".pre-commit-config.yaml",
        "pre-commit: launches that a commit concerns",
    ),
    "plugins/memory_rule.py": ("preflight_hooks.py", "a plugin: bytes that only you know of"),
    "plugins/check.py": ("preflight_hooks.py", "a plugin: a rule that launches must keep"),
    "plugins/remedy.py": ("preflight_hooks.py", "a plugin: a change that may make a launch fit"),
    "plugins/reader.py": ("preflight_hooks.py", "a plugin: a launcher of your own"),
    "plugins/package/pyproject.toml": ("pyproject.toml", "plugins as a package: its metadata"),
    "plugins/package/our_preflight_rules.py": (
        "our_preflight_rules.py",
        "plugins as a package: its module",
    ),
}
"""Template -> the name under which it is copied, and one line about it. The site's Slurm guard is not among them:
`preflight slurm install` writes it."""


class Filled(NamedTuple):
    """What a line of a template becomes."""

    value: Any
    reason: str = ""
    """Its comment; empty keeps the template's."""


def template_text(name: str) -> str:
    """Return the text of a template; raise BadInput where there is none of that name."""
    if name not in TEMPLATES:
        fix = nearest_fix(name, tuple(TEMPLATES)) or "`preflight init --list` lists them"
        raise BadInput.one(f"there is no template {name!r}", "--template", fix)
    folder = importlib.import_module("preflight.templates").__path__[0]
    with open(os.path.join(folder, *name.split("/")), encoding="utf-8") as file:
        return file.read()


def filled(text: str, values: Mapping[str, Filled]) -> str:
    """Return a YAML template with the values of some keys and their reasons in place of its own."""
    for key, (value, reason) in values.items():
        line = re.compile(rf"^( *{re.escape(key)}:) [^#\n]*?( *#[^\n]*)?$", re.MULTILINE)
        assert len(line.findall(text)) == 1, f"{key} does not stand once in the template"

        def put(found: re.Match[str], value: Any = value, reason: str = reason) -> str:
            comment = f"  # {reason}" if reason else found[2] or ""
            return f"{found[1]} {yaml_text(value)}{comment}"

        text = line.sub(put, text)
    return text
