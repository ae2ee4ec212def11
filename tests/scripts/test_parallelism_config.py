"""Degrees of a ParallelismConfig that a script makes, and rows that its loop gives accelerate to divide."""

from __future__ import annotations

import ast

import pytest
from accelerate.parallelism_config import ParallelismConfig
from launch_of_script import plan_of

from preflight.launch import LaunchCommand
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Parsed
from preflight.unpriced_names import OF_PARALLELISM

SCRIPT = """\
import argparse

import torch
from accelerate import Accelerator
from accelerate.parallelism_config import ParallelismConfig
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()


parser.add_argument("--copies", type=int, default=1)
parser.add_argument("--shards", type=int, default=1)
parser.add_argument("--matrices", type=int, default=1)
parser.add_argument("--context", type=int, default=1)
args = parser.parse_args()
degrees = ParallelismConfig({made})
plugin = None
if degrees.dp_shard_enabled or degrees.cp_enabled:
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap"
    )
accelerator = Accelerator(mixed_precision="bf16", fsdp_plugin=plugin, {given})
loading = {loading}
tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen3-1.7B")
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B", dtype=torch.bfloat16, **loading)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)


def collate(rows):
    return tokenizer(rows, truncation=True, padding="max_length", max_length=4096, return_tensors="pt")


loader = DataLoader(rows, batch_size=2, collate_fn=collate)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for batch in loader:
    {around}
        loss = model(**batch, labels=batch["input_ids"]).loss
        accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
"""
SIZES = "dp_replicate_size=args.copies, dp_shard_size=args.shards, tp_size=args.matrices, cp_size=args.context"
SHARES = (
    'with accelerator.maybe_context_parallel(buffers=[batch["input_ids"]], buffer_seq_dims=[1]):'
)
LOADING = (
    '{"tp_plan": "auto", "device_mesh": accelerator.torch_device_mesh} if args.matrices > 1 else {}'
)
CONFIG = """\
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
num_processes: 8
parallelism_config:
  parallelism_config_cp_size: 8
  parallelism_config_dp_shard_size: 1
"""


@pytest.fixture
def plan(tmp_path):
    """Return the plan of eight ranks of the script with some flags and changes."""

    def read(flags="", launcher="--num_processes 8", env=None, **changes):
        parts = {
            "made": SIZES,
            "given": "parallelism_config=degrees",
            "loading": LOADING,
            "around": SHARES,
            **changes,
        }
        text = SCRIPT
        for name, part in parts.items():
            text = text.replace(f"{{{name}}}", part)
        files = {"train.py": text, "a.yaml": CONFIG}
        return plan_of(tmp_path, f"accelerate launch {launcher} train.py {flags}", files, env)

    return read


def named(plan) -> set[str | None]:
    return {notice.unpriced for notice in plan.notices} & OF_PARALLELISM


def degrees_of(plan) -> tuple[str, int, int, int, int]:
    return (
        plan.engine,
        plan.shard_degree,
        plan.replicate_degree,
        plan.tensor_parallel_degree,
        plan.context_parallel_degree,
    )


@pytest.mark.parametrize(
    ("flags", "degrees"),
    [
        ("--shards 8", ("fsdp2", 8, 1, 1, 1)),
        ("--copies 2 --shards 4", ("fsdp2", 4, 2, 1, 1)),
        ("--copies 2 --shards 2 --matrices 2", ("fsdp2", 2, 2, 2, 1)),
        ("--shards 2 --context 4", ("fsdp2", 8, 1, 1, 4)),
        ("--matrices 8", ("ddp", 1, 1, 8, 1)),
    ],
)
def test_degrees_are_those_that_the_config_is_made_with(plan, flags, degrees):
    read = plan(flags)

    assert degrees_of(read) == degrees
    assert not named(read)


@pytest.mark.parametrize(
    "changes",
    [
        {"made": "**sizes"},
        {"made": "dp_shard_size=how_many()"},
        {"given": "parallelism_config=degrees if wanted() else None"},
        {"given": "**plugins"},
        {"loading": "{}"},
    ],
    ids=["sizes of a dict", "a size", "perhaps none", "handed out of sight", "loaded whole"],
)
def test_what_is_not_read_stays_named(plan, changes):
    read = plan("--shards 4 --matrices 2", **changes)

    assert named(read)
    assert degrees_of(read)[3:] == (1, 1)


def test_a_size_that_the_call_leaves_out_is_the_launchers(plan):
    read = plan("", "--config_file a.yaml", made="")

    assert degrees_of(read) == ("fsdp2", 8, 1, 1, 8)


@pytest.mark.parametrize(("around", "share"), [(SHARES, 8), ("if True:", 1)])
def test_rows_are_whole_where_the_loop_never_asks_for_its_share(plan, around, share):
    read = plan("", "--config_file a.yaml", made="", around=around)

    assert (read.context_parallel_degree, read.shard_degree) == (share, 8)


@pytest.mark.parametrize(
    "sizes", ["tp_size=2", "dp_shard_size=4, cp_size=1", "dp_replicate_size=2"]
)
def test_what_is_enabled_is_what_accelerate_says(tmp_path, sizes):
    text = f"from accelerate import ParallelismConfig\nmade = ParallelismConfig({sizes})\n"
    (tmp_path / "s.py").write_text(text)
    reader = ScriptReader(LaunchCommand(("python", "s.py"), {}, str(tmp_path)), "s.py", text)
    reader.read(lambda names: None)
    call = next(each for each in reader.named("ParallelismConfig"))
    read = reader.evaluator.value(call.node, call.scope)
    theirs = eval(compile(ast.Expression(call.node), "s.py", "eval"))

    assert isinstance(read, Parsed) and read.names
    assert isinstance(theirs, ParallelismConfig)
    for name, known in read.names.items():
        assert known.value == getattr(theirs, name), name
