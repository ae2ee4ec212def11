"""What a table says of a config: rounded sizes, layers that were never met together, lists as letters, kernels."""

from dataclasses import replace

import pytest

from preflight.device import DeviceSpec
from preflight.errors import ModelNotKnown
from preflight.formulas.layers.installed_kernels import KERNELS
from preflight.formulas.limits.left_out import with_left_out
from preflight.formulas.limits.untraced import UNTRACED
from preflight.judge import judge_plan
from preflight.launch import LaunchPlan
from preflight.models import describe
from preflight.models.families.expressions import evaluate
from preflight.models.registry import find_model
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.units import GIB
from preflight.verdict import Answer

GRANITE = {
    "model_type": "granitemoehybrid", "architectures": ["GraniteMoeHybridForCausalLM"], "hidden_size": 1536,
    "intermediate_size": 512, "layer_types": ["mamba", "attention"] * 4, "mamba_d_head": 64, "mamba_d_state": 128,
    "mamba_n_heads": 48, "num_attention_heads": 12, "num_experts_per_tok": 6, "num_hidden_layers": 8,
    "num_key_value_heads": 4, "num_local_experts": 62, "shared_intermediate_size": 1024, "vocab_size": 49160,
}  # fmt: skip


def test_a_size_is_rounded_up_to_a_multiple():
    sizes = {"intermediate_size": 6656, "block_multiple_of": 256}

    assert evaluate("2*intermediate_size//3^block_multiple_of", sizes.__getitem__) == 4608


@pytest.mark.parametrize(
    "name", ["LiquidAI/LFM2-350M", "LiquidAI/LFM2-2.6B", "tiiuae/Falcon-H1-0.5B-Base"]
)
def test_a_published_model_is_counted_with_its_switches(name):
    """LFM2's MLP is rounded or not by a switch; Falcon-H1's heads are of a size that its class does not declare."""
    entry = find_model(name)

    assert describe(entry.config, name, "the registry").num_params == entry.num_params


def test_kinds_of_layers_have_their_old_names_too():
    new = {"mamba": "linear_attention", "attention": "full_attention"}
    renamed = {**GRANITE, "layer_types": [new[kind] for kind in GRANITE["layer_types"]]}
    old, today = (describe(config, "mine", "a test") for config in (GRANITE, renamed))

    assert [unit.places for unit in old.layers] == [unit.places for unit in today.layers]


def test_layers_that_no_model_of_the_table_had_are_not_known():
    """Kimi Linear's dense layers were met with linear attention alone."""
    kinds = {"layer_types": ["full_attention"] * 4, "mlp_layer_types": ["dense", *["sparse"] * 3]}
    kimi = {
        "model_type": "kimi_linear",
        "architectures": ["KimiLinearForCausalLM"],
    }

    with pytest.raises(ModelNotKnown, match="layer 0 of this kimi_linear"):
        describe({**kimi, "num_hidden_layers": 4, **kinds}, "mine", "a test")
    with pytest.raises(ModelNotKnown, match="head_dim 96"):
        describe({**GRANITE, "head_dim": 96}, "mine", "a test")


def _judged(versions, gib, seq_len=4096, **changes):
    plan = LaunchPlan(
        model_config=GRANITE, micro_batch_size=4, seq_len=seq_len, load_dtype="bf16", attention="sdpa",
        trainer="plain_loop", optimizer="sgd", sequence_kind="fixed", versions=versions, **changes,
    )  # fmt: skip
    model = describe(GRANITE, "mine", "a test")
    device = DeviceSpec(name="a card", capacity_bytes=gib * GIB)
    return judge_plan(plan, load_plugins("."), Policy(), model, device)


NEW = {"transformers": "5.24.0", "torch": "2.13.0"}


def test_kernels_take_less_so_a_refusal_does_not_rest_on_torch_code():
    """Where states alone are too large no kernel helps; where layers are, it may fit with kernels installed."""
    assert _judged(NEW, 1000).verdict.answer is Answer.FITS
    assert _judged(NEW, 1).verdict.answer is Answer.DOES_NOT_FIT
    between = _judged(NEW, 24).verdict
    assert (between.answer, between.unpriced) == (Answer.UNKNOWN, (KERNELS,))


def test_an_older_release_scans_in_more_memory_so_it_is_no_fit_either():
    """Where nobody says a release it may be any."""
    model = describe(GRANITE, "mine", "a test")
    plan = LaunchPlan(
        micro_batch_size=1, seq_len=512, load_dtype="bf16", trainer="plain_loop", attention="sdpa"
    )
    plan = with_left_out(replace(plan, versions={}), model)

    assert [n.takes for n in plan.notices if n.unpriced == KERNELS] == ["either"]


@pytest.mark.parametrize(
    ("name", "release", "takes"),
    [
        ("zai-org/GLM-4.5", "5.0.0", ["more"]),
        ("zai-org/GLM-4.5", "5.12.0", []),
        ("Qwen/Qwen1.5-MoE-A2.7B", "5.0.0", []),
        ("Qwen/Qwen1.5-MoE-A2.7B", "4.57.6", []),
        ("Qwen/Qwen3-30B-A3B", "5.0.0", []),
    ],
)
def test_experts_of_an_older_release_keep_more_than_they_were_traced_with(name, release, takes):
    """docs/versions.md: up to a fifth more in 5.0, unless the release has a table of the family; before, they were a loop
    over linear layers, which has forms of its own."""
    entry = find_model(name)
    model = describe(entry.config, entry.id, "the registry")
    plan = LaunchPlan(micro_batch_size=1, seq_len=512, versions={"transformers": release})

    found = with_left_out(plan, model).notices
    assert [notice.takes for notice in found if notice.unpriced == UNTRACED] == takes


@pytest.mark.parametrize("named", [[[["BertModel"]]], [{}], [None]])
def test_a_class_that_is_no_text_is_one_that_nobody_knows(named):
    config = {"model_type": "bert", "architectures": named}

    with pytest.raises(ModelNotKnown):
        describe(config, "mine", "a test")
