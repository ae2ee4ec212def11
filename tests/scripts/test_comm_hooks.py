"""A hook that DDP hands its gradients to is no silent `fits`: what PowerSGD keeps is bounded by twice the gradients."""

from __future__ import annotations

import subprocess
import sys

import pytest
from launch_of_script import plan_of

import preflight
from preflight.unpriced_names import COMM_HOOK

SCRIPT = """\
import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel as DDP
from transformers import AutoModelForCausalLM

torch.distributed.init_process_group("nccl")
model = AutoModelForCausalLM.from_pretrained("{model}", torch_dtype=torch.float32)
model = DDP(model.cuda())
{hook}
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
for batch in torch.utils.data.DataLoader(train_rows, batch_size=1, shuffle=True):
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""
POWER = "model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)"
LAUNCH = "torchrun --nproc_per_node 8 t.py"


@pytest.mark.parametrize(
    ("hook", "is_named"),
    [
        (POWER, True),
        ("model.register_comm_hook(None, mine)", True),
        ("model.register_comm_hook(None, default_hooks.fp16_compress_hook)", False),
        ("kwargs = DistributedDataParallelKwargs(comm_hook=DDPCommunicationHookType.POWER_SGD)", True),
        ("kwargs = DistributedDataParallelKwargs(comm_hook=DDPCommunicationHookType.BF16)", False),
    ],
)  # fmt: skip
def test_a_hook_that_keeps_something_is_named(tmp_path, hook, is_named):
    script = SCRIPT.format(model="Qwen/Qwen2.5-0.5B", hook=hook)
    plan = plan_of(tmp_path, LAUNCH, {"t.py": script})

    assert (COMM_HOOK in {notice.unpriced for notice in plan.notices}) == is_named


def test_a_hook_that_no_engine_calls_is_not_named(tmp_path):
    script = SCRIPT.format(model="Qwen/Qwen2.5-0.5B", hook=POWER).replace("DDP(", "fully_shard(")
    plan = plan_of(tmp_path, LAUNCH, {"t.py": script})

    assert COMM_HOOK not in {notice.unpriced for notice in plan.notices}


@pytest.mark.parametrize(
    ("model", "hook", "answer"),
    [
        ("Qwen/Qwen2.5-0.5B", POWER, "fits"),
        ("Qwen/Qwen2.5-3B", POWER, "unknown"),
        ("Qwen/Qwen2.5-3B", "", "fits"),
    ],
)
def test_a_launch_fits_where_the_most_of_it_does(tmp_path, model, hook, answer):
    (tmp_path / "t.py").write_text(SCRIPT.format(model=model, hook=hook))
    report = preflight.check(
        LAUNCH.split(),
        device="h100-sxm-80",
        cwd=tmp_path,
        settings={"seq_len": 256, "activation_checkpointing": "full", "load_dtype": "fp32"},
    )

    assert report.verdict.answer.value == answer
    is_bounded = hook == POWER and answer == "fits"
    assert report.verdict.bounded == ((COMM_HOOK,) if is_bounded else ())
    assert (
        f"the most that {COMM_HOOK} may take fits" in " ".join(report.text.split())
    ) is is_bounded


COUNTED = """
import sys
import torch
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
layers = [torch.nn.Linear(64, 64) for _ in range(4)]
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(*layers))
state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=8, start_powerSGD_iter=2)
model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
for _ in range(4):
    model(torch.ones(2, 64)).sum().backward()
held = (state.error_dict, state.p_memory_dict, state.q_memory_dict)
kept = sum(t.numel() * t.element_size() for each in held for t in each.values())
print(kept, sum(4 * p.numel() for p in model.parameters()), flush=True)
os._exit(0)  # gloo's threads are not waited for
"""


@pytest.mark.libraries
def test_power_sgd_keeps_no_more_than_is_bounded(tmp_path):
    script = "import os" + COUNTED
    command = [sys.executable, "-c", script, str(tmp_path / "store")]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    kept, gradients = map(int, told.stdout.split())

    assert gradients <= kept <= 2 * gradients
