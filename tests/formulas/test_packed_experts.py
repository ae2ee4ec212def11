"""Packed experts at most: what FSDP2 divides of them, against traces, and what axolotl's scattermoe makes, as counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from recorded import recorded
from torch.distributed.fsdp._fully_shard._fsdp_param import FSDPParam
from torch.utils.checkpoint import set_checkpoint_early_stop

from preflight.derive.costs.formula_table import ends_of_kinds, formulas_of, moments_of
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.errors import Problem
from preflight.formulas.adapters.adaptations import ATTENTION, Adaptation, targets_of
from preflight.formulas.layers.packed_experts import scattered
from preflight.formulas.limits.bounds import dearest_of
from preflight.formulas.sharding import held_tensors
from preflight.memory import EVERY_STEP, Moment
from preflight.model import EXPERTS, LayerShape, ModelSpec, ModelUnit, ParameterTensor
from preflight.models import describe
from preflight.plugins import load_plugins
from preflight.trace import quantized, run
from preflight.trace.job import job_of
from preflight.trace.patches import replaced
from preflight.unpriced_names import PACKED_EXPERTS

LENGTH = 640


def keeping_bytes(original):
    """Gather packed bytes as they are, as axolotl does (monkeypatch/fsdp2_qlora.py apply_init_dtype_attrs_patch)."""

    def attributes(self, policy):
        original(self, policy)
        if not self.sharded_param.is_floating_point():
            self.param_dtype = None

    return attributes


def with_scales(original):
    """Give scales fake tensors too, which are no parameters."""

    def to_fake(model):
        original(model)
        for module in model.modules():
            state = getattr(module, "quant_state", None)
            for one in (state, getattr(state, "state2", None)):
                for name in ("absmax", "code", "offset"):
                    tensor = getattr(one, name, None)
                    if tensor is not None:
                        setattr(one, name, torch.empty(tensor.shape, dtype=tensor.dtype))

    return to_fake


def traced_on_two_ranks(plan, model):
    """Return a trace of a plan whose stacks alone are packed: FSDP2 takes a packed linear layer with a patch of axolotl's."""
    job = replace(job_of(plan, model, full_depth=True), engine="fsdp2", shard_degree=2, mixed=True)
    with (
        replaced(quantized, "_packed", lambda linear, _: linear),
        replaced(FSDPParam, "init_dtype_attrs", keeping_bytes(FSDPParam.init_dtype_attrs)),
        replaced(run, "to_fake", with_scales(run.to_fake)),
        set_checkpoint_early_stop(False),
    ):
        return moments_of(run.trace(job).levels, ends_of_kinds(plan, model))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe"])
def test_packed_experts_that_fsdp2_divides_are_no_more_than_their_bound(
    tmp_path, model_type, checkpointing
):
    model = describe(small_config(model_type, NUM_VARIANTS), "small", "here")
    plan = small_launch(
        model_type, "QLoRA, autocast", checkpointing, seq_len=LENGTH, checkpointing_reentrant=True
    )
    targets = targets_of(Adaptation("attention", ATTENTION), model)
    plan = replace(
        plan,
        adapter=replace(plan.adapter, targets=targets),
        base_quantization=replace(plan.base_quantization, experts=True, storage_dtype="bf16"),
    )
    traced = traced_on_two_ranks(plan, model)
    shared = {"engine": "fsdp2", "world_size": 2, "shard_degree": 2, "reshard_after_forward": True}
    notices = (Problem("", unpriced=PACKED_EXPERTS, takes="either"),)
    plan = replace(plan, **shared, notices=notices)
    formulas = formulas_of(plan, model, load_plugins(str(tmp_path)))
    linears = sum(
        held.count * held.tensor.num_params
        for held in held_tensors(plan, model)
        if held.quantized and held.tensor.kind != EXPERTS
    )

    dearest = dearest_of(plan, model, {})
    assert dearest is not None and dearest.names == {PACKED_EXPERTS}
    for moment, num_bytes in traced.items():
        beside = sum(term.num_bytes for term in dearest.terms if moment in term.moments)

        assert num_bytes <= formulas[moment] + beside + 2 * linears, moment
    if model_type == "mixtral":  # with large experts the rest is the same
        assert max(formulas[m] for m in traced) == pytest.approx(max(traced.values()), rel=0.03)


def model_of(case):
    """Return a model of one layer with nothing but its stacks."""
    number, hidden, inner = case["experts"], case["hidden"], case["inner"]
    shape = LayerShape(
        hidden_size=hidden,
        intermediate_size=inner,
        num_heads=1,
        num_kv_heads=1,
        head_dim=hidden,
        num_experts=number,
        experts_per_token=case["chosen"],
        moe_intermediate_size=inner,
    )
    stacks = (
        ParameterTensor("mlp.experts.gate_up_proj", (number, 2 * inner, hidden), EXPERTS),
        ParameterTensor("mlp.experts.down_proj", (number, hidden, inner), EXPERTS),
    )
    layer = ModelUnit("model.layers.*", "layer", stacks, 1, shape)
    return ModelSpec("one layer", {}, "mixtral", hidden, 1, 1, (layer,))


@pytest.mark.parametrize("case", recorded("scattered_steps.jsonl"))
def test_scattermoe_makes_no_more_than_its_bound(case):
    plan = replace(
        small_launch("mixtral", "QLoRA, autocast", True, checkpointing_reentrant=True),
        micro_batch_size=1,
        seq_len=case["tokens"],
    )
    terms = scattered(plan, model_of(case), case["rank"])
    passing = [t for t in terms if Moment.FORWARD in t.moments and t.moments >= {*EVERY_STEP}]
    bound = sum(term.num_bytes for term in passing if Moment.SAVE not in term.moments)

    assert bound / 5 < max(case["peaks"].values()) < bound / 2
