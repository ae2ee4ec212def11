"""axolotl's strided EBFT at most: blocks that are sampled all along a row, features of them, and a loss of every sample.

One step of AxolotlStridedEBFTTrainer (core/trainers/ebft/strided.py, 0.18.0), for each of a row's samples, which are as
long as the row and its blocks:

    generate     one forward a token without a graph, with eager attention under a dense mask; the logits of all tokens
                 are there as the model gives them and in fp32, beside those of the token before
    loss         one forward a sample, whose graph waits for the others; log-probabilities of its tokens in fp32
    features     one forward of all samples beside these graphs, with every layer's outputs, of which some are compared
    backward     what the estimate has of as many rows with whole logits

Features are of the policy with its adapter off where a rank sees one card, else of a copy in 16 bits on the next card, which
has that other rank's forwards beside its own step. Steps of the trainer were counted on a CPU, 1.0 to 3 times of which
is taken here (tests/formulas/test_strided_blocks.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from preflight.formulas.layers.key_values import cache_bytes
from preflight.formulas.objectives.reward_models import is_laid_out, layer_at_hand
from preflight.formulas.outside_torch import PROCESS_BYTES
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import held_tensors
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm, Moment, at_most
from preflight.model import ModelSpec
from preflight.values import NamedTuple, replace


class Blocks(NamedTuple):
    """What strided EBFT makes of a row: blocks of tokens that it samples all along it, and features of some layers."""

    length: int
    """Tokens of a row and of all its blocks."""
    sampled_length: int
    """Tokens that the last of every block is sampled after."""
    num_samples: int
    num_layers: int
    """Layers whose outputs are compared."""


EBFT_DEFAULTS = {"stride": 8, "context_length": 8, "generate_max_len": 8, "n_samples_per_prompt": 4}
"""What its keys are where nobody says them (axolotl/utils/schemas/config.py EBFTConfig, 0.18.0)."""


def blocks_of(plan: LaunchPlan) -> Blocks | None:
    """Return the blocks of a row as long as all may be, which begin at its start at the earliest; None without a length."""
    said = {
        name: int(plan.trainer_facts.value(f"ebft_{name}", each))
        for name, each in EBFT_DEFAULTS.items()
    }
    stride, context, tokens, samples = said.values()
    if plan.seq_len is None:
        return None
    num_blocks = max(0, (plan.seq_len - tokens - context) // stride + 1)
    layers = plan.trainer_facts.value("ebft_feature_layers", (0.25, 0.5, 0.75))
    length = plan.seq_len + num_blocks * tokens
    return Blocks(length, length - num_blocks, samples, len(layers))


_term = partial(at_most, source=__name__)

SCORES = 12
"""Bytes of a score of eager attention: as it is, masked, in fp32 as its softmax, and again in 16 bits."""
OUTPUT, WIDENED = 2, 6
"""Bytes of an element that a model gives back: in 16 bits, and in fp32 beside it by the wrapper that accelerate puts around
the policy's forward (accelerate/utils/operations.py convert_outputs_to_fp32, 1.15.0)."""
TOKEN_BEFORE = 4
"""Bytes of a logit of the token before, which stays until the next has its own."""
DRAWN = 12
"""Bytes of a logit that a block's next token is drawn from, with its chance, which stay as long."""
COMPARED = 24
"""Bytes of an element of the features: chosen, each normalised, put together, and cut into blocks, in fp32."""
WHITENED = 12
"""Bytes of an element of a block's whitening matrix, in fp32, with what it is made of."""


def blocks_at_most(
    plan: LaunchPlan, model: ModelSpec
) -> tuple[LaunchPlan, list[MemoryTerm]] | None:
    """Return the plan of a step of whole samples, and what such a step takes beside it; None where nobody counted it."""
    blocks = blocks_of(plan)
    is_plain = plan.engine in ("single", "ddp") and not plan.torch_compile
    is_plain &= plan.base_quantization is None and plan.sequence_kind != "packed"
    is_plain &= plan.load_dtype == plan.mixed_precision == "bf16"
    if not is_plain or blocks is None or not plan.micro_batch_size or not is_laid_out(model):
        return None
    if plan.adapter is not None and (
        plan.adapter.modules_to_save or "head" in str(plan.adapter.targets)
    ):
        return None  # every chunk of the head has a copy of a weight in fp32, which its graph keeps
    rows = plan.micro_batch_size * blocks.num_samples
    eval_rows = plan.eval_micro_batch_size and plan.eval_micro_batch_size * blocks.num_samples
    whole = replace(
        plan,
        micro_batch_size=rows,
        eval_micro_batch_size=eval_rows,
        seq_len=blocks.length,
        loss="full_logits",
    )
    return whole, list(_terms(whole, model, blocks, max(rows, eval_rows or 0)))


def _terms(plan: LaunchPlan, model: ModelSpec, blocks: Blocks, rows: int) -> Iterator[MemoryTerm]:
    trained = sum(h.count * h.tensor.num_params for h in held_tensors(plan, model) if h.trains)
    if plan.adapter is not None and plan.activation_checkpointing == "none":
        copies = 2 * rows * trained
        yield _term(
            "an adapter in 16 bits for each sample", copies, ALWAYS, f"{rows} x {trained:,}"
        )
    if plan.adapter is None:
        head = (
            2 * OUTPUT * model.vocab_size * model.hidden_size
        )  # of one sample, and of those before
        yield _term(
            "gradients of the head beside other samples' graphs",
            head,
            {Moment.LOSS_BACKWARD},
            f"{head:,}",
        )
    sampling = _sampling(plan, model, blocks, rows)
    yield _term("blocks that are sampled", sampling, {Moment.FORWARD}, f"{sampling:,}")
    width = blocks.num_layers * model.hidden_size
    compared = COMPARED * rows * blocks.length * width + WHITENED * width**2
    own = compared + _features(plan, model, blocks, rows, WIDENED)
    others = 0
    if (
        plan.world_size > 1
    ):  # a rank that sees one card alone has its own features there, and no others'
        of_copy = _features(plan, model, blocks, rows, OUTPUT)
        others = of_copy + 2 * model.num_params + PROCESS_BYTES
        formula = f"{of_copy:,} + 2 x {model.num_params:,} + {PROCESS_BYTES:,}"
        yield _term("features of another rank's samples", others, ALWAYS, formula)
    elif plan.adapter is None:
        yield _term(
            "a copy for features", 2 * model.num_params, ALWAYS, f"2 x {model.num_params:,}"
        )
    beside = max(compared, own - others)
    yield _term("features of samples", beside, {Moment.LOSS_FORWARD}, f"{own:,}")
    if plan.eval_micro_batch_size:
        evaluated = max(sampling, own)
        yield _term("an evaluation of samples", evaluated, {Moment.EVALUATION}, f"{evaluated:,}")
    if plan.world_size > 1 or plan.adapter is None:
        held = held_tensors(plan, model)
        size = precision_of(plan, model).bytes_of("trainable")
        copy = size * sum(each.count * each.tensor.num_params for each in held)
        yield _term("a copy on its way", others + copy, {Moment.PREPARE}, f"{others:,} + {copy:,}")


def _sampling(plan: LaunchPlan, model: ModelSpec, blocks: Blocks, rows: int) -> int:
    """Return what the last token of all blocks takes: scores beside logits of the token before, or logits beside them."""
    tokens = rows * blocks.sampled_length
    entries, pairs = tokens * model.vocab_size, tokens * blocks.sampled_length
    num_heads = max(u.layer.num_heads for u in model.layers if u.layer is not None)
    at_work = max(WIDENED * entries, SCORES * num_heads * pairs + layer_at_hand(plan, model, rows))
    masks = 2 * OUTPUT * pairs
    cached = cache_bytes(plan, model, rows, blocks.length)
    drawn = DRAWN * rows * (blocks.length - blocks.sampled_length) * model.vocab_size
    return TOKEN_BEFORE * entries + drawn + at_work + masks + cached


def _features(plan: LaunchPlan, model: ModelSpec, blocks: Blocks, rows: int, size: int) -> int:
    """Return what a forward of all samples takes that gives back every layer's outputs, each element in so many bytes."""
    tokens = rows * blocks.length
    outputs = tokens * (model.vocab_size + (model.num_layers + 1) * model.hidden_size)
    masks = 2 * OUTPUT * tokens * blocks.length
    cached = cache_bytes(plan, model, rows, blocks.length)
    return size * outputs + layer_at_hand(plan, model, rows) + masks + cached
