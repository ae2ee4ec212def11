"""The option that keeps a job away from candidates on which it does not fit."""

from __future__ import annotations

from collections.abc import Sequence

from preflight.slurm.gpu_memory import label_of_feature
from preflight.slurm.hostlist import host_list
from preflight.slurm.inventory import Node
from preflight.slurm.nodes import Fit, Judged
from preflight.slurm.options import SubmitOptions


def narrowing_option(judged: Judged, options: SubmitOptions) -> str | None:
    """Return an option that leaves only candidates on which a launch fits; None where none does, or all do.

    A feature, the type of the GPUs, a partition, and where nothing else tells the nodes apart, their names.
    """
    good = {node.name: node for group in judged.groups(Fit.FITS, Fit.MAYBE) for node in group.nodes}
    bad = {node.name: node for group in judged.groups(Fit.DOES_NOT_FIT) for node in group.nodes}
    if not good or not bad:
        return None
    types = {group.type for group in judged.groups(Fit.FITS, Fit.MAYBE)}
    bad_types = {group.type for group in judged.groups(Fit.DOES_NOT_FIT)}
    if len(types) == 1 and not types & bad_types and "" not in types:
        typed = _with_type(options, next(iter(types)))
        if typed is not None:
            return typed
    # A node with GPUs of both kinds is told apart by their type alone.
    mixed = good.keys() & bad.keys()
    if mixed:
        return (
            f"--exclude={_joined(options.exclude, host_list(bad))}" if good.keys() - mixed else None
        )
    feature = _feature(tuple(good.values()), tuple(bad.values()))
    if feature is not None:
        old = options.constraint
        return f"--constraint={feature}" if not old else f"--constraint='({old})&{feature}'"
    partition = _partition(tuple(good.values()), tuple(bad.values()))
    if partition is not None:
        return f"--partition={partition}"
    return f"--exclude={_joined(options.exclude, host_list(bad))}"


def _with_type(options: SubmitOptions, type_: str) -> str | None:
    """Return the request for GPUs with a type in it; None where it is not one plain number."""
    for name, gpus in (
        ("gpus-per-node", options.gpus_per_node),
        ("gpus", options.gpus),
        ("gpus-per-task", options.gpus_per_task),
    ):
        if gpus:
            if len(gpus) != 1 or gpus[0].type or gpus != options.requested_gpus:
                return None
            if options.gres is not None:
                other = [item for item in options.gres.split(",") if "gpu" not in item]
                return f"--gres={','.join([f'gpu:{type_}:{gpus[0].count}', *other])}"
            return f"--{name}={type_}:{gpus[0].count}"
    return None


def _feature(good: Sequence[Node], bad: Sequence[Node]) -> str | None:
    """Return a feature that all of some nodes have and none of the others, one that tells memory first."""
    common = set(good[0].features).intersection(*(node.features for node in good))
    others = {feature for node in bad for feature in node.features}
    telling = sorted(
        common - others, key=lambda feature: (label_of_feature(feature)[0] is None, feature)
    )
    return telling[0] if telling else None


def _partition(good: Sequence[Node], bad: Sequence[Node]) -> str | None:
    common = set(good[0].partitions).intersection(*(node.partitions for node in good))
    others = {name for node in bad for name in node.partitions}
    return min(common - others, default=None)


def _joined(old: str | None, new: str) -> str:
    return f"{old},{new}" if old else new
