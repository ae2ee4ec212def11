"""What torchtune's losses in chunks keep: their loops (torchtune/modules/loss, 0.6.1 and 0.7.0) on tensors without data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from formulas.allocations import Allocations
from some_plugins import plugins_of
from torch._subclasses.fake_tensor import FakeTensorMode
from tune_layers import FEW, WIDTH
from tune_pair_steps import case_of, config_of

from preflight.formulas.layers.chunked_heads import head_bytes
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.formulas.objectives.forward_alone import gathered_in_forward
from preflight.formulas.objectives.log_probabilities import logits_of_pairs, scoring_of
from preflight.formulas.precision import precision_of
from preflight.hooks.memory_loss import preflight_memory_terms
from preflight.hooks.memory_reference import preflight_memory_terms as reference_terms
from preflight.judge import estimate_memory
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.memory import STEP_MOMENTS, Level, Moment
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


def scored(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """get_batch_log_probs and logits_to_logprobs (torchtune/rlhf/sequence_processing.py, 0.3.1 to 0.7.0)."""
    labels, logits = labels[:, 1:].clone(), logits[:, :-1, :]
    mask = labels != -100
    labels[labels == -100] = 0
    each = torch.gather(F.log_softmax(logits / 1.0, dim=-1), 2, labels.unsqueeze(-1)).squeeze(-1)
    return (each * mask).sum(-1)


def peaks_of_pairs(lets_go_before: bool) -> dict[str, int]:
    """Return the most bytes from the logits on, by part, in two steps of lora_dpo_distributed with its adapter off and on."""
    with FakeTensorMode():
        head = torch.nn.Linear(HIDDEN, VOCAB, bias=False, dtype=torch.bfloat16)
        head.weight.requires_grad_(False)
        given = torch.empty((2 * ROWS, LENGTH, HIDDEN), dtype=torch.bfloat16, requires_grad=True)
        labels = torch.empty((2 * ROWS, LENGTH), dtype=torch.long)

        def concatenated(hidden: torch.Tensor) -> list[torch.Tensor]:
            logits = head(hidden).float()
            probabilities = scored(logits, labels)
            return [*probabilities.split(ROWS), *logits.split(ROWS)]

        with Allocations() as seen:
            head.weight.detach()
            hidden = given * 1
            before = seen.now
            reference: list[torch.Tensor] = []
            for step in ("first", "second"):
                hidden = given * 1
                seen.part = f"{step} policy"
                policy = concatenated(hidden)
                policy[2].detach().mean(), policy[3].detach().mean()
                del policy[2:]
                if lets_go_before:
                    reference.clear()
                seen.part = f"{step} reference"
                with torch.no_grad():
                    new = concatenated(hidden)
                reference = new
                del new
                loss = -F.logsigmoid(policy[0] - policy[1] - reference[0] + reference[1]).mean()
                seen.part = f"{step} backward"
                loss.backward()
    return {part: peak - before for part, peak in seen.peaks.items()}


@pytest.mark.parametrize("release", ["0.6.1", "0.7.0"])
def test_pairs_hold_the_logits_of_their_reference(release):
    plan = plan_of(
        "full_logits",
        objective="dpo",
        adapter=Adapter(rank=8, targets="all-linear"),
        versions={"torchtune": release},
    )
    scoring = scoring_of(plan)
    assert scoring is not None
    found = logits_of_pairs(plan, MODEL, 2 * TOKENS, scoring)
    seen = peaks_of_pairs(release == "0.7.0")
    left = 0 if release == "0.7.0" else found.kept
    expected = {
        "first policy": found.forward,
        "first reference": found.beside + found.reference,
        "first backward": found.backward,
        "second policy": found.forward + found.kept,
        "second reference": found.beside + found.reference + left,
        "second backward": found.backward,
    }

    assert found.kept == 4 * 2 * TOKENS * VOCAB
    assert {part: seen[part] for part in expected} == pytest.approx(expected, rel=0.01)


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(__file__).with_name(name).read_text().splitlines()]


PAIRS = rows_of("tune_pairs.jsonl")


@pytest.mark.parametrize("row", rows_of("tune_layers.jsonl"), ids=lambda row: f"{row['adapted']} {row['shape']} {'compiled' if 'compiled' in row else ''}")  # fmt: skip
def test_a_layer_keeps_keys_of_every_head_and_norms_that_train_in_fp32(row):
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    sizes = dict(zip(names, row["shape"], strict=True))
    model = describe({"model_type": "llama", **sizes, "num_hidden_layers": 2, "vocab_size": 1024}, "small", "here")  # fmt: skip
    adapter = Adapter(rank=8, targets=("q_proj", "v_proj"), dtype="bf16")
    plan = plan_of("chunked_ce", attention="sdpa", activation_checkpointing="none", versions={"torchtune": row["torchtune"]}, torch_compile="compiled" in row)  # fmt: skip
    plan = replace(plan, mixed_precision="no", adapter=adapter if row["adapted"] else None)
    saved = layer_costs(plan, model, model.largest_layer, precision_of(plan, model)).saved

    assert saved == pytest.approx(row["kept"], rel=0.03 if row["adapted"] else 0.002)


@pytest.mark.parametrize(
    "row", rows_of("tune_unpacked.jsonl"), ids=lambda row: f"{row['inner']} {row['torchao']}"
)
def test_a_packed_matrix_is_unpacked_by_way_of_wider_ones(row):
    sizes = {
        "hidden_size": WIDTH,
        "intermediate_size": row["inner"],
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    model = describe(
        {"model_type": "llama", **sizes, "num_hidden_layers": 1, "vocab_size": 256}, "small", "here"
    )
    targets = ("q_proj", "gate_proj", "up_proj", "down_proj")
    plan = LaunchPlan(
        trainer="torchtune", load_dtype="bf16", mixed_precision="no", micro_batch_size=1, seq_len=FEW, attention="sdpa",
        activation_checkpointing="none", adapter=Adapter(rank=8, targets=targets, dtype="bf16"),
        base_quantization=BaseQuantization("nf4", True, "bf16", None, "none"), versions={"torchtune": row["torchtune"]},
    )  # fmt: skip
    costs = layer_costs(plan, model, model.largest_layer, precision_of(plan, model))

    assert costs.traced_forward_bytes == pytest.approx(row["peaks"]["forward"], rel=0.03)
    assert costs.traced_backward_bytes == pytest.approx(row["peaks"]["backward"], rel=0.05)


def pairs_plan_of(case: dict[str, Any], **more: Any) -> LaunchPlan:
    plan = LaunchPlan(
        trainer="torchtune", objective="dpo", engine="single", load_dtype=case["dtype"], mixed_precision="no",
        micro_batch_size=case["pairs"], seq_len=case["length"], sequence_kind="padded", attention="sdpa",
        loss="full_logits", activation_checkpointing="full" if case["checkpointing"] else "none",
        optimizer="adamw_torch", optimizer_kernel="for_loop", versions={"torchtune": "0.6.1", "torch": "2.13.0"},
    )  # fmt: skip
    return replace(plan, **more)


@pytest.mark.parametrize("row", PAIRS, ids=lambda row: row["name"])
def test_full_pairs_hold_a_second_copy_and_delete_its_logits(row):
    case = case_of(row["name"])
    plan, model = pairs_plan_of(case), describe(config_of(case), "small", "here")
    plugins = plugins_of("memory_")
    terms = estimate_memory(plan, model, None, plugins).terms
    live = [term for term in terms if term.level is Level.ALLOCATED]
    moments = (*STEP_MOMENTS, Moment.OPTIMIZER_STEP)
    most = max(sum(t.num_bytes for t in live if m in t.moments) for m in moments)

    assert unpriced_objective(plan) == ""
    assert most == pytest.approx(max(row["peaks"].values()), rel=0.03)


def test_a_second_copy_is_sharded_as_the_policy_is():
    case = case_of(PAIRS[0]["name"])
    plan = pairs_plan_of(
        case, engine="fsdp2", world_size=4, shard_degree=4, wrap_policy="transformer"
    )
    model = describe(config_of(case), "small", "here")
    held = {term.name: term.num_bytes for term in reference_terms(plan=plan, model=model)}

    assert 4 * held["parameters of the reference model"] == 2 * model.num_params
    assert held["reference model, gathered and kept"] == gathered_in_forward(plan, model).kept > 0
    assert unpriced_objective(replace(plan, torch_compile=True)) != ""
    assert unpriced_objective(replace(plan, reference_model="other/model")) != ""


@pytest.mark.parametrize("adapter", [None, Adapter(rank=8, targets=("q_proj",), dtype="bf16")])
def test_a_compiled_loss_in_chunks_keeps_the_logits_and_nothing_in_fp32(adapter):
    """The graph of a chunk keeps no tensor as large as the logits; of all chunks these are, with a gradient in the place of each."""
    from partitioned import kept_bytes

    chunk = torch.randn(TOKENS // 64, VOCAB, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.randint(VOCAB, (TOKENS // 64,))
    kept = kept_bytes(lambda: F.cross_entropy(chunk.float(), labels, reduction="sum"))
    plan = plan_of("chunked_ce", torch_compile=True, mixed_precision="no", adapter=adapter)
    entries = 2 * TOKENS * VOCAB
    at = {
        moment: sum(
            term.num_bytes
            for term in preflight_memory_terms(plan, MODEL)
            if moment in term.moments and "norm" not in term.name and "hidden" not in term.name
        )
        for moment in (Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD, Moment.HEAD_BACKWARD)
    }

    assert kept <= 16 * (TOKENS // 64) + 16
    assert at[Moment.LOSS_FORWARD] == entries
    assert at[Moment.LOSS_BACKWARD] == entries + entries // 8
    assert at[Moment.HEAD_BACKWARD] == entries + (0 if adapter else 2 * HIDDEN * VOCAB)
