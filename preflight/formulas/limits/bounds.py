"""What cannot be counted and is bounded all the same: a launch fits in spite of it where the dearest that it may be does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from preflight import unpriced_names as unpriced
from preflight.device import DeviceSpec
from preflight.formulas.adapters.adapters import adapter_targets
from preflight.formulas.allocator import graph_at_most
from preflight.formulas.checkpoint import bounded, packed_at_most
from preflight.formulas.engines.engines import sglang_at_most
from preflight.formulas.engines.groups import critic_of_group, on_fewer_cards
from preflight.formulas.engines.zero_passing import gathered
from preflight.formulas.objective import is_taught
from preflight.formulas.objectives.reward_models import scored_at_most
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import held_tensors, shards_parameters
from preflight.formulas.stored_bytes import whole_bytes
from preflight.launch import LaunchPlan
from preflight.lazy_pattern import lazy_pattern
from preflight.memory import ALWAYS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.values import dataclass, replace

_AROUND_LAYERS = lazy_pattern(r"(?i)embed|wte|wpe|head|output_layer|lm_|score")
"""Names of modules that stand outside the decoder's layers."""


@dataclass(frozen=True)
class Dearest:
    """The most that a launch may be in what its notices leave out."""

    plan: LaunchPlan
    terms: tuple[MemoryTerm, ...]
    """Beside those of the plan."""
    names: frozenset[str]
    """What of the notices is bounded by these."""
    num_gradients: int
    """Of the model, each a tensor that stays where a step is captured."""
    without: frozenset[str] = frozenset()
    """Terms of the plan that this one does not have."""
    other: Dearest | None = None
    """The dearest of another update, or of an evaluation, in which the first one's activations are gone."""

    @property
    def updates(self) -> tuple[Dearest, ...]:
        """Return every one that a step has."""
        return (self,) if self.other is None else (self, self.other)

    def terms_beside(self, terms: Iterable[MemoryTerm]) -> tuple[MemoryTerm, ...]:
        """Return the terms of its plan with those beside them, of which a graph's pool takes all that a step does."""
        every = (*(each for each in terms if each.name not in self.without), *self.terms)
        if unpriced.CUDA_GRAPH not in self.names:
            return every
        return (*every, *graph_at_most(every, self.plan, self.num_gradients))


ADDED = {
    unpriced.FAKE_QUANTIZED: "fake_quantized:copies_at_most",
    unpriced.QUANTIZED_WIDELY: "fake_quantized:wide_copies_at_most",
    unpriced.OLMO_CORE: "olmo_core:olmo_core_at_most",
    unpriced.OLMO_PARTS: "olmo_core:parts_at_most",
    unpriced.Z_LOSS: "olmo_core:z_loss_at_most",
    unpriced.ON_EXPERTS: "adapters.grouped_experts:on_experts_at_most",
    unpriced.PACKED_EXPERTS: "layers.packed_experts:packed_experts_at_most",
    unpriced.SCATTERED: "layers.packed_experts:scattered_at_most",
    unpriced.LOOPED_EXPERTS: "layers.looped_stacks:looped_at_most",
    unpriced.SENT_TOKENS: "sent_tokens:sent_at_most",
    unpriced.GRAPH_STEP: "graph_steps:graph_step_at_most",
    unpriced.CAST_LOGITS: "objectives.logits_at_most:cast_at_most",
    unpriced.BESIDE_TEXT: "tune_images:images_at_most",
    unpriced.SWIFT_SEQUENCES: "swift_sequences:sequences_at_most",
    unpriced.WATCHED: "watched:watched_at_most",
    unpriced.SVD_WORKSPACE: "low_rank:workspace_at_most",
}
"""What is bounded by more terms alone -> the function of formulas that gives those of a plan and its model; few launches
have any, and import it."""
BY_PLANS = {
    unpriced.STRIDED: "objectives.strided_blocks:blocks_at_most",
    unpriced.LONGER_EVALUATION: "objectives.longer_evaluation:evaluated_at_most",
}
"""What is bounded by another plan, and terms beside it -> the function that gives both: of the step, or of an evaluation."""
AS_GRADIENTS = {
    unpriced.COMM_HOOK: 2,
    unpriced.GRADIENTS_STAY: 1,
    unpriced.COPY_OF_ADAPTER: 1,
}
"""What is bounded by as many bytes as the gradients have, so many times.

A hook: PowerSGD keeps an error of each, and a bucket's copy and factors of less than that
(torch/distributed/algorithms/ddp_comm_hooks/powerSGD_hook.py:385-610, 2.13); the other hooks keep less.
`zero_grad(set_to_none=False)` leaves those of the step before (torch/optim/optimizer.py zero_grad, 2.13).
A second adapter by the same LoraConfig has the first one's tensors (peft/peft_model.py add_adapter, 0.21.2).
"""


def dearest_of(
    plan: LaunchPlan,
    model: ModelSpec,
    others: Mapping[str, ModelSpec],
    device: DeviceSpec | None = None,
) -> Dearest | None:
    """Return the dearest that a plan may be in what is bounded; None where nothing of it is.

    Layers that a 4-bit copy leaves in 16 bits are no more than all of them; an adapter on modules of a layer, whatever
    they are called, is no more than one on every matrix of it. A critic's update with as many rows takes no more than
    the actor's that checkpoints as it does, beside what both keep; a reward model whose shapes are known takes its own
    beside all that is scored. A model that a script gathers is no more than all of
    it, and is gathered between two steps. Logits of prompts are made as those of completions are. Weights that are trained
    as they are stored are no larger than fp32, and parts that are made fp32 no more than all of them.
    """
    named = {notice.unpriced for notice in plan.notices}
    dearest, terms, names = plan, [], set[str]()
    if unpriced.LEFT_WHOLE in named:
        dearest = replace(dearest, base_quantization=None)
        names.add(unpriced.LEFT_WHOLE)
    if unpriced.UNLISTED in named and plan.adapter is not None:
        targets = adapter_targets(plan.adapter, model)
        if not _AROUND_LAYERS.search(targets if isinstance(targets, str) else " ".join(targets)):
            dearest = replace(dearest, adapter=replace(plan.adapter, targets="all-linear"))
            names.add(unpriced.UNLISTED)
    packed = bounded(plan)
    if packed:
        terms.append(packed_at_most(plan, model))
        names |= packed
    fewer, of_fewer = on_fewer_cards(plan, model, named)
    if fewer is not None:
        terms.append(fewer)
        names |= of_fewer
    at_once = named & {unpriced.STATE_DICT_ON_CARD, unpriced.GATHERED}
    if at_once:
        terms.append(_gathered_whole(plan, model, at_once))
        names |= at_once
    if unpriced.ZEROPP_WEIGHTS in named and plan.engine == "zero3":
        terms += _gathered_in_8_bits(plan, model)
        names.add(unpriced.ZEROPP_WEIGHTS)
    of_float8 = _of_float8(plan, model, named)
    if of_float8:
        terms += of_float8
        names |= {unpriced.FLOAT8, unpriced.FLOAT8_HEAD}
    on_some = named & {unpriced.RANDOM_LTD, unpriced.MIXTURE_OF_DEPTHS}
    if on_some and plan.seq_len:
        from preflight.formulas.limits.some_tokens import rows_beside  # few launches have any

        terms.append(rows_beside(plan, model))
        names |= on_some
    for name, times in AS_GRADIENTS.items():
        if name in named:
            terms.append(_as_gradients(plan, model, name, times))
            names.add(name)
    if unpriced.WIDE_PART in named:
        dearest = replace(dearest, load_dtype="fp32")
        names.add(unpriced.WIDE_PART)
    if unpriced.AUTOMODEL in named:
        from preflight.formulas.automodel import automodel_at_most, in_stored_dtype

        of_automodel = automodel_at_most(plan, model)
        if of_automodel:
            dearest = in_stored_dtype(dearest, model) if unpriced.STORED_DTYPE in named else dearest
            terms += of_automodel
            names |= {unpriced.AUTOMODEL, unpriced.STORED_DTYPE}
    for name in [each for each in ADDED if each in named]:
        if added := bound_of(name)(plan, model):
            terms += added
            names.add(name)
    if unpriced.SWIFT_SEQUENCES in named - names:
        # Of rings, experts and towers: less than a whole row on every rank.
        dearest = replace(dearest, sequence_parallel_degree=1)
        names.add(unpriced.SWIFT_SEQUENCES)
    if unpriced.PROMPT_LOGITS in named and plan.generation is not None and plan.seq_len:
        generation = replace(plan.generation, max_completion_len=plan.seq_len)
        dearest = replace(dearest, generation=generation)
        names.add(unpriced.PROMPT_LOGITS)
    if unpriced.LABEL_SMOOTHING in named and plan.seq_len and plan.trainer == "transformers":
        # TRL's SFTTrainer runs its model twice for it (tests/hooks/test_training_effects.py)
        from preflight.formulas.objectives.logits_at_most import smoothed_at_most  # few launches do

        dearest = replace(dearest, loss="full_logits")
        terms += smoothed_at_most(plan, model)
        names.add(unpriced.LABEL_SMOOTHING)
    scoring = named & unpriced.OF_REWARDS
    of_rewards = scored_at_most(plan, others) if scoring else ()
    if of_rewards:
        terms += of_rewards
        names |= scoring
    taught = _taught(plan, model, others) if unpriced.TEACHER in named else ()
    if taught:
        terms += taught
        names.add(unpriced.TEACHER)
    if unpriced.STRIDED in named and (strided := bound_of(unpriced.STRIDED)(plan, model)):
        dearest = strided[0]
        terms += strided[1]
        names.add(unpriced.STRIDED)
    evaluated = None
    if unpriced.LONGER_EVALUATION in named:
        evaluated = bound_of(unpriced.LONGER_EVALUATION)(dearest, model)
        names |= set() if evaluated is None else {unpriced.LONGER_EVALUATION}
    if unpriced.SGLANG in named and device is not None and plan.generation is not None:
        terms += sglang_at_most(plan, device)
        names.add(unpriced.SGLANG)
    names |= named & {unpriced.CUDA_GRAPH}
    update, without = None, frozenset[str]()
    if unpriced.CRITIC in named and plan.generation is not None:
        from preflight.formulas.objectives import critics  # few launches have one

        critic = critics.states_of_critic(plan, model) or critic_of_group(plan, model)
        if critic is not None:
            terms.append(critic)
            without = frozenset(critics.KEPT)  # no more than that
            names.add(unpriced.CRITIC)
            update = critics.update_of_critic(dearest, model)
        if critic is not None and update is None:
            rows = max(plan.micro_batch_size or 0, plan.generation.critic_rows or 0)
            dearest = replace(dearest, micro_batch_size=rows)
            if not critics.recomputes(plan):
                dearest = replace(dearest, activation_checkpointing="none")
    if not names:
        return None
    num_gradients = sum(each.count for each in held_tensors(plan, model) if each.trains)
    found = Dearest(dearest, tuple(terms), frozenset(names), num_gradients, without)
    if evaluated is not None:
        longer = replace(found, plan=evaluated[0], terms=(*terms, *evaluated[1]))
        return None if update is not None else replace(found, other=longer)
    if update is None:
        return found
    of_update = (*terms, *update[1])
    other = replace(found, plan=update[0], terms=of_update, without=without | critics.OF_ACTOR)
    return replace(found, other=other)


def bound_of(name: str) -> Callable[[LaunchPlan, ModelSpec], Any]:
    """Return what gives the terms of a name of ADDED, or the plan and the terms of one of BY_PLANS."""
    module, _, function = {**ADDED, **BY_PLANS}[name].partition(":")
    at_most: Callable[[LaunchPlan, ModelSpec], Any]
    at_most = getattr(import_module(f"preflight.formulas.{module}"), function)
    return at_most


def _of_float8(plan: LaunchPlan, model: ModelSpec, named: Collection[str]) -> Sequence[MemoryTerm]:
    """Return the terms of float8 layers where the plan has them and they are bounded."""
    if not {unpriced.FLOAT8, unpriced.FLOAT8_HEAD}.intersection(named):
        return ()
    from preflight.formulas.layers.float8_linears import float8_at_most  # few launches have any

    return float8_at_most(plan, model, unpriced.FLOAT8_HEAD in named)


def _taught(
    plan: LaunchPlan, model: ModelSpec, others: Mapping[str, ModelSpec]
) -> Sequence[MemoryTerm]:
    """Return the terms of a teacher where TRL's GKD or torchtune's recipe has one, and they are bounded."""
    teacher = others.get(plan.reference_model or "")
    if not is_taught(plan) or teacher is None:
        return ()
    if plan.trainer == "torchtune":
        from preflight.formulas.objectives.tune_teachers import taught_by_torchtune

        return taught_by_torchtune(plan, model, teacher)
    from preflight.formulas.objectives.teachers import taught_at_most  # few launches have any

    return taught_at_most(plan, model, teacher)


def _gathered_whole(plan: LaunchPlan, model: ModelSpec, names: Collection[str]) -> MemoryTerm:
    """Return a term of all that an engine divides, whole, in the dtype that it is kept in; a state dict is whole of FSDP1
    alone, and has the shards of the others."""
    divides = shards_parameters(plan) and plan.shard_degree != 1
    is_whole = divides and (unpriced.GATHERED in names or plan.engine == "fsdp1")
    precision = precision_of(plan, model)
    held = held_tensors(plan, model) if is_whole else ()
    whole = sum(each.count * whole_bytes(plan, precision, each) for each in held)
    return MemoryTerm(
        unpriced.GATHERED, whole, frozenset({Moment.SAVE}), f"{whole:,}: all parameters"
    )


IN_8_BITS = 11
"""Bytes of a parameter that ZeRO++ gathers, beside the weights that come of it: 1 of 8 bits, at most half a byte of a scale
for 8 of them, 2 of fp16 and 2 of another dtype, and of a shard 2 as it is, 2 as fp16 and 1 (CUDAQuantizer,
_all_gather_coalesced and AllGatherCoalescedHandle of deepspeed/runtime/zero/partition_parameters.py, 0.19.8)."""


def _gathered_in_8_bits(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of what is gathered in 8 bits, for all that stage 3 has whole at a time; no shard takes more."""
    terms = gathered(plan, model, IN_8_BITS)
    return [replace(each, name=f"{each.name}, in 8 bits first") for each in terms]


def _as_gradients(plan: LaunchPlan, model: ModelSpec, name: str, times: int) -> MemoryTerm:
    """Return a term as large as the gradients, so many times, of whatever else is there."""
    precision = precision_of(plan, model)
    trained = [each for each in held_tensors(plan, model) if each.trains or each.waits]
    whole = sum(each.count * whole_bytes(plan, precision, each) for each in trained)
    return MemoryTerm(name, times * whole, ALWAYS, f"{times} x {whole:,}")
