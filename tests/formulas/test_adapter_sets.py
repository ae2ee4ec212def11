"""Adapters on other sets of targets than every linear layer, in sizes that no coefficient was solved from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.derive.costs.formula_table import compare
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.formulas.adapters.adapters import recorded_layers
from preflight.judge import estimate_memory
from preflight.launch import Adapter
from preflight.launch_facts import ScriptFacts
from preflight.memory import Moment
from preflight.models import describe

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
QUERY_VALUE = ("q_proj", "v_proj")


def adapter(method: str, targets, **more) -> Adapter:
    usual = small_launch("llama", method, False).adapter
    return Adapter("lora", 24, 16, 0.0, targets, more.pop("dtype", usual.dtype), **more)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("model_type", "targets"),
    [
        ("mixtral", ATTENTION),
        ("qwen3_moe", ATTENTION),
        ("olmoe", ATTENTION),
        ("glm4_moe", ATTENTION),
        ("llama", ATTENTION),
        ("llama", QUERY_VALUE),
    ],
)
def test_adapters_on_attention_cost_what_the_trace_shows(
    plugins, model_type, targets, checkpointing
):
    """Experts and MLPs without adapters keep no inputs and make no gradients."""
    for method in ("LoRA", "QLoRA, autocast"):
        found = compare(
            model_type, method, checkpointing, plugins, adapter=adapter(method, targets)
        )
        for compared in found:
            assert abs(compared.error) <= 0.001, compared


@pytest.mark.parametrize(
    ("model_type", "targets"),
    [("phi", ("q_proj", "k_proj", "v_proj")), ("phi", ("fc1",)), ("falcon", ("query_key_value",))],
)
def test_adapters_on_some_projections_of_older_families(plugins, model_type, targets):
    found = compare(model_type, "LoRA", False, plugins, adapter=adapter("LoRA", targets))

    assert abs(peak_of(found)) <= 0.005


@pytest.mark.parametrize("targets", [("up_proj", "down_proj"), ("gate_proj",), ("k_proj",)])
def test_autocast_copies_the_adapters_that_there_are(plugins, targets):
    """A form names one tensor of several of its size: of a plan that adapts others, those of the size are meant."""
    for method in ("LoRA, autocast", "QLoRA, autocast"):
        own = replace(adapter(method, targets), rank=64)
        found = {c.moment: c for c in compare("llama", method, True, plugins, adapter=own)}

        assert abs(found[Moment.LOSS_FORWARD].error) <= 0.0001, found
        assert abs(found[Moment.LAST_LAYER_BACKWARD].error) <= 0.002, found


def test_stacks_of_experts_that_adapters_reach_in_part_are_never_the_reason_to_refuse():
    """Adapters on `down_proj` alone: no trace has that, and what experts keep is counted for all of their stacks."""
    from preflight.formulas.limits.left_out import with_left_out

    model = describe(small_config("deepseek_v2"), "deepseek_v2", "small_models.py")
    for targets, takes in ((("k_proj", "down_proj"), ["less"]), (SEVEN, [])):
        plan = replace(small_launch("deepseek_v2", "LoRA", False), adapter=adapter("LoRA", targets))

        assert [notice.takes for notice in with_left_out(plan, model).notices] == takes


SEVEN = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


@pytest.mark.parametrize("method", ["LoRA, autocast", "QLoRA, prepared, autocast"])
@pytest.mark.parametrize("targets", [SEVEN, ATTENTION])
def test_layers_of_each_kind_are_counted_with_the_adapters_that_they_have(plugins, method, targets):
    """A layer with a recurrent state has none of attention's projections: adapters on its MLP alone, or none."""
    own = adapter(method, targets, dtype="fp32")
    for compared in compare("qwen3_5_text", method, True, plugins, adapter=own):
        assert abs(compared.error) <= 0.005, compared


def test_values_are_kept_beside_keys_that_are_views_of_what_was_convolved(plugins):
    """As many heads of keys as of values: nothing is repeated, and the prepared base keeps fp32 as it is."""
    decoder = small_config("qwen3_5_text", NUM_VARIANTS)["text_config"]
    heads = decoder["linear_num_value_heads"]
    config = {"text_config": {**decoder, "linear_num_key_heads": heads}}
    found = compare("qwen3_5_text", "QLoRA, prepared, autocast", False, plugins, config=config)

    assert peak_of(found) == pytest.approx(0, abs=0.002)


def test_tokens_of_a_gated_delta_rule_are_counted_to_whole_chunks(plugins):
    """Lengths between multiples of 64 are padded (modeling_qwen3_next.py torch_chunk_gated_delta_rule, 5.24.0)."""
    assert 0 <= peak_of(compare("qwen3_5_text", "full", False, plugins, seq_len=333)) <= 0.015


@pytest.mark.parametrize("model_type", ["qwen3_next", "jamba"])
def test_layers_below_the_lowest_adapter_keep_nothing(plugins, model_type):
    """The output of a frozen embedding asks for no gradient where no layer is checkpointed."""
    own = adapter("LoRA, autocast", ATTENTION, dtype="fp32")
    found = compare(model_type, "LoRA, autocast", False, plugins, adapter=own)

    assert abs(peak_of(found)) <= 0.003


def test_layers_below_the_lowest_adapter_keep_all_where_inputs_ask_for_gradients(plugins):
    """As axolotl makes them, and scripts that call enable_input_require_grads."""
    model = describe(small_config("qwen3_next"), "qwen3_next", "small_models.py")
    own = adapter("LoRA, autocast", ATTENTION, dtype="fp32")
    plan = replace(small_launch("qwen3_next", "LoRA, autocast", False), adapter=own)
    asking = replace(plan, script_facts=ScriptFacts(inputs_ask=True))
    kept = {
        name: {t.name: t.num_bytes for t in estimate_memory(one, model, None, plugins, ()).terms}
        for name, one in (("silent", plan), ("asking", asking))
    }
    saved = "activations saved by the layers"

    assert kept["asking"][saved] > 1.2 * kept["silent"][saved]
    trained = replace(plan, adapter=replace(own, modules_to_save=("embed_tokens",)))
    assert recorded_layers(trained, model) == recorded_layers(asking, model)


@pytest.mark.parametrize("model_type", ["granite", "opt", "phi", "gpt_neox"])
def test_dropout_adds_masks_where_adapters_have_inputs_of_their_own(plugins, model_type):
    """What a norm in fp32 hands on is cast for each adapter: dropout's copy is in place of that, not beside it."""
    method = "QLoRA, prepared, autocast"
    own = replace(small_launch("llama", method, False).adapter, dropout=0.05)
    found = compare(model_type, method, False, plugins, adapter=own)

    assert -0.001 <= peak_of(found) <= 0.015  # the first layer of three keeps less


def peak_of(found) -> float:
    """Return the relative error at the peak."""
    formula, traced = (
        max(b) for b in zip(*((c.formula_bytes, c.traced_bytes) for c in found), strict=True)
    )
    return formula / traced - 1


def test_experts_that_an_adapter_leaves_alone_are_never_the_reason_to_refuse():
    """Latent and linear attention were traced with adapters on attention in a few methods: elsewhere it is said."""
    from preflight.formulas.limits.left_out import with_left_out
    from preflight.formulas.limits.untraced import UNTRACED

    model = describe(small_config("qwen3_next"), "qwen3_next", "small_models.py")
    plan = replace(small_launch("qwen3_next", "QLoRA", False), adapter=adapter("QLoRA", ATTENTION))
    packed, plain = (
        [(n.id, n.takes) for n in with_left_out(one, model).notices if n.unpriced == UNTRACED]
        for one in (plan, replace(plan, base_quantization=None))
    )

    assert packed == [("PF129", "less")]
    assert plain == []
