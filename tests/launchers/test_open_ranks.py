"""FSDP on a machine without a GPU: how many ranks start is open, and so it is no single process that shards nothing."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.verdict import Answer

AXOLOTL = """\
base_model: meta-llama/Llama-3.1-70B
datasets: [{path: rows, type: alpaca}]
sequence_len: 2048
micro_batch_size: 1
gradient_accumulation_steps: 1
num_epochs: 1
optimizer: adamw_torch
learning_rate: 1e-5
bf16: true
gradient_checkpointing: true
output_dir: out
fsdp: [full_shard, auto_wrap]
fsdp_config:
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_transformer_layer_cls_to_wrap: LlamaDecoderLayer
"""
SCRIPT = """\
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-70B", torch_dtype="bfloat16")
Trainer(model=model, args=args, train_dataset=None).train()
"""
PLUGIN = """\
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

plugin = FullyShardedDataParallelPlugin(sharding_strategy="FULL_SHARD", auto_wrap_policy="transformer_based_wrap")
accelerator = Accelerator(fsdp_plugin=plugin, mixed_precision="bf16")
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-70B", torch_dtype=torch.bfloat16)
model.gradient_checkpointing_enable()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader([], batch_size=1))
for batch in loader:
    accelerator.backward(model(**batch).loss)
    optimizer.step()
"""
FLAGS = (
    "train.py", "--output_dir", "out", "--fsdp", "full_shard auto_wrap", "--bf16",
    "--per_device_train_batch_size", "1", "--gradient_checkpointing",
)  # fmt: skip
LAUNCHES = {
    "a key of axolotl's": (AXOLOTL, ("axolotl", "train", "train.py")),
    "an argument of the Trainer's": (SCRIPT, ("accelerate", "launch", *FLAGS)),
    "a script's own plugin": (PLUGIN, ("accelerate", "launch", "train.py")),
}
ASKED = {"seq_len": 2048, "versions.transformers": "5.24.0"}


@pytest.fixture(params=LAUNCHES)
def command(request, tmp_path):
    text, words = LAUNCHES[request.param]
    name = "train.yaml" if words[0] == "axolotl" else "train.py"
    (tmp_path / name).write_text(text)
    return LaunchCommand(tuple(name if w == "train.py" else w for w in words), {}, str(tmp_path))


def answer_of(command, device, **more):
    return check_launch(command, load_plugins(), Request(device, {**ASKED, **more}))


def test_the_number_of_ranks_decides(command):
    report = answer_of(command, "h100-sxm-80")
    assert report.plan.engine in ("fsdp1", "fsdp2")
    assert report.verdict.answer is Answer.UNKNOWN
    assert "world_size" in report.readings.deciding

    sharded = answer_of(command, "h100-sxm-80", world_size=64)
    assert sharded.verdict.answer is Answer.FITS
    assert sharded.plan.shard_degree == 64


def test_what_no_number_of_ranks_makes_fit_is_refused(command):
    assert answer_of(command, "rtx-4090", world_size=2).verdict.answer is Answer.DOES_NOT_FIT


FLAGS_OF_DEGREES = (
    "--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP",
    "--use_parallelism_config", "--parallelism_config_tp_size", "2",
    "--parallelism_config_dp_shard_size", "4",
)  # fmt: skip


@pytest.mark.parametrize(
    ("more", "engine"),
    [
        ("fsdp_version: 2\ndp_shard_size: 4\ntensor_parallel_size: 2\n", "fsdp2"),
        (
            "fsdp_version: 2\ndp_shard_size: 4\ncontext_parallel_size: 2\nflash_attention: true\n",
            "fsdp2",
        ),
        ("tensor_parallel_size: 8\n", "ddp"),
    ],
)
def test_degrees_that_must_make_up_all_ranks_count_them(more, engine, tmp_path):
    config = AXOLOTL if engine == "fsdp2" else AXOLOTL[: AXOLOTL.index("fsdp:")]
    (tmp_path / "train.yaml").write_text(config + more)
    command = LaunchCommand(("axolotl", "train", "train.yaml"), {}, str(tmp_path))
    plan = answer_of(command, "h100-sxm-80").plan

    assert (plan.engine, plan.world_size) == (engine, 8)
    assert plan.origins["world_size"].where.startswith("train.yaml:")
    assert not plan.origins["world_size"].may_be


def test_degrees_of_the_launcher_count_them_too(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    words = ("accelerate", "launch", *FLAGS_OF_DEGREES, *FLAGS[:3], *FLAGS[5:])
    plan = answer_of(LaunchCommand(words, {}, str(tmp_path)), "h100-sxm-80").plan

    assert (plan.engine, plan.world_size, plan.shard_degree) == ("fsdp2", 8, 4)
    assert not any(each.id == "PF115" for each in plan.notices)
    assert not plan.origins["world_size"].may_be


@pytest.mark.parametrize(
    ("more", "ranks", "degrees"),
    [
        ("tensor_parallel_size: 2\n", 8, (4, 1, 2, 1)),
        ("tensor_parallel_size: 2\ndp_shard_size: 4\n", 16, (4, 2, 2, 1)),
        ("context_parallel_size: 2\nflash_attention: true\n", 16, (16, 1, 1, 2)),
        ("tensor_parallel_size: 2\ndp_replicate_size: 2\n", 16, (4, 2, 2, 1)),
        ("dp_shard_size: 4\n", 16, (4, 4, 1, 1)),
    ],
)
def test_axolotl_works_out_the_sizes_that_nobody_gives(more, ranks, degrees, tmp_path):
    """Asked of utils/distributed.py _get_parallel_config_kwargs of axolotl 0.19.0; accelerate shards over shard * context."""
    (tmp_path / "train.yaml").write_text(f"{AXOLOTL}fsdp_version: 2\n{more}")
    words = ("axolotl", "train", "train.yaml", "--launcher", "accelerate", "--", "--num_processes")
    command = LaunchCommand((*words, str(ranks)), {}, str(tmp_path))
    plan = answer_of(command, "h100-sxm-80").plan

    assert degrees == (
        plan.shard_degree,
        plan.replicate_degree,
        plan.tensor_parallel_degree,
        plan.context_parallel_degree,
    )


def test_what_is_left_of_ranks_that_nobody_counts_is_named(tmp_path):
    (tmp_path / "train.yaml").write_text(f"{AXOLOTL}fsdp_version: 2\ntensor_parallel_size: 2\n")
    command = LaunchCommand(("axolotl", "train", "train.yaml"), {}, str(tmp_path))
    report = answer_of(command, "h100-sxm-80")

    assert "degrees over ranks that nobody counts" in report.verdict.unpriced
