"""The loss head: logits and what the cross entropy makes of them, by loss kind and transformers version.

What a loss over whole logits takes per token and vocabulary entry, and how long its logits live, are rules of
trainer and version (preflight/formulas/user_loop.py). logits_dtype bf16 is the model's own loss, shifted and not upcast
(gpt_bigcode): 4c bytes; 2c + 4 + 4 + 4 under autocast, which runs cross entropy in fp32.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.layers.beside_layers import more_logits, shared_bytes
from preflight.formulas.layers.chunked_heads import head_bytes, tune_chunks
from preflight.formulas.layers.heads import scores, trains_value_model
from preflight.formulas.layers.key_values import cast_in_training, kept_by_outputs
from preflight.formulas.objective import reads_completion_logits, tokens_with_logits
from preflight.formulas.objectives.actor_losses import SOURCE as ACTOR_SOURCE
from preflight.formulas.objectives.actor_losses import kept_outputs, runs_on_engine, trains_actor
from preflight.formulas.objectives.actor_losses import update_bytes as actor_bytes
from preflight.formulas.objectives.forward_alone import held_with_logits
from preflight.formulas.objectives.log_probabilities import Scoring, logits_of_pairs, scoring_of
from preflight.formulas.objectives.pair_losses import entropy_bytes
from preflight.formulas.objectives.ppo import SOURCE as PPO_SOURCE
from preflight.formulas.objectives.ppo import policy_of, update_bytes
from preflight.formulas.objectives.whole_logits import whole_logits
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_answer_tokens, num_tokens
from preflight.formulas.tensor_parallel import local_vocab
from preflight.formulas.user_loop import holds_copy, keeps_outputs, output_rule
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div

FORWARD = frozenset({Moment.LOSS_FORWARD})
BACKWARD = frozenset({Moment.LOSS_BACKWARD})
AFTER_LOSS = frozenset((*STEP_MOMENTS, Moment.OPTIMIZER_STEP)) - FORWARD - {Moment.FORWARD}


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the final norm, the logits and the loss."""
    tokens = num_tokens(plan)
    if not tokens or not model.is_decoder_lm:
        return
    precision = precision_of(plan, model)
    c = precision.bytes_of("compute")
    trains = plan.adapter is None
    if shared_bytes(plan, model, precision) is None:  # there it is among what is beside the layers
        hidden = (4 + c + (c if trains else 0)) * model.hidden_size + 4
        yield MemoryTerm(
            "final norm",
            tokens * hidden,
            FORWARD | BACKWARD | {Moment.HEAD_BACKWARD},
            f"{tokens:,} tokens x {hidden:,}",
            "transformers modelling code: fp32 copy, normalised, output",
        )
        yield MemoryTerm(
            "gradient of the last hidden state",
            tokens * c * model.hidden_size,
            frozenset({Moment.EMBEDDING_BACKWARD}),
            f"{tokens:,} tokens x {c} x {model.hidden_size:,}",
            "torch autograd",
        )
    tokens = num_answer_tokens(plan, model)
    loss = plan.loss or "full_logits"
    if trains_value_model(plan):
        for part in update_bytes(plan, policy_of(model)):
            yield MemoryTerm(
                part.name, part.num_bytes, part.moments, f"{part.num_bytes:,}", PPO_SOURCE
            )
    elif scores(plan, model):
        return
    elif trains_actor(plan) or runs_on_engine(plan):
        size = precision_of(plan, model).bytes_of("logits")
        entries = tokens * local_vocab(plan, model.vocab_size)
        for name, num_bytes, moments in actor_bytes(plan, size, entries):
            formula = f"{entries:,} entries: {num_bytes:,}"
            yield MemoryTerm(name, num_bytes, moments, formula, ACTOR_SOURCE)
        yield from _idle(plan, size, entries, True)
        yield from _outputs_before(plan, model, tokens)
    elif plan.trainer == "litgpt" and (terms := (*_of_litgpt(plan, model, tokens),)):
        yield from terms
    elif (scoring := scoring_of(plan)) is not None:
        yield from _pairs(plan, model, tokens, scoring)
    elif loss == "full_logits":
        yield from _full(plan, model, tokens)
    elif loss in ("chunked_ce", "fused_ce"):
        yield from _chunked_ce(plan, model, tokens)
    elif loss == "compiled_ce":
        yield from _compiled_ce(plan, model, tokens)
    else:
        yield from _chunked_linear(plan, model, tokens)


def _of_litgpt(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    """Yield litgpt's own loss; nothing where the launch computes otherwise than that was counted."""
    from preflight.formulas.layers.lit_layers import OUTPUT, loss_in_pieces, runs_plainly

    if runs_plainly(plan):
        yield from _kept(plan, model, tokens, OUTPUT)
        yield from loss_in_pieces(plan, model, precision_of(plan, model), tokens)


def _outputs_before(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    size = precision_of(plan, model).bytes_of("compute")
    each, before = kept_outputs(plan, model.hidden_size, size), plan.gradient_accumulation_steps - 1
    if each and before:
        yield MemoryTerm(
            "outputs of earlier micro batches, with their graphs",
            before * tokens * each,
            frozenset(STEP_MOMENTS),
            f"{before} x {tokens:,} tokens x {each:,}",
            "verl/workers/engine/fsdp/transformer_impl.py forward_backward_batch (0.8.0)",
            least_bytes=None if "verl" in plan.versions else 0,
        )


def _full(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    precision = precision_of(plan, model)
    size = precision.bytes_of("logits")
    tokens = tokens_with_logits(plan, tokens)
    forward, backward, outputs, of_head, source = whole_logits(plan, model)
    vocab = local_vocab(plan, model.vocab_size)
    entries = tokens * vocab
    if keeps_outputs(plan):
        yield from _kept(plan, model, tokens, outputs)
    yield MemoryTerm(
        "logits and loss, forward",
        forward * entries,
        FORWARD,
        f"{tokens:,} x {vocab:,} x {forward}",
        source,
    )
    cast = cast_in_training(plan, model, tokens)
    # when they are made, of logits and loss what is returned and what the graph holds is left
    more = cast - max(0, forward - outputs - 4) * entries if cast else 0
    if more > 0:
        yield MemoryTerm(
            "keys and values that the forward returns", more, FORWARD, f"{cast:,}, less what the loss let go",
            "accelerate/utils/operations.py convert_outputs_to_fp32",
        )  # fmt: skip
    if kept := kept_by_outputs(plan, model, tokens):
        yield MemoryTerm(
            "products that the forward returns", kept, FORWARD, f"{kept:,}",
            "modeling_chatglm.py SelfAttention.forward: kv_cache, where use_cache is on",
        )  # fmt: skip
    if reads_completion_logits(plan):
        entropy = entropy_bytes(plan, outputs, entries, vocab)
        yield MemoryTerm(
            "entropy of a piece of the logits", entropy, FORWARD, f"{entropy:,}", source
        )
    is_kept = bool(keeps_outputs(plan)) and (outputs == size or holds_copy(plan))
    yield from _idle(plan, size, entries, is_kept)
    if model.vocab_size and not plan.logits_dtype:
        yield MemoryTerm(
            "gradient of the logits",
            of_head * entries,
            frozenset({Moment.HEAD_BACKWARD}),
            f"{tokens:,} x {vocab:,} x {of_head}",
            "torch autograd: cast back to the head's dtype",
        )
    yield MemoryTerm(
        "logits and loss, backward",
        backward * entries,
        BACKWARD,
        f"{tokens:,} x {vocab:,} x {backward}",
        source,
    )


def _pairs(
    plan: LaunchPlan, model: ModelSpec, tokens: int, scoring: Scoring
) -> Iterable[MemoryTerm]:
    """The logits of pairs, and what becomes of them before and after a reference model runs."""
    found = logits_of_pairs(plan, model, tokens, scoring)
    size = precision_of(plan, model).bytes_of("logits")
    entries = tokens * local_vocab(plan, model.vocab_size)
    more = more_logits(plan, model, precision_of(plan, model))
    forward = max(found.forward, found.after) + more["loss"] * entries
    backward = found.backward + more["loss_backward"] * entries
    held = held_with_logits(plan, model, tokens, scoring, has_graph=True)
    if held:
        yield MemoryTerm("held by the model's outputs", held, FORWARD, f"{held:,}", scoring.source)
    if found.waiting:
        yield MemoryTerm(
            "logits and log-probabilities of another forward", found.waiting,
            frozenset({Moment.HEAD_BACKWARD, Moment.LAST_LAYER_BACKWARD}),
            f"{entries:,} entries: {found.waiting:,}", scoring.source,
        )  # fmt: skip
    for name, num_bytes, moments in (
        ("logits and log-probabilities, forward", forward, FORWARD),
        ("logits and log-probabilities, backward", backward, BACKWARD),
        (
            "gradient of the logits",
            (size + more["head"]) * entries,
            frozenset({Moment.HEAD_BACKWARD}),
        ),
    ):
        yield MemoryTerm(
            name, num_bytes, moments, f"{entries:,} entries: {num_bytes:,}", scoring.source
        )
    yield from _idle(plan, size, entries, False)
    before = frozenset({Moment.FORWARD}) | (frozenset() if scoring.lets_go_before else FORWARD)
    for name, moments, is_second in (
        ("logits kept by the loop", AFTER_LOSS - BACKWARD, False),
        ("logits kept from the step before", before, True),
    ):
        if found.kept:
            formula = f"{entries:,} entries: {found.kept:,}"
            yield MemoryTerm(
                name, found.kept, moments, formula, scoring.source,
                from_second_step=is_second and plan.gradient_accumulation_steps == 1,
            )  # fmt: skip


def _kept(plan: LaunchPlan, model: ModelSpec, tokens: int, outputs: int) -> Iterable[MemoryTerm]:
    """The logits of a loop that holds what the model returned: until the model returns again, or until it drops them."""
    rule = output_rule(plan)
    source = rule.source if rule is not None and plan.keeps_outputs is None else "keeps_outputs"
    vocab = local_vocab(plan, model.vocab_size)
    num_bytes = outputs * tokens * vocab
    formula = f"{tokens:,} x {vocab:,} x {outputs}"
    keeps = keeps_outputs(plan)
    moments = AFTER_LOSS - {Moment.OPTIMIZER_STEP} if keeps == "backward" else AFTER_LOSS
    yield MemoryTerm("logits kept by the loop", num_bytes, moments, formula, source)
    if keeps is not True:
        return
    yield MemoryTerm(
        "logits kept from the step before",
        num_bytes,
        frozenset({Moment.FORWARD}) | FORWARD,
        formula,
        source,
        from_second_step=plan.gradient_accumulation_steps == 1,
    )


def _idle(plan: LaunchPlan, size: int, entries: int, is_kept: bool) -> Iterable[MemoryTerm]:
    """What of the loss's own segments serves nothing while its backward peaks (preflight/formulas/allocator.py)."""
    source = "c10/cuda/CUDACachingAllocator.cpp (torch 2.13)"
    if size < 4 and not plan.logits_dtype and not is_kept:
        yield MemoryTerm(
            "segment of 16-bit logits, idle in the loss's backward",
            size * entries,
            BACKWARD,
            f"{entries:,} x {size}: freed, and too small for what is fp32",
            source,
            Level.RESERVED,
        )


def _chunked_ce(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    """The logits exist whole in their own dtype with their gradient; only the fp32 work is in chunks.

    Uncompiled, torchtune's keeps the fp32 log-probabilities of every chunk for backward beside the logits that the
    recipe holds until the loss is there. Compiled it keeps the logits alone, and a chunk's gradient takes their place one
    after the other; the head then adds what each chunk makes of its weight.
    """
    size = precision_of(plan, model).bytes_of("logits")
    entries = tokens * local_vocab(plan, model.vocab_size)
    chunks = tune_chunks(plan)
    chunk = ceil_div(entries, chunks)
    parts = [(2 * size, 12, FORWARD | BACKWARD)]
    if plan.trainer == "torchtune" and plan.torch_compile:
        parts = [(size, 0, FORWARD), (size, size, BACKWARD)]
        yield from _chunks_of_head(plan, model, size * entries)
    elif plan.trainer == "torchtune":
        parts = [(size + 4, 4, FORWARD), (4, 8, BACKWARD)]
    for whole, of_chunk, moments in parts:
        yield MemoryTerm(
            "logits and chunked loss"
            if moments & FORWARD
            else "log-probabilities and a chunk's gradient",
            whole * entries + of_chunk * chunk,
            moments,
            f"{entries:,} x {whole} + {of_chunk} x {chunk:,}",
            f"torchtune/modules/loss/ce_chunked_output_loss.py ({chunks} chunks)",
        )


def _chunks_of_head(plan: LaunchPlan, model: ModelSpec, gradients: int) -> Iterable[MemoryTerm]:
    """The logits' gradients, whole when the head begins, and beside its weight's gradient what another chunk makes of it."""
    head = model.head_params or model.embedding_params
    again = 0 if plan.adapter is not None else precision_of(plan, model).bytes_of("compute") * head
    yield MemoryTerm(
        "gradients of the logits, and of the head's weight by a chunk",
        gradients + again,
        frozenset({Moment.HEAD_BACKWARD}),
        f"{gradients:,} + {again:,}",
        "torchtune/modules/transformer.py chunked_output (0.3.1 to 0.6.1)",
    )


def _compiled_ce(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    """The logits in their own dtype, and in backward their gradient: Inductor makes nothing in fp32 as large as them."""
    size = precision_of(plan, model).bytes_of("logits")
    entries = tokens * local_vocab(plan, model.vocab_size)
    source = "torch._inductor (2.13): cross_entropy(logits.float()) as one kernel forward and one backward"
    for name, each, moment in (
        ("logits, forward", size, Moment.LOSS_FORWARD),
        ("logits and their gradient, backward", 2 * size, Moment.LOSS_BACKWARD),
        ("gradient of the logits", size, Moment.HEAD_BACKWARD),
    ):
        yield MemoryTerm(name, each * entries, frozenset({moment}), f"{entries:,} x {each}", source)


def _chunked_linear(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    """Head and loss together, tile by tile: logits never exist whole."""
    head = head_bytes(plan, model, tokens)
    for name, num_bytes, moments in (
        ("head and loss, a tile in forward", head.forward, FORWARD),
        ("kept by the loss", head.kept, FORWARD | BACKWARD),
        ("head and loss, a tile and gradients in backward", head.backward, BACKWARD),
    ):
        if num_bytes:
            yield MemoryTerm(name, num_bytes, moments, head.formula, head.source)
