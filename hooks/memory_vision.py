"""A vision tower and its projector: the images, what is saved for their backward, and the worst moments of both passes."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.layers.token_embedders import embedder_bytes
from preflight.formulas.vision import mode_of, seen_by, tower_bytes
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import EVERY_STEP, STEP_MOMENTS, MemoryTerm, Moment
from preflight.model import ModelSpec

SAVED = frozenset(STEP_MOMENTS) - {Moment.EMBEDDING_BACKWARD}
UNREAD = frozenset({Moment.FORWARD, Moment.LOSS_FORWARD})
SOURCE = "preflight/formulas/costs/towers: traces of transformers 5.24"


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price what images take before they are tokens, and what tokens take that may be images."""
    yield from _of_tokens(plan, model)
    seen, found = seen_by(plan, model), tower_bytes(plan, model)
    if seen is None or found is None:
        return
    words = f"{seen.rows:,} rows of patches, {seen.tokens:,} image tokens, {mode_of(plan, model)}"
    for name, num_bytes, moments in (
        ("images", found.pixels, frozenset(EVERY_STEP)),
        ("activations saved by the vision tower", found.saved, SAVED),
        ("image features", found.features, frozenset({Moment.FORWARD})),
        ("block of the tower that nobody reads", found.unread, UNREAD),
        ("vision tower, forward", found.forward, frozenset({Moment.TOWER_FORWARD})),
        ("vision tower, backward", found.backward, frozenset({Moment.TOWER_BACKWARD})),
    ):
        if num_bytes:
            yield MemoryTerm(name, num_bytes, moments, f"{num_bytes:,} for {words}", SOURCE)


def _of_tokens(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price what Gemma 3n embeds every token as beside a word."""
    found = embedder_bytes(plan, model)
    if found is None:
        return
    source = "models/gemma3n/modeling_gemma3n.py Gemma3nModel.forward (4.53 to 5.24), traced"
    for name, num_bytes, moments in (
        ("tokens embedded as images and sound", found.saved, SAVED),
        ("tokens embedded as images and sound, in passing", found.passing, UNREAD),
    ):
        if num_bytes:
            yield MemoryTerm(name, num_bytes, moments, f"{num_bytes:,}", source)
