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
