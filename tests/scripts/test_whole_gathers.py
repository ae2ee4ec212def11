"""A model that a script gathers whole is no silent `fits`: it is named where its engine divides it and all of it may not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launch_of_script import plan_of

import preflight
from preflight.unpriced_names import GATHERED, STATE_DICT_ON_CARD

SCRIPT = """\
import torch
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP, StateDictType, FullStateDictConfig
from transformers import AutoModelForCausalLM

torch.distributed.init_process_group("nccl")
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-7B", torch_dtype=torch.bfloat16)
model.gradient_checkpointing_enable()
model = FSDP(model, auto_wrap_policy=by_layer, device_id=torch.cuda.current_device())
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
for batch in torch.utils.data.DataLoader(train_rows, batch_size=1, shuffle=True):
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
{saves}
"""
FULL = "with FSDP.state_dict_type(model, StateDictType.FULL_STATE_DICT{}):\n    kept = model.state_dict()"
ON_HOST = ", FullStateDictConfig(offload_to_cpu=True, rank0_only=True)"
OPTIONS = "kept = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True{}))"


def named(folder: Path, saves: str, script: str = SCRIPT) -> set[str]:
    files = {"t.py": script.format(saves=saves)}
    plan = plan_of(folder, "torchrun --nproc_per_node 8 t.py", files)
    return {notice.unpriced for notice in plan.notices} & {STATE_DICT_ON_CARD, GATHERED}


@pytest.mark.parametrize(
    ("saves", "name"),
    [
        ("torch.save(model.state_dict(), 'x')", STATE_DICT_ON_CARD),
        (FULL.format(""), STATE_DICT_ON_CARD),
        (FULL.format(", FullStateDictConfig(rank0_only=True)"), STATE_DICT_ON_CARD),
        (FULL.format(ON_HOST), None),
        (f"asked{ON_HOST.replace(',', ' =', 1)}\n{FULL.format(', asked')}", None),
        (FULL.format("").replace("FULL", "SHARDED"), None),
        ('accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")', None),
        ("torch.save(optimizer.state_dict(), 'x')", None),
        ("model.load_state_dict(other_model.state_dict())", None),
        ("with FSDP.summon_full_params(model):\n    show(model)", GATHERED),
        ("with FSDP.summon_full_params(model, recurse=False):\n    show(model)", None),
        ("with FSDP.summon_full_params(model, offload_to_cpu=True):\n    show(model)", None),
        (OPTIONS.format(""), GATHERED),
        (OPTIONS.format(", cpu_offload=True"), None),
    ],
)
def test_what_a_script_of_fsdp_gathers_on_the_card_is_named(tmp_path, saves, name):
    assert named(tmp_path, saves) == ({name} if name else set())


def test_an_engine_that_does_not_divide_the_model_gathers_nothing(tmp_path):
    script = SCRIPT.replace(
        "FSDP(model, auto_wrap_policy=by_layer, device_id=", "DDP(model, device_ids="
    )
    saves = "torch.save(model.state_dict(), 'x')"

    assert named(tmp_path, saves, script) == set()


ZERO3 = """\
import deepspeed, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-7B", torch_dtype=torch.bfloat16)
config = {{"train_micro_batch_size_per_gpu": 1, "zero_optimization": {{"stage": 3}}, "bf16": {{"enabled": True}}}}
engine, *_ = deepspeed.initialize(model=model, config=config)
for batch in loader:
    engine.backward(engine(**batch).loss)
    engine.step()
{saves}
"""


@pytest.mark.parametrize(
    ("given", "is_whole"),
    [("list(model.parameters())", True), ("engine.module.parameters()", True), ("[weight]", False)],
)
def test_parameters_of_zero3_are_gathered_one_or_all(tmp_path, given, is_whole):
    saves = f"with deepspeed.zero.GatheredParameters({given}):\n    show(engine)"

    assert named(tmp_path, saves, ZERO3) == ({GATHERED} if is_whole else set())


@pytest.mark.parametrize(("gib", "answer"), [(40, "fits"), (20, "unknown")])
def test_a_launch_fits_where_the_whole_model_does_beside_its_states(tmp_path, gib, answer):
    (tmp_path / "t.py").write_text(SCRIPT.format(saves="torch.save(model.state_dict(), 'x')"))
    report = preflight.check(
        ["torchrun", "--nproc_per_node", "8", "t.py"],
        device=f"big:{gib}",
        cwd=str(tmp_path),
        settings={"seq_len": 128},
    )

    assert report.verdict is not None
    assert report.verdict.answer.value == answer


@pytest.mark.launch
def test_fsdp1_gives_a_whole_state_dict_and_fsdp2_shards(ranks):
    printed = ranks.printed(Path(__file__).with_name("state_dict_ranks.py"), world=2)
    found = json.loads(printed.splitlines()[-1])
    whole = 2 * (64 * 64 + 64)

    assert found == {
        "fsdp1": whole,
        "full": whole,
        "offloads": False,
        "summoned": whole,
        "fsdp2": whole // 2,
    }
