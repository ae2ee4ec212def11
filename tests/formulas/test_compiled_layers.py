"""Layers under torch.compile keep what PyTorch's own partitioner keeps."""

from __future__ import annotations

import pytest
import torch
from partitioned import NUM_TOKENS, kept_by_one_layer, kept_bytes, small_model

from preflight.formulas.layers.layer_bytes import LayerCosts
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.precision import precision_of
from preflight.hooks import memory_loss
from preflight.launch import Adapter, LaunchPlan
from preflight.models import describe

LORA = Adapter("lora", 8, 16, 0.0, "all-linear", "bf16")


def priced(config: dict[str, object], adapter: Adapter | None, trainer: str) -> LayerCosts:
    model = describe(config, "small", "test")
    plan = LaunchPlan(
        engine="single",
        trainer=trainer,
        load_dtype="bf16",
        mixed_precision="no",
        micro_batch_size=1,
        seq_len=NUM_TOKENS,
        attention="sdpa",
        adapter=adapter,
        torch_compile=True,
        activation_checkpointing="none",
    )
    unit = next(unit for unit in model.layers if unit.layer is not None)
    return layer_costs(plan, model, unit, precision_of(plan, model))


@pytest.mark.parametrize(
    ("family", "adapter", "config"),
    [
        ("llama", None, {}),
        ("gemma3_text", None, {"head_dim": 32}),
        ("gpt2", LORA, {}),
        ("mixtral", None, {}),
    ],
    ids=["llama", "norms of queries and after", "gpt2, lora", "mixtral"],
)
def test_a_compiled_layer_keeps_what_the_partitioner_keeps(family, adapter, config):
    kept, settings = kept_by_one_layer(family, adapter is not None, **config)

    assert priced(settings, adapter, "transformers").saved == pytest.approx(kept, rel=0.01)


def test_a_compiled_layer_under_selective_checkpointing_keeps_what_the_partitioner_keeps():
    """torchtitan's rule: attention and every second matrix product; the last of them nothing reads."""
    from torch.utils.checkpoint import (
        CheckpointPolicy,
        checkpoint,
        create_selective_checkpoint_contexts,
    )

    def contexts():
        products = 0

        def policy(context, operation, *args, **kwargs):
            nonlocal products
            products += operation is torch.ops.aten.mm.default
            is_kept = operation is torch.ops.aten.mm.default and products % 2 == 1
            is_kept |= "scaled_dot_product" in str(operation)
            return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE

        return create_selective_checkpoint_contexts(policy)

    model = small_model("llama", 2, False, num_key_value_heads=8)
    start = torch.zeros(1, NUM_TOKENS, 256, dtype=torch.bfloat16, requires_grad=True)
    tables = torch.zeros(1, NUM_TOKENS, 32, dtype=torch.bfloat16)

    def run(layers):
        hidden = start
        for layer in layers:
            hidden = checkpoint(
                lambda h, one=layer: one(h, position_embeddings=(tables, tables)),
                hidden,
                use_reentrant=False,
                context_fn=contexts,
            )
        return hidden

    layers = list(model.model.layers)
    kept = kept_bytes(lambda: run(layers)) - kept_bytes(lambda: run(layers[:1]))
    costs = priced(model.config.to_dict(), None, "torchtitan")

    assert costs.selective == pytest.approx(kept / NUM_TOKENS, rel=0.01)


def test_a_compiled_loss_keeps_the_logits_as_they_are_and_nothing_in_fp32():
    """torchtitan's cross_entropy_loss (components/loss.py, 0.1.0): its graph keeps two fp32 numbers a token."""
    vocab = 512
    logits = torch.randn(2, NUM_TOKENS // 2, vocab, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.randint(vocab, (2, NUM_TOKENS // 2))

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(0, 1))

    kept = kept_bytes(loss)
    plan = LaunchPlan(
        engine="single", trainer="torchtitan", load_dtype="bf16", micro_batch_size=2,
        seq_len=NUM_TOKENS // 2, loss="compiled_ce", torch_compile=True,
    )  # fmt: skip
    config = {"model_type": "llama", "hidden_size": 64, "vocab_size": vocab, "num_hidden_layers": 1}
    model = describe({**config, "num_attention_heads": 4, "intermediate_size": 64}, "small", "test")
    terms = {term.name: term.num_bytes for term in memory_loss.preflight_memory_terms(plan, model)}

    assert terms["logits, forward"] == 2 * NUM_TOKENS * vocab
    assert kept <= 2 * 8 * NUM_TOKENS + 8  # of what is no input of the graph; logits are one
    assert terms["logits and their gradient, backward"] == 2 * terms["logits, forward"]
