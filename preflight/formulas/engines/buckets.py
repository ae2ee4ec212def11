"""What the terms of an estimate are, in the few words that pictures and tables have room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from preflight.launch import LaunchPlan
from preflight.memory import Level, MemoryEstimate, MemoryTerm, Moment, Phase, PhasePeak

WEIGHTS = ("parameters, ", "parameters that", "master parameters")
GRADIENTS = (
    "gradients, ", "gradients of earlier", "gradients of the step", "gradients summed", "gradients of what stays",
    "averaged gradients", "fp32 gradients", "unsharded gradient", "gradient of the head", "gradient of the embedding",
    "dense gradient of the embedding",
)  # fmt: skip
ACTIVATIONS = (
    "activations", "layer inputs", "output of the recomputed layer", "gradients of activations", "gradients in the",
    "gradient of the last hidden", "beside the layers", "attention mask",
)  # fmt: skip
BUCKETS = (
    "weights", "gradients", "optimizer_states", "activations", "logits", "buffers", "allocator", "outside_torch",
)  # fmt: skip
BUCKET_WORDS: Mapping[str, str] = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer_states": "optimizer states",
    "activations": "activations",
    "logits": "logits and loss",
    "buffers": "gathered layers, copies, buffers",
    "allocator": "held by the allocator",
    "outside_torch": "CUDA context, NCCL",
}

TRACED: Mapping[str, str] = {
    "parameters": "weights",
    "gradients": "gradients",
    "optimizer states": "optimizer_states",
    "activations": "activations",
    "logits and loss": "logits",
}
"""What a trace calls it -> its bucket; everything else is a buffer."""


def bucket_of(term: MemoryTerm) -> str:
    """Return the bucket of a term of a device; what is no bucket of its own is a buffer."""
    name = term.name
    if term.level is Level.DEVICE:
        return "outside_torch"
    if term.level is Level.RESERVED:
        return "allocator"
    if "logits" in name:
        return "logits"
    if name == "parameters" or name.startswith(WEIGHTS):
        return "weights"
    if name == "gradients" or name.startswith(GRADIENTS):
        return "gradients"
    if name.startswith("optimizer states"):
        return "optimizer_states"
    return "activations" if name.startswith(ACTIVATIONS) else "buffers"


def peaks_of_launch(estimate: MemoryEstimate, plan: LaunchPlan) -> tuple[PhasePeak, ...]:
    """Return the peaks of the phases that a launch goes through: not every launch evaluates."""
    evaluates = plan.eval_micro_batch_size is not None
    return tuple(peak for peak in estimate.peaks if evaluates or peak.phase is not Phase.EVALUATION)


def at_peak(estimate: MemoryEstimate, peak: PhasePeak) -> dict[str, int]:
    """Return the bytes of every bucket at the peak of a phase; they add up to its device bytes."""
    return _sums(estimate.terms_of(peak))


def at_moment(estimate: MemoryEstimate, moment: Moment) -> dict[str, int]:
    """Return the bytes of every bucket at a moment, with what the first step left."""
    return _sums(estimate.terms_at(moment))


def of_traced(categories: Mapping[str, int]) -> dict[str, int]:
    """Return the bytes of every bucket from those of a trace's categories."""
    sums = dict.fromkeys(BUCKETS, 0)
    for category, num_bytes in categories.items():
        sums[TRACED.get(category, "buffers")] += num_bytes
    return sums


def _sums(terms: Iterable[MemoryTerm]) -> dict[str, int]:
    sums = dict.fromkeys(BUCKETS, 0)
    for term in terms:
        if term.level is not Level.HOST:
            sums[bucket_of(term)] += term.num_bytes
    return sums
