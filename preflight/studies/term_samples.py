"""The memory terms of one plan at other lengths, asked where a curve through them needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from preflight.judge import Judged, checked_item, owned_terms
from preflight.launch import LaunchPlan
from preflight.memory import Level, MemoryTerm, Moment
from preflight.plugin_manager import PluginManager
from preflight.records.known import known_correction
from preflight.units import ceil_div

TermKey = tuple[str, Level, frozenset[Moment], bool, str]


class Samples:
    """The terms at some micro batch and ranks: every hook's at a few lengths, one hook's at those of its kinks."""

    def __init__(
        self, judged: Judged, micro_batch_size: int, ranks: int, plugins: PluginManager
    ) -> None:
        self._judged, self._plugins = judged, plugins
        self._micro_batch_size, self._ranks = micro_batch_size, ranks
        self._correction = known_correction(judged.device)
        self._plans: dict[int, LaunchPlan] = {}
        self._seen: dict[TermKey, tuple[str, MemoryTerm]] = {}
        self._of_all: dict[int, dict[TermKey, int]] = {}
        self._of_one: dict[tuple[str, int], dict[TermKey, int]] = {}

    def ask_all(self, lengths: Iterable[int]) -> None:
        """Ask every hook at some lengths; raise BadInput where the plan cannot be at one."""
        judged = self._judged
        assert judged.model is not None
        for length in lengths:
            plan = self._plan_at(length)
            owned = owned_terms(plan, judged.model, self._plugins, judged.device)
            self._of_all[length] = self._noted(owned)

    def value_of(self, key: TermKey) -> Callable[[int], int]:
        """Return the bytes of one term over the length, 0 where its hook does not yield it."""
        owner = self._seen[key][0]

        def value(length: int) -> int:
            every = self._of_all.get(length)
            return (self._terms_of(owner, length) if every is None else every).get(key, 0)

        return value

    def seen(self) -> dict[TermKey, MemoryTerm]:
        """Return one of every term that a hook yielded so far."""
        return {key: term for key, (_, term) in self._seen.items()}

    def _plan_at(self, length: int) -> LaunchPlan:
        if length not in self._plans:
            edits = edits_to(self._judged.plan, length, self._micro_batch_size, self._ranks)
            self._plans[length] = self._judged.plan.with_edits(edits)
        return self._plans[length]

    def _terms_of(self, owner: str, length: int) -> dict[TermKey, int]:
        """Return what one hook alone yields at a length, asked once."""
        if (owner, length) not in self._of_one:
            hook, plan, judged = "preflight_memory_terms", self._plan_at(length), self._judged
            items = self._plugins.collect_from(
                owner, hook, plan=plan, model=judged.model, device=judged.device
            )
            terms = ((owner, checked_item(item, MemoryTerm, owner, hook)) for item in items)
            self._of_one[owner, length] = self._noted(terms)
        return self._of_one[owner, length]

    def _noted(self, owned: Iterable[tuple[str, MemoryTerm]]) -> dict[TermKey, int]:
        """Return the bytes of terms, which are seen from now on."""
        num_bytes: dict[TermKey, int] = {}
        for owner, term in owned:
            term = self._corrected(term)
            key = (term.name, term.level, term.moments, term.from_second_step, term.stream)
            self._seen[key], num_bytes[key] = (owner, term), term.num_bytes
        return num_bytes

    def _corrected(self, term: MemoryTerm) -> MemoryTerm:
        """Return a term as this site measured it where it lies outside torch; the allocator's come later."""
        if self._correction is None or term.level is not Level.DEVICE:
            return term
        from preflight.records.site_correction import corrected_terms

        return corrected_terms((term,), self._correction)[0]


def edits_to(plan: LaunchPlan, seq_len: int, micro_batch_size: int, ranks: int) -> dict[str, Any]:
    """Return the plan fields that a place of the sliders sets."""
    edits = {"seq_len": seq_len, "micro_batch_size": micro_batch_size}
    if ranks == plan.world_size:
        return edits
    num_nodes = ceil_div(ranks, plan.ranks_per_node)
    return {**edits, "world_size": ranks, "shard_degree": ranks, "num_nodes": num_nodes}
