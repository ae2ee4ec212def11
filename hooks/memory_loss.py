"""The loss head: logits and what the cross entropy makes of them, by loss kind and transformers version.

Bytes per token and vocabulary entry, c the bytes of the logits, on top of all saved activations:

    transformers >= 4.49  forward c + 4 + 4   ForCausalLMLoss: float(), log_softmax (loss/loss_utils.py)
                          backward 4 + 4 + 4  log-probabilities, gradient of nll, gradient of log_softmax
    4.45 to 4.48          forward c + 4 + 4 + 4   the shifted logits were copied too
    before 4.45           forward 4 + 4 + 4       the model itself upcast its logits
    logits_dtype bf16     4c                  the model's own loss, shifted and not upcast (gpt_bigcode);
                          2c + 4 + 4 + 4      under autocast, which runs cross entropy in fp32
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.layer_costs import more_logits, shared_bytes, uses_autocast
from preflight.memory import STEP_MOMENTS, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.precision import precision_of, version_of
from preflight.sharding import num_tokens
from preflight.units import ceil_div

FORWARD = frozenset({Moment.LOSS_FORWARD})
BACKWARD = frozenset({Moment.LOSS_BACKWARD})
TRL_TILE = (4096, 32768)
"""Tokens and vocabulary entries of one tile of TRL's chunked head (trl/kernels/chunked_logprob.py:31, 1.16.0)."""
TRL_TILE_BYTES = 256 * 1024**2
LOST_SEGMENTS_DIVISOR = 2
"""Of the segments that the loss takes in forward, one half does not serve the next turn: what is smaller is
carved out of them first, and the next logits need new ones. Fitted 2026-11: 7 of 14 bytes per token and
vocabulary entry in the single-GPU LoRA runs of fms_a100 (5.7 to 11.6), and a share of the loss rather than 7 bytes
because that serves the runs with bf16 logits too. tests/memory/test_allocator.py holds it against a replayed
trace, which nothing was fitted to (docs/decisions.md, 23)."""
SHIFTED_COPY_UNTIL = (4, 49)
UPCAST_IN_MODEL_UNTIL = (4, 45)


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
    loss = plan.loss or "full_logits"
    if loss == "full_logits":
        yield from _full(plan, model, tokens)
    elif loss in ("chunked_ce", "fused_ce"):
        yield from _chunked_ce(plan, model, tokens)
    else:
        yield from _chunked_linear(plan, model, tokens, trains)


def _full(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    size = precision_of(plan, model).bytes_of("logits")
    version = version_of(plan, "transformers")
    if plan.trainer == "torchtitan":
        forward, backward = size + 4 + 4, 4 + 4 + 4 + 4
        source = "torchtitan: the model upcasts its output (2024-05), and the loop keeps it across backward"
    elif plan.trainer in ("torchtune", "litgpt"):
        forward, backward = size + 4 + 4, size + 4 + 4 + 4
        source = "float() in the loss; the loop keeps the logits across backward"
    elif plan.logits_dtype in ("bf16", "fp16"):
        forward = backward = 4 * size
        source = "cross entropy in the logits' own dtype, shifted copy included"
        if uses_autocast(plan):
            forward, backward = 2 * size + 8, 2 * size + 12
            source = "cross_entropy is on autocast's fp32 list (aten/src/ATen/autocast_mode.h)"
    else:
        forward, backward = size + 4 + 4, 12
        source = "transformers/loss/loss_utils.py ForCausalLMLoss (5.24.0)"
        if version < UPCAST_IN_MODEL_UNTIL:
            forward, source = 12, "transformers/models/llama/modeling_llama.py:1209 (4.44)"
        elif version < SHIFTED_COPY_UNTIL and (plan.micro_batch_size or 1) > 1:
            # contiguous() copies the shifted logits of several sequences; those of one are contiguous
            forward, source = size + 12, "transformers/loss/loss_utils.py (4.48)"
        if size == 4 and version >= SHIFTED_COPY_UNTIL:
            forward = 8  # float() of fp32 logits is no copy
        if plan.trainer == "plain_loop":
            backward += size  # the usual loop keeps `outputs` alive across backward
            source += "; outputs are kept across backward in a plain loop"
    if plan.logits_dtype is None and size == 2:
        more = more_logits(plan, model, precision_of(plan, model))
        forward, backward = forward + more[0], backward + more[1]
    entries = tokens * model.vocab_size
    yield MemoryTerm(
        "logits and loss, forward",
        forward * entries,
        FORWARD,
        f"{tokens:,} x {model.vocab_size:,} x {forward}",
        source,
    )
    if not plan.expandable_segments:
        yield MemoryTerm(
            "segments of the loss that the next turn cannot use",
            forward * entries // LOST_SEGMENTS_DIVISOR,
            frozenset(STEP_MOMENTS),
            f"{tokens:,} x {model.vocab_size:,} x {forward} / {LOST_SEGMENTS_DIVISOR}",
            "LOST_SEGMENTS_DIVISOR, fitted",
            Level.RESERVED,
        )
    if model.vocab_size and not plan.logits_dtype:
        yield MemoryTerm(
            "gradient of the logits",
            size * entries,
            frozenset({Moment.HEAD_BACKWARD}),
            f"{tokens:,} x {model.vocab_size:,} x {size}",
            "torch autograd: cast back to the head's dtype",
        )
    yield MemoryTerm(
        "logits and loss, backward",
        backward * entries,
        BACKWARD,
        f"{tokens:,} x {model.vocab_size:,} x {backward}",
        source,
    )


def _chunked_ce(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    """The logits exist whole in their own dtype with their gradient; only the fp32 work is in chunks of 1/8."""
    size = precision_of(plan, model).bytes_of("logits")
    entries = tokens * model.vocab_size
    chunk = ceil_div(entries, 8)
    total = 2 * size * entries + 12 * chunk
    yield MemoryTerm(
        "logits and chunked loss",
        total,
        FORWARD | BACKWARD,
        f"{entries:,} x 2 x {size} + 12 x {chunk:,}",
        "torchtune/modules/loss/ce_chunked_output_loss.py (8 chunks)",
    )


def _chunked_linear(
    plan: LaunchPlan, model: ModelSpec, tokens: int, trains: bool
) -> Iterable[MemoryTerm]:
    """Head and loss together, tile by tile: logits never exist whole."""
    c = precision_of(plan, model).bytes_of("compute")
    h, vocab = model.hidden_size, model.vocab_size
    if plan.trainer == "trl" and plan.loss == "chunked_linear":
        tile = min(TRL_TILE_BYTES, min(tokens, TRL_TILE[0]) * min(vocab, TRL_TILE[1]) * c)
        kept, grad_hidden, grad_weight = c * tokens * h, 4 * tokens * h, 4 * vocab * h
        source = "trl/kernels/chunked_logprob.py:31, 347, 406 (1.16.0)"
        weight_moments = BACKWARD
    else:
        # Liger: about h/V of the tokens at a time; both gradients are made in forward
        rows = ceil_div(tokens, max(1, vocab // h))
        tile = rows * vocab * (c + 4)
        kept, grad_hidden, grad_weight = c * tokens * h, c * tokens * h, c * vocab * h
        source = "liger_kernel/ops/fused_linear_cross_entropy.py"
        weight_moments = FORWARD | BACKWARD
    yield MemoryTerm(
        "one tile of logits",
        tile,
        FORWARD | BACKWARD,
        f"{tile:,} bytes of {tokens:,} x {vocab:,}",
        source,
    )
    yield MemoryTerm(
        "hidden states kept by the loss",
        kept + grad_hidden,
        FORWARD | BACKWARD,
        f"{tokens:,} x {h:,} with their gradient",
        source,
    )
    if trains:
        yield MemoryTerm(
            "gradient of the head made by the loss",
            grad_weight,
            weight_moments,
            f"{vocab:,} x {h:,}",
            source,
        )
