"""PF502, PF503, PF521: whether checkpoints can be written where they are to go, how many fit, and on which nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.checkpoint_bytes import checkpoint_bytes
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.node.limits import file_system_at, space_at
from preflight.plan_choices import HF_TRAINERS
from preflight.units import format_gib

OF_ONE_NODE = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "ramfs", "zfs", "overlay")
"""File systems of this node alone; one on a network block device is still mounted by one node."""


def findings(plan: LaunchPlan, model: ModelSpec | None, root: str = "/") -> Iterator[Finding]:
    """Look at the folder of the checkpoints of transformers' or TRL's trainer."""
    output = plan.trainer_facts.get("output_dir")
    if plan.trainer not in HF_TRAINERS or output is None or not isinstance(output.value, str):
        return
    where, folder = output.place.where, plan.resolve(output.value)
    reason = why_not_writable(folder)
    if reason:
        yield found(
            "PF503",
            f"{output.value} cannot be written: {reason}",
            where,
            "another --output_dir, or the rights to this one",
        )
        return
    if str(plan.trainer_facts.value("save_strategy", "steps")) == "no":
        return
    if model is not None:
        yield from _room(plan, model, folder, where)
    if plan.num_nodes > 1 and plan.trainer_facts.value("save_on_each_node") is not True:
        kind = file_system_at(folder, root)
        if kind in OF_ONE_NODE:
            yield found(
                "PF521",
                f"{output.value} is on a disk of this node ({kind}): every node has its own",
                where,
                "an --output_dir that all nodes share, or --save_on_each_node true",
            )


def why_not_writable(folder: str) -> str:
    """Return why a folder cannot be made or written into; empty where it can."""
    while not os.path.lexists(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return f"{folder} is not a folder"
    try:
        read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if read_only:
        return f"the file system of {folder} is read-only"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"no permission to write into {folder}"
    return ""


def _room(plan: LaunchPlan, model: ModelSpec, folder: str, where: str) -> Iterator[Finding]:
    space = space_at(folder)
    each = checkpoint_bytes(plan, model, plan.trainer_facts.value("save_only_model") is True)
    if space is None or not each.total:
        return
    fit = space.free_bytes // each.total
    wanted, why = _num_kept(plan)
    if fit >= max(wanted, 1):
        return
    yield found(
        "PF502",
        f"a checkpoint takes {format_gib(each.total)}, {space.path} has"
        f" {format_gib(space.free_bytes)} free: "
        + (f"{fit} fit, and {why}" if fit else "not one fits"),
        where,
        "--save_only_model true keeps no optimizer states, --save_total_limit N keeps the last N;"
        " or another --output_dir",
        severity="error" if fit == 0 else "warning",
    )


def _num_kept(plan: LaunchPlan) -> tuple[int, str]:
    """Return how many checkpoints lie there at once, as far as the arguments tell, and why."""
    trainer = plan.trainer_facts
    limit = trainer.value("save_total_limit")
    steps, every = trainer.value("max_steps", -1), trainer.value("save_steps", 500)
    by_steps = str(trainer.value("save_strategy", "steps")) == "steps"
    written = None  # by epochs, or by the length of a data set that is not read here
    if by_steps and isinstance(steps, int) and isinstance(every, int) and steps > 0 < every:
        written = max(1, -(-steps // every))
    # The oldest goes when the new one is written whole (rotate_checkpoints, transformers 5.24).
    if isinstance(limit, int) and limit > 0 and (written is None or limit + 1 <= written):
        return limit + 1, f"--save_total_limit {limit} has {limit + 1} at once"
    return written or 1, f"{written or 1} will be written"
