"""A loop that gives its model a share of every row is estimated with that share, where the share is read."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

DIVIDED = "a sequence that is divided over ranks"
LOOP = """\
import argparse
from accelerate import Accelerator
from transformers import AutoModelForCausalLM
from longer import attend_around, shares_of

parser = argparse.ArgumentParser()
parser.add_argument("--seq-length", type=int, default=65536)
parser.add_argument("--mode", default="zigzag")
args = parser.parse_args()
accelerator = Accelerator(mixed_precision="bf16")
model = AutoModelForCausalLM.from_pretrained(
    "Qwen/Qwen2.5-0.5B", torch_dtype="bfloat16", attn_implementation="flash_attention_2"
)
attend_around(args.mode)
for batch in loader:
    rows = batch["input_ids"][..., : args.seq_length]
    shares = shares_of(args.mode, rows, accelerator.process_index, {ranks}, accelerator.device)
    mine = shares["tokens"]
    accelerator.backward(model({given}).loss)
"""
HELPERS = """\
import torch
import transformers
from ring_flash_attn import zigzag_ring_flash_attn_func

def attend(query, key, value):
    return zigzag_ring_flash_attn_func(query, key, value, causal=True)

def attend_around(mode):
    if mode == "zigzag":
        transformers.models.qwen2.modeling_qwen2.Qwen2FlashAttention2._flash_attention_forward = attend

def share_of(rows, rank, ranks, device, dim=1):
    chunks = rows.chunk(2 * ranks, dim=dim)
    return torch.cat([chunks[rank], {other}], dim=dim).to(device)

def one_chunk_of(rows, rank, ranks, dim=1):
    return rows.chunk(ranks, dim=dim)[rank]

def shares_of(mode, rows, rank, ranks, device):
    if mode == "zigzag":
        return {{"tokens": share_of(rows, rank, ranks, device)}}
    elif mode == "chunk":
        return {{"tokens": one_chunk_of(rows, rank, ranks{along})}}
    else:
        return {{"tokens": rows.to(device)}}
"""


@pytest.fixture
def plan(tmp_path):
    def made(
        *flags: str, ranks="accelerator.num_processes", given="mine", helpers=HELPERS, **changes
    ):
        words = {"other": "chunks[2 * ranks - rank - 1]", "along": "", **changes}
        files = {
            "train.py": LOOP.format(ranks=ranks, given=given),
            "longer.py": helpers.format(**words),
        }
        command = (
            "accelerate launch --num_processes 8 --multi_gpu train.py --seq-length 65536",
            *flags,
        )
        return plan_of(tmp_path, " ".join(command), files)

    return made


def is_named(plan) -> bool:
    return DIVIDED in {notice.unpriced for notice in plan.notices}


@pytest.mark.parametrize("given", ["mine", "input_ids=mine.contiguous()"])
def test_two_of_twice_as_many_chunks_are_a_share(plan, given):
    read = plan(given=given)

    assert read.context_parallel_degree == 8 and read.seq_len == 65536
    assert not is_named(read)


@pytest.mark.parametrize(
    ("why", "flags", "changes"),
    [
        ("the ranks of a group", (), {"ranks": "dist.get_world_size(group)"}),
        ("three halves", (), {"other": "chunks[1], chunks[2]"}),
        ("whole rows beside a share", (), {"other": "rows"}),
        ("another argument", (), {"given": "rows, mine"}),
        ("attention that is not the ring's", ("--mode", "chunk"), {}),
    ],
)
def test_what_is_no_share_of_a_ring_stays_named(plan, why, flags, changes):
    read = plan(*flags, **changes)

    assert read.context_parallel_degree == 1, why
    assert is_named(read), why


@pytest.mark.parametrize(("along", "degree"), [("", 8), (", dim=0", 1)])
def test_one_chunk_is_a_share_of_a_row_and_none_of_a_batch(plan, along, degree):
    """Both modes go around the ring here, and `chunk` takes one of as many chunks as there are ranks."""
    around = HELPERS.replace(
        '    if mode == "zigzag":\n        transformers', "    if mode:\n        transformers"
    )
    assert around != HELPERS

    assert plan("--mode", "chunk", along=along, helpers=around).context_parallel_degree == degree
