"""Losses that never have whole logits: what a tile of them takes, and the gradients that are made with it.

TRL's fused head      tiles of 4096 tokens x 32768 entries in a buffer of that size, fp32 sums of gradients
TRL 1.7 to 1.14       256 tokens at a time, recomputed in backward
torchtitan's wrapper  an eighth of the sequence at a time, backward included, while the loss is taken
torchtune's           an eighth of the tokens at a time, and all of them kept for backward
Liger                 about hidden / vocabulary of the tokens at a time, gradients made in forward
Liger's GRPO, DPO     a completion or a pair at a time, gradients made in forward, of a head that is frozen too
"""

from __future__ import annotations

from preflight.formulas.objective import ONLINE, reference_of, scored_tokens, steps_of_rollout
from preflight.formulas.precision import precision_of, uses_autocast
from preflight.formulas.sharding import wraps_both_ends
from preflight.formulas.tensor_parallel import cuts_stream, local_vocab
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.plan_choices import HF_TRAINERS
from preflight.units import ceil_div
from preflight.values import NamedTuple
from preflight.versions.trl import FUSES_HEAD

TRL_TILE = (4096, 32768)
"""Tokens and vocabulary entries of the fused head's buffer (trl/kernels/chunked_logprob.py:31, utils.py:1506, 1.16.0),
which is that wide for smaller vocabularies too (line 349)."""
TRL_CHUNK_TOKENS = 256
"""_CHUNKED_LM_HEAD_CHUNK_SIZE (trl/trainer/sft_trainer.py:87, 1.14.0)."""
TUNE_NUM_CHUNKS = 8
"""num_output_chunks of LinearCrossEntropyLoss and CEWithChunkedOutputLoss (torchtune/modules/loss, 0.6.1 and 0.7.0)."""
TITAN_NUM_CHUNKS = 8
"""ChunkedLossWrapper.Config.num_chunks (torchtitan/components/loss.py, 0.3.0)."""


def tune_chunks(plan: LaunchPlan) -> int:
    """Return in how many parts torchtune takes its loss, where the recipe's config says, or by default."""
    said = plan.trainer_facts.value("num_output_chunks", TUNE_NUM_CHUNKS)
    return said if plan.trainer == "torchtune" else TUNE_NUM_CHUNKS


class HeadBytes(NamedTuple):
    """Bytes of a head and its loss, beside the hidden states that it reads."""

    forward: int
    """Alive in its forward alone."""
    kept: int
    """From its forward to its backward."""
    backward: int
    """Alive in its backward alone, gradients of hidden states and head among them."""
    formula: str
    source: str


LIGERS_PIECE = (2048, 4096)
"""Tokens and vocabulary entries of a piece of a completion (liger_kernel/chunked_loss/fused_linear_ppo.py, 0.8.0)."""


def takes_ligers_chunks(plan: LaunchPlan) -> bool:
    """Tell whether Liger takes GRPO's loss, completion by completion, or DPO's, pair by pair."""
    return (
        plan.objective in ("grpo", "dpo") and plan.loss == "fused_linear" and plan.trainer == "trl"
    )


def skips_head(plan: LaunchPlan) -> bool:
    """Tell whether a loss reads the weight of a head whose own forward never runs, so that FSDP2 ends its unit with the root's
    (torch/distributed/fsdp/_fully_shard/_fsdp_state.py _force_complete_incomplete_states, 2.13)."""
    return plan.loss in ("chunked_linear", "fused_linear") and plan.trainer in HF_TRAINERS


def gathers_head_itself(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether TRL's fused head gathers the head, in the dtype that it is loaded in, since FSDP2 does not in its step."""
    return _is_head_alone(plan, model) and not (
        is_head_left(plan, model) and steps_of_rollout(plan) == 1
    )


def is_head_left(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether the head's own forward ran in a rollout of the policy itself, which leaves it gathered until a backward has
    ended (torch/distributed/fsdp/_fully_shard/_fsdp_state.py _root_post_backward_final_callback, 2.13)."""
    generates = plan.generation is not None and plan.generation.engine == "transformers"
    return generates and plan.objective in ONLINE and _is_head_alone(plan, model)


def _is_head_alone(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether FSDP2 has the head as a unit whose own forward a loss does not run.

    accelerate finds no final norm within PEFT's wrapper, so that the head is a unit alone (utils/fsdp_utils.py:857-880,
    1.15.0), and its weight is still sharded when it is read (trl/trainer/utils.py:1626, 1.16.0).
    """
    is_alone = plan.engine == "fsdp2" and plan.adapter is not None and not model.tied
    is_fused = plan.loss == "chunked_linear" and plan.trainer == "trl"
    return is_alone and is_fused and FUSES_HEAD.holds_in(plan.versions) and wraps_both_ends(plan)


def head_bytes(plan: LaunchPlan, model: ModelSpec, tokens: int) -> HeadBytes:
    """Return the bytes of a plan's chunked_linear or fused_linear loss."""
    if takes_ligers_chunks(plan):
        return _ligers_answers(plan, model, tokens)
    if plan.loss == "chunked_linear" and plan.trainer == "trl":
        if FUSES_HEAD.holds_in(plan.versions):
            return _fused_head(plan, model, tokens)
        return _recomputed_chunks(plan, model, tokens)
    if plan.loss == "chunked_linear" and plan.trainer == "torchtitan":
        return _titan_chunks(plan, model, tokens)
    if plan.loss == "chunked_linear" and plan.trainer == "torchtune":
        return _tune_chunks(plan, model, tokens)
    return _liger(plan, model, tokens)


class _Sizes(NamedTuple):
    compute: int
    hidden: int
    """Bytes per element of the hidden states that reach the head."""
    weight: int
    """Of the head's weight as the loss reads it."""
    trains: bool


def _sizes(plan: LaunchPlan, model: ModelSpec) -> _Sizes:
    precision = precision_of(plan, model)
    compute = precision.bytes_of("compute")
    trains = plan.adapter is None
    weight = compute
    is_whole = plan.engine in ("single", "ddp")  # sharded engines gather it in the compute dtype
    if is_whole or gathers_head_itself(plan, model):
        weight = precision.bytes_of("trainable" if trains else "frozen")
    # fp32 weights of embeddings and norms make an fp32 stream under autocast
    hidden = 4 if is_whole and weight == 4 and uses_autocast(plan) else compute
    return _Sizes(compute, hidden, weight, trains)


def _fused_head(plan: LaunchPlan, model: ModelSpec, tokens: int) -> HeadBytes:
    """Copies of the scored positions, one buffer, and in backward fp32 sums beside what they are cast to."""
    size = _sizes(plan, model)
    h, vocab = model.hidden_size, model.vocab_size
    scored = scored_tokens(plan, tokens)
    rows = min(scored, TRL_TILE[0])
    tile = size.compute * rows * TRL_TILE[1]
    if size.weight != size.compute:
        tile += size.compute * min(vocab, TRL_TILE[1]) * h
    if size.hidden != size.compute:
        tile += size.compute * rows * h
    kept = size.hidden * scored * h
    sums = _with_cast(size.hidden) * scored * h
    if size.trains:
        # the last norm's output, which a linear head would keep and is counted with the norm, is gone
        sums += _with_cast(size.weight) * vocab * h - size.hidden * tokens * h
    return HeadBytes(
        tile,
        kept,
        # of long prompts that are not scored the norm's output alone is more
        max(0, tile + sums),
        f"{rows:,} x {TRL_TILE[1]:,} x {size.compute}; {scored:,} x {h:,}"
        + (f"; {vocab:,} x {h:,}" if size.trains else ""),
        "trl/kernels/chunked_logprob.py:349, 417-478; trainer/utils.py:1645 (1.16.0)",
    )


def _with_cast(size: int) -> int:
    """Return the bytes of an fp32 sum and of its copy in a dtype of `size` bytes."""
    return 4 if size == 4 else 4 + size


def _recomputed_chunks(plan: LaunchPlan, model: ModelSpec, tokens: int) -> HeadBytes:
    """A chunk's logits in fp32, its log-probabilities, and two tensors of its entropy; both again in backward.

    In backward a chunk's gradient of the hidden states is as large as all of them, and adding it to the sum of
    earlier chunks makes a third; the head's gradients are added up likewise.
    """
    size = _sizes(plan, model)
    h, vocab = model.hidden_size, model.vocab_size
    scored = scored_tokens(plan, tokens)
    entries = min(scored, TRL_CHUNK_TOKENS) * vocab
    tile = 16 * entries + (size.hidden * vocab * h if size.weight != size.hidden else 0)
    states = size.hidden * scored * h
    weight = size.weight * vocab * h if size.trains else 0
    least = max(tile + states + weight, 3 * states + weight, states + 3 * weight)
    norm = size.hidden * tokens * h if size.trains else 0  # as in the fused head
    return HeadBytes(
        tile,
        states,
        max(0, least - norm),
        f"{entries:,} x 16; {scored:,} x {h:,}" + (f"; {vocab:,} x {h:,}" if size.trains else ""),
        "trl/trainer/sft_trainer.py _chunk, _chunked_cross_entropy_loss (1.14.0)",
    )


def _titan_chunks(plan: LaunchPlan, model: ModelSpec, tokens: int) -> HeadBytes:
    """Forward and backward of each chunk while the loss is taken, gradients of the hidden states in fp32.

    Under tensor parallelism each rank has a part of the vocabulary, whose loss takes 4 bytes of a logit more (docs/parallelism.md).
    """
    size = _sizes(plan, model)
    h, vocab = model.hidden_size, local_vocab(plan, model.vocab_size)
    entries = ceil_div(tokens, TITAN_NUM_CHUNKS) * vocab
    kept = 4 * tokens * h
    of_logit = size.compute + (16 if cuts_stream(plan) else 12)
    forward = of_logit * entries + 2 * size.hidden * tokens * h
    if size.trains:
        forward += 2 * size.weight * vocab * h
    return HeadBytes(
        forward,
        kept,
        0,
        f"{entries:,} x {of_logit}; {tokens:,} x {h:,}"
        + (f"; {vocab:,} x {h:,}" if size.trains else ""),
        "torchtitan/components/loss.py ChunkedLossWrapper, GradAccumulator (0.3.0)",
    )


def _tune_chunks(plan: LaunchPlan, model: ModelSpec, tokens: int) -> HeadBytes:
    """A chunk's logits in their own dtype and in fp32, of which autograd keeps the log-probabilities of every chunk.

    The tokens are copied where labels are not ignored; all of them may count. Compiled, a chunk is one kernel each way
    and its logits are kept in their own dtype (the partitioner runs no product twice).
    """
    size = _sizes(plan, model)
    h, vocab = model.hidden_size, local_vocab(plan, model.vocab_size)
    entries, chunk = tokens * vocab, ceil_div(tokens, tune_chunks(plan)) * vocab
    states = size.hidden * tokens * h
    if plan.torch_compile:
        kept, forward, backward = size.compute, 0, size.compute
    else:
        kept, forward, backward = 4, size.compute + 4, 8
    return HeadBytes(
        forward * chunk,
        kept * entries + states,
        backward * chunk,
        f"{entries:,} x {kept} + {tokens:,} x {h:,} x {size.hidden}; {chunk:,} x {max(forward, backward)}",
        "torchtune/modules/loss/cross_entropy_loss.py LinearCrossEntropyLoss (0.7.0)",
    )


def _liger(plan: LaunchPlan, model: ModelSpec, tokens: int) -> HeadBytes:
    """Logits of a chunk become their gradient where they lie; both gradients live from forward to backward."""
    size = _sizes(plan, model)
    h, vocab = model.hidden_size, model.vocab_size
    least = ceil_div(tokens, ceil_div(vocab, h))
    rows = min(tokens, 1 << (least - 1).bit_length())
    kept = size.hidden * tokens * h
    if size.trains:
        kept += size.weight * vocab * h
    return HeadBytes(
        size.compute * rows * vocab,
        kept,
        0,
        f"{rows:,} x {vocab:,} x {size.compute}; {tokens:,} x {h:,}"
        + (f"; {vocab:,} x {h:,}" if size.trains else ""),
        "liger_kernel/ops/fused_linear_cross_entropy.py:71-115 (0.8.5)",
    )


def _ligers_answers(plan: LaunchPlan, model: ModelSpec, tokens: int) -> HeadBytes:
    """Logits of a completion or a pair in fp32 with all that autograd makes of them, or of a piece beside gradients in fp32.

    E entries, W the head, counted without torch.compile (which makes less): of a pair 16 E, in fp32 with W beside; of a
    completion 14 E, and 12 E + W in fp32 to 0.7, 20 of a piece + 2 W and W from 0.8 on. Which Liger a launch has nobody
    says: the larger. A head that does not train had its gradient made all the same to 0.8.0. Compiled, a pair's are 8 E (12 in
    fp32): logits, the reference's, and what log-probabilities are scattered to in fp32, beside the gradient; one graph does for
    all lengths (Inductor's buffers on torch 2.13, Liger 0.5.10 to 0.8.5).
    """
    size = _sizes(plan, model)
    h, vocab = model.hidden_size, model.vocab_size
    scored = scored_tokens(plan, tokens)
    weight, states = size.weight * vocab * h, size.hidden * scored * h
    beside = weight if size.weight == 4 else 0
    samples = max(1, plan.micro_batch_size or 1)
    entries = ceil_div(scored, samples) * vocab
    if plan.objective == "dpo":
        forward = 16 * entries + beside
        if reference_of(plan) != "none":
            forward += states
    else:
        length = ceil_div(scored, samples)
        piece = min(length, LIGERS_PIECE[0]) * min(vocab, LIGERS_PIECE[1])
        whole = (12 if beside else 14) * entries + beside
        forward = max(whole, 20 * piece + (weight if beside else 2 * weight))
    return HeadBytes(
        forward,
        states + weight,
        0,
        f"{entries:,} entries at a time: {forward:,}; {scored:,} x {h:,}; {vocab:,} x {h:,}",
        "liger_kernel/chunked_loss/fused_linear_ppo.py, fused_linear_preference.py (0.5.10, 0.7.0, 0.8.0, 0.8.5)",
    )
