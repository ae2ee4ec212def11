"""Device memory of an evaluation batch: logits, what passes through a layer, and what the engine gathers for it.

Nothing is saved for a backward pass; preflight/formulas/objectives/forward_alone.py says what is gathered.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.adapters.unpacked_experts import is_stack
from preflight.formulas.layers.heads import scores
from preflight.formulas.layers.key_values import cached_in_evaluation
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.objective import (
    is_of_swift,
    reads_completion_logits,
    sequences_per_sample,
    tokens_with_logits,
)
from preflight.formulas.objectives.forward_alone import (
    DEEPSPEED_SOURCE,
    FSDP_SOURCE,
    gathered_in_forward,
    hidden_states,
    scored_forward,
)
from preflight.formulas.objectives.generated_answers import generated_bytes, generates
from preflight.formulas.objectives.log_probabilities import logits_of_pairs, scoring_of
from preflight.formulas.objectives.whole_logits import logits_of_evaluation, whole_logits
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import held_tensors
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div
from preflight.values import replace

EVALUATION = frozenset({Moment.EVALUATION})


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price an evaluation batch."""
    if plan.eval_micro_batch_size is None or plan.seq_len is None or not model.is_decoder_lm:
        return
    precision = precision_of(plan, model)
    rows = sequences_per_sample(plan) * plan.eval_micro_batch_size
    # ms-swift's ranks share the rows of an evaluation too
    shared = plan.sequence_parallel_degree if is_of_swift(plan) else 1
    tokens = rows * ceil_div(plan.seq_len, shared)
    scored = rows * (plan.target_len or 1) if model.has_both_stacks else tokens
    logits = 0
    scoring = scoring_of(plan)
    size, source = logits_of_evaluation(plan, precision)
    if (size or scoring is not None) and not scores(plan, model):
        logits = size * scored * model.vocab_size
        if scoring is not None:
            logits = max(logits, logits_of_pairs(plan, model, tokens, scoring).evaluation)
        elif reads_completion_logits(plan):
            logits = _of_completions(plan, model, tokens)
        yield MemoryTerm(
            "logits of an evaluation batch",
            logits,
            EVALUATION,
            f"{scored:,} x {model.vocab_size:,} x {size}, or what log-probabilities take: {logits:,}",
            source,
        )
    if scoring is not None and scoring.keeps_hidden_states:
        held = hidden_states(plan, model, tokens)
        yield MemoryTerm(
            "held by the model's outputs in an evaluation", held, EVALUATION, f"{held:,}", scoring.source
        )  # fmt: skip
    cached = cached_in_evaluation(plan, model, rows)
    if cached:
        yield MemoryTerm(
            "keys and values of an evaluation batch",
            cached,
            EVALUATION,
            f"{cached:,} of {rows} rows: use_cache is on",
            "preflight/formulas/layers/key_values.py",
        )
    kept, passing = gathered_in_forward(plan, model)
    if kept:
        yield MemoryTerm(
            "parameters gathered for evaluation",
            kept,
            EVALUATION,
            f"{kept:,}",
            FSDP_SOURCE if plan.is_fsdp else DEEPSPEED_SOURCE,
        )
    # an encoder's layers are smaller than those of the decoder beside it, and may attend to more
    looked_at = model.layers if model.has_both_stacks else (model.largest_layer,)
    each = [
        layer_costs(plan, model, layer, precision).forward_checkpointed
        for layer in looked_at
        if layer is not None and layer.layer is not None
    ]
    activations = tokens * max(each, default=0)
    if each and plan.base_quantization is not None:
        # stacks of experts are in what the layer needs
        packed = (
            h.tensor.num_params
            for h in held_tensors(plan, model)
            if h.quantized and not is_stack(h.tensor)
        )
        activations += precision.bytes_of("compute") * max(packed, default=0)
    beyond = max(0, passing + activations - logits)
    if generates(plan, model):
        generated = generated_bytes(plan, model, rows) - logits - beyond - cached
        if generated > 0:
            yield MemoryTerm(
                "answers that an evaluation generates, beyond their loss",
                generated,
                EVALUATION,
                f"{generated:,} of {rows} rows",
                "preflight/formulas/objectives/generated_answers.py",
            )
    if beyond:
        yield MemoryTerm(
            "a layer of an evaluation batch, beyond the logits",
            beyond,
            EVALUATION,
            f"{passing:,} gathered + {activations:,} in passing - {logits:,}",
            FSDP_SOURCE if plan.is_fsdp else "preflight/formulas/layers/layer_costs.py",
        )


def _of_completions(plan: LaunchPlan, model: ModelSpec, tokens: int) -> int:
    """Return what GRPO's log-probabilities of an evaluation batch take, whose rows are scored in one forward
    (trl/trainer/grpo_trainer.py prediction_step, compute_loss, 0.18.2: 4.6 bytes an entry in 16 bits on a CPU)."""
    there = replace(plan, micro_batch_size=plan.eval_micro_batch_size)
    found = scored_forward(there, model, tokens)
    entries = tokens_with_logits(plan, tokens) * model.vocab_size
    of_loss = whole_logits(there, model).forward * entries
    return of_loss if found is None else max(of_loss, found.at_head)
