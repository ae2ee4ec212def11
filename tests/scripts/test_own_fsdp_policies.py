"""What a script's own fully_shard is told by its policies: where shards lie, and in which dtype they stay."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from launch_of_script import opens, plan_of
from test_own_engines import TORCHRUN, loop

from preflight.formulas.precision import precision_of
from preflight.judge import estimate_memory
from preflight.launch import Adapter
from preflight.plugins import load_plugins

CONFIG = "config = dict(offload_policy=CPUOffloadPolicy() if args.offload else None, mesh=None)\n"
SHARD = "for layer in model.layers:\n    fully_shard(layer, **config)\nfully_shard(model, **config)"


@pytest.mark.parametrize(
    ("wrapping", "words", "offload"),
    [
        (CONFIG + SHARD, "", "none"),
        (CONFIG + SHARD, " --offload", "cpu"),
        ('config = {"offload_policy": CPUOffloadPolicy()}\n' + SHARD, "", "cpu"),
        ("fully_shard(model, offload_policy=OffloadPolicy())", "", "none"),
        ("policy = CPUOffloadPolicy(pin_memory=False)\nfully_shard(model, offload_policy=policy)", "", "cpu"),
        ("model = FSDP(model, **dict(cpu_offload=CPUOffload(offload_params=True)))", "", "cpu"),
    ],
)  # fmt: skip
def test_an_offload_policy_is_read_where_a_dict_holds_it(wrapping, words, offload, tmp_path):
    plan = plan_of(tmp_path, TORCHRUN + words, loop(wrapping))

    assert plan.offload_params == offload
    assert "offload_params" not in opens(plan)


@pytest.mark.parametrize(
    "wrapping",
    [
        'config = {}\nif torch.cuda.mem_get_info()[0] < 2**36:\n    config["offload_policy"] = CPUOffloadPolicy()\n' + SHARD,
        'config = {}\nconfig.update({"offload_policy": CPUOffloadPolicy()})\n' + SHARD,
        "config = made_elsewhere()\n" + SHARD,
        "policy = None if args.offload else policy\nfully_shard(model, offload_policy=policy)",
        "fully_shard(model, offload_policy=made_elsewhere())",
        "for layer in model.layers:\n    fully_shard(layer, offload_policy=CPUOffloadPolicy())\nfully_shard(model)",
    ],
)  # fmt: skip
def test_a_policy_that_only_running_tells_refuses_nothing(wrapping, tmp_path):
    plan = plan_of(tmp_path, TORCHRUN, loop(wrapping))

    assert plan.engine == "fsdp2"
    assert "offload_params" in opens(plan)


STEP = """\
import json, torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = torch.nn.Linear(8, 8).to(torch.bfloat16)
policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
fully_shard(model, mp_policy=policy, mesh=dist.init_device_mesh("cpu", (1,)))
optimizer = torch.optim.AdamW(model.parameters())
model(torch.ones(2, 8)).sum().backward()
optimizer.step()
weight = model.weight
kept = [weight, weight.grad, optimizer.state[weight]["exp_avg"]]
print(json.dumps([str(each.dtype) for each in kept]))
"""


def test_an_fsdp_call_of_the_scripts_own_leaves_the_dtype_of_the_weights(tmp_path):
    """accelerate makes them fp32, and nothing else does: 33 GiB of a 70B over 8 ranks."""
    pytest.importorskip("torch")
    made = subprocess.run(
        [sys.executable, "-c", STEP], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert json.loads(made.stdout.splitlines()[-1]) == ["torch.bfloat16"] * 3

    plan = plan_of(tmp_path, TORCHRUN, loop("fully_shard(model)"))
    model = load_plugins().first("preflight_describe_model", plan=plan)
    kept = precision_of(replace(plan, mixed_precision="bf16"), model)
    assert (kept.trainable, kept.gradient, kept.optimizer_state) == ("bf16", "bf16", "bf16")
    wide = precision_of(replace(plan, mixed_precision="bf16", load_dtype="fp32"), model)
    assert (wide.trainable, wide.compute) == ("fp32", "bf16")
    adapted = replace(plan, mixed_precision="bf16", adapter=Adapter())
    assert precision_of(adapted, model).trainable == "fp32"  # as PEFT makes them on 16 bits


def test_no_host_holds_fp32_copies_that_accelerate_alone_makes(tmp_path):
    plan = replace(plan_of(tmp_path, TORCHRUN, loop("fully_shard(model)")), mixed_precision="bf16")
    plugins, name = load_plugins(), "host: fp32 copies before sharding"
    model = plugins.first("preflight_describe_model", plan=plan)

    def names(of):
        return {term.name for term in estimate_memory(of, model, None, plugins).terms}

    assert name not in names(plan)
    assert name in names(replace(plan, master_dtype=None, trainer="transformers"))
