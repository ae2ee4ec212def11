"""Copies of stacked experts: unpacked ones of bitsandbytes' parametrization, and deltas of adapters, against traces."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch.nn.utils import parametrize
from torch.utils.checkpoint import set_checkpoint_early_stop

from preflight.derive.costs.formula_table import ends_of_kinds, formulas_of, moments_of
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.formulas.adapters.adaptations import ATTENTION, Adaptation, targets_of
from preflight.formulas.adapters.adapted_experts import expert_names
from preflight.formulas.adapters.unpacked_experts import KEEPS_BEHIND_EXPERTS
from preflight.formulas.limits.untraced import untraced
from preflight.formulas.sharding import held_tensors, scale_bytes
from preflight.memory import Moment
from preflight.model import EXPERTS
from preflight.models import describe
from preflight.trace.build import build
from preflight.trace.job import TraceJob, job_of
from preflight.trace.patches import replaced
from preflight.trace.run import trace

OF_ATTENTION = Adaptation("attention", ATTENTION)
LENGTH = 640
JOB = TraceJob(config={})


def packed_launch(model_type, checkpointing, method="QLoRA, autocast", **changes):
    model = describe(small_config(model_type, NUM_VARIANTS), "small", "here")
    plan = small_launch(model_type, method, checkpointing, seq_len=LENGTH, **changes)
    packed = replace(plan.base_quantization, experts=True)
    adapter = replace(plan.adapter, targets=targets_of(OF_ATTENTION, model))
    return replace(plan, base_quantization=packed, adapter=adapter), model


def scales_of(plan, model):
    """Return the bytes of scales of packed stacks: a trace has parameters alone, not what hangs on them."""
    return sum(
        h.count * scale_bytes(plan, h.tensor.num_params)
        for h in held_tensors(plan, model)
        if h.quantized and h.tensor.kind == EXPERTS
    )


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("model_type", ["qwen3_moe", "mixtral"])
def test_packed_experts_cost_what_bitsandbytes_makes_of_them(plugins, model_type, checkpointing):
    plan, model = packed_launch(model_type, checkpointing)
    traced = moments_of(
        trace(job_of(plan, model, full_depth=True)).levels, ends_of_kinds(plan, model)
    )
    formulas = formulas_of(plan, model, plugins)

    scales = scales_of(plan, model)

    for moment, num_bytes in traced.items():
        assert formulas[moment] - scales == pytest.approx(num_bytes, rel=0.001), moment


def reaching_packed(original):
    """Look for packed stacks as axolotl does, by the end of a path: PEFT alone wants all of it."""

    def inject(self, peft_config, model, *args, **kwargs):
        names = {target.rpartition(".")[2] for target in peft_config.target_parameters or ()}
        peft_config.target_parameters = {
            f"{path}.{name}"
            for path, module in model.named_modules()
            for name in names & {*getattr(module, "parametrizations", ())}
        }
        return original(self, peft_config, model, *args, **kwargs)

    return inject


def as_defined(names):
    """Put gate and up before down, as axolotl does since 0.16."""
    return sorted(names, reverse=True)


def activating(proxy, forgets):
    """Add an adapter's delta to its stack as PEFT before 0.21 does, which keeps nothing of it; axolotl since 0.19 forgets
    what was unpacked before."""

    @contextmanager
    def activate(self, active_adapters):
        base, name = self.get_base_layer(), self.parameter_name
        delta = self.get_delta_weight(*active_adapters)
        parametrize.register_parametrization(base, name, proxy(delta))
        try:
            with parametrize.cached():
                if forgets:
                    parametrize._cache.pop((id(base), name), None)
                yield
        finally:
            self._remove_parametrizations()

    return activate


@pytest.mark.parametrize("release", ["0.18.0", "0.19.0"])
@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_next"])
def test_adapters_on_packed_experts_cost_what_peft_makes_of_them(
    plugins, model_type, release, monkeypatch
):
    """Run again to the end, as reentrant checkpoints are; before 0.19 the inner adapter is never read."""
    layer = importlib.import_module("peft.tuners.lora.layer")
    tuners = importlib.import_module("peft.tuners.tuners_utils")
    tuner = tuners.BaseTuner
    monkeypatch.setattr(tuners, "sorted", as_defined, raising=False)
    plan, model = packed_launch(
        model_type,
        True,
        checkpointing_reentrant=True,
        versions={"peft": "0.20.0", "axolotl": release},
    )
    adapter = replace(plan.adapter, targets=("q_proj", "v_proj", *expert_names(model)))
    plan = replace(plan, adapter=adapter)
    activate = activating(layer._LoraParameterProxy, release == "0.19.0")
    with (
        replaced(layer.ParamWrapper, "_activate_lora", activate),
        replaced(tuner, "_inject_parameters", reaching_packed(tuner._inject_parameters)),
        set_checkpoint_early_stop(False),
    ):
        levels = trace(job_of(plan, model, full_depth=True)).levels
    traced = moments_of(levels, ends_of_kinds(plan, model))
    formulas = formulas_of(plan, model, plugins)

    scales = scales_of(plan, model)
    highest = max(traced.values())
    after = Moment.OPTIMIZER_STEP

    assert max(formulas[m] for m in traced) - scales == pytest.approx(highest, rel=0.01)
    assert formulas[after] - scales == pytest.approx(traced[after], rel=0.001)
    assert UNPRICED not in [p.unpriced for p in untraced(plan, model)]


UNPRICED = "quantized experts"


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "fsdp2", "shard_degree": 8},
        {"engine": "zero3", "shard_degree": 8},
        {"checkpointing_reentrant": False},
        {"model_type": "llama4_text"},
    ],
)
def test_packed_experts_that_nobody_counted_are_named(changes):
    """Whole on every rank or not, kept by bitsandbytes before 0.50, or of a layer whose rows no size tells apart."""
    model_type = changes.pop("model_type", "qwen3_moe")
    plan, model = packed_launch(model_type, True, checkpointing_reentrant=True)
    named = [p.unpriced for p in untraced(replace(plan, **changes), model)]

    assert UNPRICED in named
    assert UNPRICED not in [p.unpriced for p in untraced(*packed_launch("qwen3_moe", False))]


@pytest.mark.parametrize("model_type", [*sorted(KEEPS_BEHIND_EXPERTS), "mixtral"])
def test_a_checkpoint_that_stops_early_runs_experts_to_the_end(model_type):
    """Else a hook behind them is never called, which empties bitsandbytes' cache before 0.50."""
    config = small_config(model_type, NUM_VARIANTS)
    model = build(replace(JOB, config=config, checkpointing=False), device="cpu").model
    begun, ended = [], []
    for name, module in model.named_modules():
        if name.endswith("experts") and list(module.parameters(recurse=False)):
            module.register_forward_pre_hook(lambda *_: begun.append(1))
            module.register_forward_hook(lambda *_: ended.append(1))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    words = torch.zeros((1, 8), dtype=torch.long)
    model(input_ids=words, labels=words).loss.backward()

    assert (len(begun) == len(ended) > 0) == (model_type in KEEPS_BEHIND_EXPERTS)


def whole_delta(self, adapter_name):
    return (self.get_delta_weight(adapter_name),)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["LoRA", "QLoRA, autocast"])
def test_an_older_peft_keeps_the_deltas_of_adapted_experts(plugins, method, checkpointing):
    """What 0.20 does is in newer releases too, for two adapters at once."""
    layer = importlib.import_module("peft.tuners.lora.layer")
    model = describe(small_config("mixtral", NUM_VARIANTS), "small", "here")
    plan = small_launch(
        "mixtral", method, checkpointing, seq_len=LENGTH, versions={"peft": "0.20.0"}
    )
    adapter = replace(plan.adapter, targets=("q_proj", "v_proj", *expert_names(model)))
    plan = replace(plan, adapter=adapter)
    with (
        replaced(layer, "_LoraFactorsProxy", layer._LoraParameterProxy),
        replaced(layer.ParamWrapper, "get_delta_factors", whole_delta),
    ):
        traced = moments_of(trace(job_of(plan, model, full_depth=True)).levels)
    formulas = formulas_of(plan, model, plugins)
    newer = formulas_of(replace(plan, versions={}), model, plugins)
    stacks = sum(t.num_params for t in model.layers[0].tensors if t.kind == EXPERTS)

    assert max(formulas[m] for m in traced) == pytest.approx(max(traced.values()), rel=0.03)
    assert formulas[Moment.FORWARD] - newer[Moment.FORWARD] == 2 * stacks
