"""Adapters that are no two matrices: what their kinds take by linear layer, against real modules and real models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.derive.costs.adapter_steps import made, step_of
from preflight.derive.costs.formula_table import compare
from preflight.derive.layouts.small_models import small_launch
from preflight.formulas.adapters.adapter_kinds import (
    configs,
    keeps_input,
    kept_once,
    kept_per_token,
    num_parameters,
    options_of,
)
from preflight.plan_parts import Adapter

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SIZES = {"oft": 32, "miss": 16, "vera": 16, "adalora": 12, "waveft": 500, "shira": 4, "loha": 4}
OTHER_SHAPE = (640, 896, 56)
"""Inputs, outputs and tokens that no form was solved from."""


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("oft", "LoRA, autocast"),
        ("oft", "LoRA, fp32 adapters"),
        ("ia3", "LoRA"),
        ("ia3", "LoRA, autocast"),
        ("miss", "LoRA, autocast"),
        ("loha", "LoRA"),
        ("vera", "LoRA, autocast"),
    ],
)
@pytest.mark.parametrize("targets", [ALL, ("q_proj", "v_proj")])
def test_a_model_with_such_an_adapter_takes_what_the_trace_shows(plugins, kind, method, targets):
    """A hundredth at most at the peak, where LoRA of the usual rank would be up to 40 % off."""
    usual = small_launch("llama", method, False).adapter
    adapter = replace(usual, kind=kind, rank=SIZES.get(kind, 8), targets=targets)
    found = compare("llama", method, False, plugins, adapter=adapter, seq_len=2048)
    formula, traced = (
        max(b) for b in zip(*((c.formula_bytes, c.traced_bytes) for c in found), strict=True)
    )

    assert formula == pytest.approx(traced, rel=0.01)


@pytest.mark.parametrize("kind", ["oft", "ia3", "miss", "loha"])
def test_a_checkpointed_model_is_never_priced_below_the_trace(plugins, kind):
    usual = small_launch("llama", "LoRA, autocast", True).adapter
    adapter = replace(usual, kind=kind, rank=SIZES.get(kind, 8), targets=ALL)
    found = compare("llama", "LoRA, autocast", True, plugins, adapter=adapter, seq_len=2048)
    formula, traced = (
        max(b) for b in zip(*((c.formula_bytes, c.traced_bytes) for c in found), strict=True)
    )

    assert 0.99 < formula / traced < 1.3  # of a model whose passing tensors are a third of it


@pytest.mark.parametrize(
    "kind", ["adalora", "ia3", "loha", "miss", "oft", "shira", "vera", "waveft"]
)
def test_a_real_module_of_another_size_keeps_what_the_forms_say(kind):
    """Of widths and tokens that no form was solved from, in fp32 adapters on bf16 under autocast."""
    import peft
    import torch

    torch.set_num_threads(1)
    inputs, outputs, tokens = OTHER_SHAPE
    adapter, mode = Adapter(kind, SIZES.get(kind, 8)), ("bf16", "fp32", True)
    name, options = options_of(kind, adapter.rank, ())
    step = step_of(getattr(peft, name), options, OTHER_SHAPE, mode)
    usual = step_of(peft.LoraConfig, {"r": 1}, OTHER_SHAPE, mode)
    kept = sum(size for _, size in step.forward)
    once = (
        sum(size for _, size in usual.forward) - tokens * (2 * inputs + 2) - 2 * (inputs + outputs)
    )

    assert step.keeps_input == keeps_input(adapter, "q_proj", mode)
    assert once == 0
    assert kept == tokens * kept_per_token(adapter, "q_proj", outputs, inputs, mode) + kept_once(
        adapter, "q_proj", outputs, inputs, mode
    )
    trained, _ = made(getattr(peft, name), options, (inputs, outputs), 1)
    assert num_parameters(adapter, "q_proj", outputs, inputs) == trained


def test_every_kind_that_a_plan_may_name_is_a_config_of_peft():
    import peft

    assert {"ia3", "oft", "adalora", "vera"} <= {*configs().values()}
    assert all(hasattr(peft, name) for name in configs())
