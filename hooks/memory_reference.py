"""The model that a policy is compared with: its parameters, what an engine gathers of it, and its forward beside the policy's.

TRL loads a second copy in the policy's dtype and runs it, without gradients, after the policy's forward and before its
backward. Counted on TRL's own functions and trainers by tests/formulas/test_reference.py, P parameters, W ranks, c bytes
of the compute dtype:

    single, DDP     the loaded dtype, whole; under autocast a forward caches copies of its matrices: c layers
    ZeRO-0 to 2     c P, whole: TRL prepares it at stage 0
    verl            2 P/W, in bf16 on the host, whatever the engine (fsdp_workers.py, `cpu_offload`, 0.2.0 to 0.9.1), and
                    on the card before that
    ZeRO-3          c P/W, and in a forward the live parameters, c each
    FSDP1           the loaded dtype /W; a unit at a time in a forward, and the root from the first one on
    FSDP2           the loaded dtype /W; TRL wraps the model as one unit, so a forward gathers all of it: 2 c P

With an adapter there is no copy: the same forward runs with the adapter switched off.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.layers.chunked_heads import gathers_head_itself, head_bytes
from preflight.formulas.layers.heads import trains_value_model
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.objective import (
    is_of_llamafactory,
    reads_completion_logits,
    reference_of,
    refers_in_loss,
    second_copy,
    tokens_with_logits,
)
from preflight.formulas.objectives.actor_losses import trains_actor
from preflight.formulas.objectives.forward_alone import (
    Gathered,
    autocast_copies,
    fetched_ahead,
    freed_buffers,
    gathered_of_copy,
    held_with_logits,
    released_at_head,
    scored_forward,
)
from preflight.formulas.objectives.log_probabilities import logits_of_pairs, scoring_of
from preflight.formulas.objectives.ppo import policy_of
from preflight.formulas.objectives.whole_logits import whole_logits
from preflight.formulas.precision import load_dtype, precision_of
from preflight.formulas.sharding import held_tensors, local_elements, num_tokens
from preflight.formulas.tensor_parallel import local_vocab
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launch_facts import StepLoss
from preflight.memory import ALWAYS, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import dtype_bytes
from preflight.values import replace
from preflight.versions.verl import REFERENCE_ON_HOST

SOURCE = "trl/models/utils.py prepare_deepspeed, prepare_fsdp; dpo_trainer.py:922-1000 (1.16.0)"


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the reference model and its forward."""
    kind = reference_of(plan)
    if kind not in ("same", "adapter_off"):
        return
    if trains_value_model(plan):
        model = policy_of(model)
    gathered = Gathered(0, 0)
    if kind == "same":
        copy = second_copy(plan)
        if is_of_llamafactory(plan) and plan.mixed_precision in ("bf16", "fp16"):
            # what does not train is loaded in the compute dtype (model/loader.py, 0.9.4)
            copy = replace(copy, load_dtype=plan.mixed_precision)
        is_of_actor = trains_actor(plan)
        if is_of_actor:
            copy = replace(copy, load_dtype="bf16")
        own = plan.script_facts.step_loss
        own = None if own is not None and own.is_prepared_below else own
        num_bytes, formula = _parameters(copy, model) if own is None else _own(copy, model, own)
        level = Level.ALLOCATED
        is_moved = plan.offload_params != "none" and (plan.is_fsdp or plan.engine == "zero3")
        if is_of_actor:
            is_moved = REFERENCE_ON_HOST.holds_in(plan.versions)
        if own is None and is_moved:
            num_bytes, level = num_bytes * plan.ranks_per_node, Level.HOST
        yield MemoryTerm(
            "parameters of the reference model" + (", on the host" if level is Level.HOST else ""),
            num_bytes,
            ALWAYS | {Moment.PREPARE},
            formula,
            SOURCE,
            level,
        )
        gathered = gathered_of_copy(copy, model)
    elif gathers_head_itself(plan, model):
        gathered = Gathered(0, precision_of(plan, model).bytes_of("frozen") * model.head_params)
    if gathered.kept:
        yield MemoryTerm(
            "reference model, gathered and kept",
            gathered.kept,
            ALWAYS,
            f"{gathered.kept:,}",
            SOURCE,
            from_second_step=True,
        )
    if not refers_in_loss(plan):
        return  # its forward is part of scoring
    released, passing = 0, gathered.passing
    if kind == "same":
        released = released_at_head(copy, model)
    elif plan.engine == "zero3":  # beside the head, which is whole for the policy's loss too
        released = fetched_ahead(plan, model)
        passing += released
    passing, formula = _forward(plan, model, passing, released, kind == "same")
    if passing:
        yield MemoryTerm(
            "forward of the reference, beyond the policy's head",
            passing,
            frozenset({Moment.LOSS_FORWARD}),
            formula,
            "trl/trainer/dpo_trainer.py:1211-1241, kto_trainer.py:1425-1436 (1.16.0)",
        )
    if gathered.passing and plan.eval_micro_batch_size is not None:
        yield MemoryTerm(
            "reference model, gathered for evaluation",
            gathered.passing,
            frozenset({Moment.EVALUATION}),
            f"{gathered.passing:,}",
            SOURCE,
        )


def _parameters(copy: LaunchPlan, model: ModelSpec) -> tuple[int, str]:
    """Return what a rank holds of a second copy."""
    size = dtype_bytes(load_dtype(copy, model))
    if copy.zero_stage is not None:
        size = precision_of(copy, model).bytes_of("compute")
    elements = sum(held.count * local_elements(copy, held) for held in held_tensors(copy, model))
    shards = f" in 1/{copy.shard_degree} shards" if elements < model.num_params else ""
    return size * elements, f"{elements:,} x {size}{shards}"


def _own(copy: LaunchPlan, model: ModelSpec, own: StepLoss) -> tuple[int, str]:
    """Return what a rank holds at most of a copy that a script makes itself: all of it, but where DeepSpeed has it."""
    if copy.engine == "zero3" and own.partitions_copy:
        return _parameters(copy, model)
    size = dtype_bytes(load_dtype(copy, model))
    if copy.zero_stage is not None:
        size = max(size, precision_of(copy, model).bytes_of("compute"))
    return size * model.num_params, f"{model.num_params:,} x {size}"


def _forward(
    plan: LaunchPlan, model: ModelSpec, gathered: int, released: int, second: bool
) -> tuple[int, str]:
    """Return what a forward without gradients takes, of a second copy or of the policy, less the policy's own head, which is
    done by then; what is `released` of what it gathers is gone at its head."""
    tokens = num_tokens(plan)
    found = scored_forward(plan, model, tokens)
    if found is None:
        return gathered, f"{gathered:,}"
    found = found._replace(at_head=found.at_head - released)
    precision = precision_of(plan, model)
    cached = autocast_copies(plan, model)
    beside, gone = _policys_head(plan, model, tokens)
    most = cached + found.most
    if scoring_of(plan) is not None:
        # outputs are cast when autocast has ended, and its copies are gone (accelerate/utils/operations.py, 0.34 to 1.15)
        logits = precision.bytes_of("logits") * tokens * model.vocab_size
        most = max(found.at_head, cached + max(found.at_layer, logits))
    # the policy's autocast has ended, and its cache is gone
    gone += sum(
        unit.count * layer_costs(plan, model, unit, precision).copied_in_forward_bytes
        for unit in model.layers
        if unit.layer is not None
    )
    if second:
        gone += freed_buffers(plan, model)
    passing = beside + gathered + most - gone
    return max(0, passing), (
        f"{gathered:,} gathered + {cached:,} cached copies + the larger of {found.at_head:,} and"
        f" {found.at_layer:,} - {gone - beside:,}"
    )


def _policys_head(plan: LaunchPlan, model: ModelSpec, tokens: int) -> tuple[int, int]:
    """Return what the policy's head leaves beside the reference, and what is priced of it at the same moment."""
    if reads_completion_logits(plan):
        entries = tokens_with_logits(plan, tokens) * local_vocab(plan, model.vocab_size)
        taken = whole_logits(plan, model)
        return taken.outputs * entries, taken.forward * entries
    scoring = scoring_of(plan)
    if scoring is None:
        return 0, head_bytes(plan, model, tokens).forward
    found = logits_of_pairs(plan, model, tokens, scoring)
    held = held_with_logits(plan, model, tokens, scoring, has_graph=True)
    return found.beside, max(found.forward, found.after) + held
