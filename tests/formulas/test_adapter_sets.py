"""Adapters on other sets of targets than every linear layer, in sizes that no coefficient was solved from."""

from __future__ import annotations

import pytest

from preflight.derive.formula_table import compare
from preflight.derive.small_models import small_launch
from preflight.launch import Adapter
from preflight.plugins import load_plugins

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
QUERY_VALUE = ("q_proj", "v_proj")


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    return load_plugins(str(tmp_path_factory.mktemp("here")))


def adapter(method: str, targets, **more) -> Adapter:
    usual = small_launch("llama", method, False).adapter
    return Adapter("lora", 24, 16, more.pop("dropout", 0.0), targets, usual.dtype, **more)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("model_type", "targets"),
    [
        ("mixtral", ATTENTION),
        ("qwen3_moe", ATTENTION),
        ("olmoe", ATTENTION),
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
    formula, traced = (
        max(b) for b in zip(*((c.formula_bytes, c.traced_bytes) for c in found), strict=True)
    )

    assert formula == pytest.approx(traced, rel=0.005)


def test_experts_that_an_adapter_leaves_alone_are_never_the_reason_to_refuse():
    """Latent and linear attention were traced with adapters on attention in a few methods: elsewhere it is said."""
    from dataclasses import replace

    from preflight.derive.small_models import small_config, small_launch
    from preflight.formulas.left_out import with_left_out
    from preflight.models import describe

    model = describe(small_config("qwen3_next"), "qwen3_next", "small_models.py")
    plan = replace(small_launch("qwen3_next", "QLoRA", False), adapter=adapter("QLoRA", ATTENTION))
    (notice,) = with_left_out(plan, model).notices

    assert (notice.id, notice.takes) == ("PF129", "less")
    assert with_left_out(replace(plan, base_quantization=None), model).notices == ()
