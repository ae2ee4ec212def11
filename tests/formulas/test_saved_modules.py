"""Modules trained whole beside an adapter: what an embedding or a head makes the layers keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.derive.formula_table import compare
from preflight.derive.small_models import small_launch
from preflight.plugins import load_plugins


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    return load_plugins(str(tmp_path_factory.mktemp("here")))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("modules", [("lm_head",), ("embed_tokens",), ("embed_tokens", "lm_head")])
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_saved_modules_cost_what_the_trace_shows(plugins, model_type, modules, checkpointing):
    usual = small_launch(model_type, "LoRA", checkpointing).adapter
    adapter = replace(usual, modules_to_save=modules)
    found = compare(model_type, "LoRA", checkpointing, plugins, adapter=adapter)
    formula, traced = (
        max(b) for b in zip(*((c.formula_bytes, c.traced_bytes) for c in found), strict=True)
    )

    assert formula == pytest.approx(traced, rel=0.002)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("modules", [("lm_head",), ("embed_tokens", "lm_head")])
def test_saved_modules_in_fp32_are_cast_by_autocast(plugins, modules, checkpointing):
    """The head's copy is there from the loss on, and an fp32 embedding makes the stream fp32."""
    usual = small_launch("llama", "LoRA, autocast", checkpointing).adapter
    adapter = replace(usual, modules_to_save=modules)
    found = compare("llama", "LoRA, autocast", checkpointing, plugins, adapter=adapter)
    formula, traced = (
        max(b) for b in zip(*((c.formula_bytes, c.traced_bytes) for c in found), strict=True)
    )

    assert formula == pytest.approx(traced, rel=0.006)
