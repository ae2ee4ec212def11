"""What a launch may do without: terms that a refusal must not rest on, by the name of the doubt that its plan has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from preflight import unpriced_names as unpriced
from preflight.formulas.layers.installed_kernels import KERNELS, is_of_layers
from preflight.formulas.limits.untraced import FUSED, UNTRACED
from preflight.launch import LaunchPlan
from preflight.memory import PHASE_MOMENTS, Level, MemoryEstimate, MemoryTerm, Phase
from preflight.model import ModelSpec
from preflight.values import replace

COMPILED_CHUNKS = "what torch.compile makes of Liger's chunks"
ACTORS_RELEASE = "what the release of verl decides"
ENGINES_ROOM = "the room that verl's engine finds"
LOADING = "how a script that is not here loads its model"


BEFORE_THE_STEP = {*PHASE_MOMENTS[Phase.LOAD]}


def _is_of_loading(term: MemoryTerm) -> bool:
    """Tell whether a term is there before the first step alone: a script may load piece by piece, or onto no device."""
    return term.moments <= BEFORE_THE_STEP


STATES = ("parameters", "scales of the quantized base", "optimizer states", "fp32 copies")
"""How the names of terms begin that are there whatever kernels compute with them."""


def _is_no_state(term: MemoryTerm) -> bool:
    """Tell whether other kernels for everything, and checkpoints on the host, may change a term."""
    return term.level is not Level.DEVICE and not term.name.startswith(STATES)


WHATEVER_IS_SENT = (
    *STATES, "gradients", "gradient of", "gathered", "head and loss", "kept by the loss", "layer inputs kept",
)  # fmt: skip
"""How the names of terms begin that are there whatever comes to the experts of a rank: all but what passes through layers."""
OF_LAYERS = ("gradients of activations", "gradients in the last layer")


def _is_of_sent_tokens(term: MemoryTerm) -> bool:
    """Tell whether a term may be less where a router sends a rank fewer tokens, or none."""
    stays = term.name.startswith(WHATEVER_IS_SENT) and not term.name.startswith(OF_LAYERS)
    return term.level is not Level.DEVICE and not stays


def _is_of_loss(term: MemoryTerm) -> bool:
    """Tell whether a term is of whole logits, of which smoothed labels in 16 bits take less than the model's own loss."""
    return term.name.startswith(("logits and loss", "head and loss", "segment of 16-bit logits"))


def _is_of_chunks(term: MemoryTerm) -> bool:
    """Tell whether a term is of logits that a compiled loss may not make whole."""
    return term.name.startswith("head and loss")


def _is_of_engines_room(term: MemoryTerm) -> bool:
    """Tell whether a term is of room that verl's engine may find less of."""
    return term.name.startswith("inference engine: keys")


def _is_of_actors_release(term: MemoryTerm) -> bool:
    """Tell whether a term is of logits, or of the engine's room: releases of verl differ in both."""
    of_logits = term.name.startswith(("logits and log-prob", "scoring of compl", "outputs of"))
    return of_logits or _is_of_engines_room(term)


DOUBTFUL: Mapping[str, Callable[[MemoryTerm], bool]] = {
    KERNELS: is_of_layers,
    FUSED: is_of_layers,
    LOADING: _is_of_loading,
    unpriced.UNSLOTH: _is_no_state,
    unpriced.AUTOMODEL: _is_no_state,
    unpriced.OLMO_CORE: _is_no_state,
    unpriced.PRIME_RL: _is_no_state,
    unpriced.GRAPH_STEP: _is_no_state,
    unpriced.LOOPED_EXPERTS: _is_no_state,
    unpriced.IN_TURNS: _is_no_state,
    unpriced.SENT_TOKENS: _is_of_sent_tokens,
    unpriced.STRIDED: _is_no_state,
    ACTORS_RELEASE: _is_of_actors_release,
    ENGINES_ROOM: _is_of_engines_room,
    unpriced.SGLANG: _is_of_engines_room,
    COMPILED_CHUNKS: _is_of_chunks,
    unpriced.LABEL_SMOOTHING: _is_of_loss,
    UNTRACED: _is_no_state,
}
"""What notices leave unpriced that takes less -> the terms in which it does."""


def doubts_of(plan: LaunchPlan) -> frozenset[str]:
    """Return which of the known doubts the notices of a plan name."""
    found = {notice.unpriced for notice in plan.notices if notice.unpriced in DOUBTFUL}
    if not _is_on_one_device(plan):
        found.discard(unpriced.UNSLOTH)
    if plan.base_quantization is not None:
        found.discard(UNTRACED)  # which of such a model's weights are packed is not known either
    return frozenset(found)


def _is_on_one_device(plan: LaunchPlan) -> bool:
    """Tell whether a model that Unsloth loads surely lies on one device.

    It is spread over all that a process sees (device_map="sequential"), but for a packed one of several ranks
    (unsloth/models/loader.py from_pretrained, loader_utils.py prepare_device_map, 2026.10.9).
    """
    if plan.world_size > 1:
        return plan.base_quantization is not None
    visible = "" if plan.command is None else plan.command.env.get("CUDA_VISIBLE_DEVICES", "")
    return bool(visible.strip()) and "," not in visible


AT_LEAST = 75
"""Percent of what is estimated, where no step of other code that was counted took less (tests/formulas/test_olmo_core_steps.py)."""


def counted_among(doubts: Iterable[str], plan: LaunchPlan, model: ModelSpec | None) -> str:
    """Return the doubt that is about code of which steps were counted: it takes no less than AT_LEAST percent; empty where none is."""
    if unpriced.OLMO_CORE not in doubts or model is None:
        return ""
    from preflight.formulas.olmo_core import is_counted  # few launches run it

    return unpriced.OLMO_CORE if is_counted(plan, model) else ""


def beside(
    estimate: MemoryEstimate, doubts: Iterable[str], counted: str = ""
) -> tuple[MemoryTerm, ...]:
    """Return the terms that no doubt is about, and the least of those that one is about whose code was counted: a refusal that
    rests on these alone holds in spite of them."""
    doubtful = [DOUBTFUL[name] for name in doubts if name != counted]
    terms = (term for term in estimate.terms if not any(is_of(term) for is_of in doubtful))
    if not counted:
        return tuple(terms)
    return tuple(
        replace(term, num_bytes=term.num_bytes * AT_LEAST // 100)
        if DOUBTFUL[counted](term)
        else term
        for term in terms
    )
