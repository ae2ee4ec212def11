"""What torchtune's losses in chunks keep: their loops (torchtune/modules/loss, 0.6.1 and 0.7.0) on tensors without data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from formulas.allocations import Allocations
from torch._subclasses.fake_tensor import FakeTensorMode

from preflight.formulas.chunked_heads import head_bytes
from preflight.hooks.memory_loss import preflight_memory_terms
from preflight.launch import LaunchPlan
from preflight.memory import Moment
from preflight.models import describe

ROWS, LENGTH, HIDDEN, VOCAB = 2, 2048, 256, 32000
TOKENS = ROWS * LENGTH
MODEL = describe(
    {"model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": 512, "vocab_size": VOCAB}
    | {"num_hidden_layers": 1, "num_attention_heads": 4, "tie_word_embeddings": False},
    "small",
    "here",
)  # fmt: skip


def plan_of(loss: str, **more: Any) -> LaunchPlan:
    return LaunchPlan(
        trainer="torchtune",
        load_dtype="bf16",
        micro_batch_size=ROWS,
        seq_len=LENGTH,
        sequence_kind="padded",
        loss=loss,
        **more,
    )


def in_chunks_of_the_output(head: torch.nn.Linear, hidden: torch.Tensor, labels: torch.Tensor):
    """CEWithChunkedOutputLoss behind TransformerDecoder.chunked_output; the recipe's `del logits` is the return."""
    logits = [head(chunk) for chunk in hidden.chunk(8, dim=1)]
    total: Any = 0.0
    for chunk, label in zip(logits, labels.chunk(8, dim=1), strict=True):
        flat = chunk.reshape(-1, VOCAB)
        total += F.cross_entropy(flat.float(), label.reshape(-1), reduction="sum")
    return total / TOKENS


def in_chunks_of_the_head(head: torch.nn.Linear, hidden: torch.Tensor, labels: torch.Tensor):
    """LinearCrossEntropyLoss, with no label that is ignored."""

    def of_chunk(states: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        logits = head(states)
        return F.cross_entropy(logits.float(), label, reduction="sum")

    indices = torch.arange(TOKENS)
    states = hidden.reshape(-1, HIDDEN).index_select(0, indices)
    label = labels.reshape(-1).index_select(0, indices)
    total = torch.tensor(0.0)
    for chunk, target in zip(states.tensor_split(8), label.tensor_split(8), strict=True):
        total += of_chunk(chunk, target)
    return total / TOKENS


def peaks_of(loss_of: Callable[..., torch.Tensor]) -> tuple[int, int]:
    """Return the most bytes beside head and hidden states while the loss is taken, and in its backward."""
    with FakeTensorMode():
        head = torch.nn.Linear(HIDDEN, VOCAB, bias=False, dtype=torch.bfloat16)
        head.weight.requires_grad_(False)
        given = torch.empty((ROWS, LENGTH, HIDDEN), dtype=torch.bfloat16, requires_grad=True)
        labels = torch.empty((ROWS, LENGTH), dtype=torch.long)
        with Allocations() as seen:
            hidden = given * 1
            head.weight.detach()  # seen here, and no more of the loss
            before, seen.part = seen.now, "forward"
            loss = loss_of(head, hidden, labels)
            seen.part = "backward"
            loss.backward()
    return seen.peaks["forward"] - before, seen.peaks["backward"] - before


def test_the_head_in_chunks_keeps_the_log_probabilities_of_all_of_them():
    forward, backward = peaks_of(in_chunks_of_the_head)
    head = head_bytes(plan_of("chunked_linear"), MODEL, TOKENS)

    assert head.kept + head.forward == pytest.approx(forward, rel=0.01)
    assert head.kept + head.backward == pytest.approx(backward, rel=0.01)


def test_the_output_in_chunks_keeps_them_beside_the_logits():
    forward, backward = peaks_of(in_chunks_of_the_output)
    terms = list(preflight_memory_terms(plan=plan_of("chunked_ce"), model=MODEL))
    held = {
        moment: sum(t.num_bytes for t in terms if moment in t.own_moments and "chunk" in t.name)
        for moment in (Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD)
    }

    assert held[Moment.LOSS_FORWARD] == pytest.approx(forward, rel=0.01)
    assert held[Moment.LOSS_BACKWARD] == pytest.approx(backward, rel=0.02)


def test_a_compiled_chunk_keeps_its_logits_in_their_own_dtype():
    """The partitioner that torch.compile uses, on a chunk of real tensors: the head's product is not run twice."""
    tokens, vocab = 512, 4000
    head = torch.nn.Linear(64, vocab, bias=False, dtype=torch.bfloat16)
    states = torch.randn((tokens, 64), dtype=torch.bfloat16, requires_grad=True)

    def of_chunk(rows: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(head(rows).float(), label, reduction="sum")

    compiled = torch.compile(of_chunk, backend="aot_eager_decomp_partition")
    loss = compiled(states, torch.randint(0, vocab, (tokens,)))
    saved = [t for t in loss.grad_fn.saved_tensors if t.shape == (tokens, vocab)]
    plan = plan_of("chunked_linear", torch_compile=True)
    kept = head_bytes(plan, MODEL, TOKENS).kept

    assert [t.dtype for t in saved] == [torch.bfloat16]
    assert kept == 2 * TOKENS * VOCAB + 2 * TOKENS * HIDDEN
