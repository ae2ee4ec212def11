"""The option that keeps a job on the nodes where it fits: a feature, a GPU type, or nodes to leave out."""

from __future__ import annotations

import re

from preflight.lazy_pattern import lazy_pattern
from preflight.slurm.hostlist import host_list
from preflight.slurm.nodes import Fit, Judged
from preflight.slurm.options import SubmitOptions
from preflight.values import dataclass

_SAYS_MEMORY = lazy_pattern(r"\d+\s*g", re.IGNORECASE)


@dataclass(frozen=True)
class NodeHint:
    """One option of sbatch, and what it keeps away."""

    option: str
    """`--constraint=gpu_mem:80gb`."""
    leaves_out: str
    """`a100-01`."""


def node_hint(judged: Judged, options: SubmitOptions) -> NodeHint | None:
    """Return how to ask for the candidates that fit alone; None where none surely fits, or all do."""
    good = [node for group in judged.groups(Fit.FITS) for node in group.nodes]
    bad = [node for group in judged.groups(Fit.DOES_NOT_FIT) for node in group.nodes]
    names = {node.name for node in good}
    both = [node for node in bad if node.name in names]
    bad = [node for node in bad if node.name not in names]
    if not good or not (bad or both):
        return None
    left_out = host_list(node.name for node in bad)
    if bad and not both:
        features = set(good[0].features)
        for node in good:
            features &= set(node.features)
        for node in bad:
            features -= set(node.features)
        if features:
            feature = min(features, key=lambda name: (not _SAYS_MEMORY.search(name), name))
            whole = _and(options.constraint, feature)
            if whole is not None:
                return NodeHint(f"--constraint={whole}", left_out)
    types = {group.type for group in judged.groups(Fit.FITS)}
    others = {group.type for group in judged.groups(Fit.DOES_NOT_FIT)}
    count = options.num_gpus_per_node
    if (
        len(types) == 1
        and not types & others
        and count
        and not options.gpu_types
        and "" not in types
    ):
        given = "--gpus-per-node=" if not options.gres else "--gres=gpu:"
        return NodeHint(
            f"{given}{types.pop()}:{count}", left_out or host_list(n.name for n in both)
        )
    if not bad or both:
        return None
    excluded = f"{options.exclude},{left_out}" if options.exclude else left_out
    return NodeHint(f"--exclude={excluded}", left_out)


def _and(constraint: str | None, feature: str) -> str | None:
    """Return a constraint that asks for a feature too; None where the two cannot be said together."""
    if not constraint:
        return feature
    if set(constraint) & set("[]*,"):
        return None
    return f"{constraint}&{feature}" if "|" not in constraint else f"({constraint})&{feature}"
