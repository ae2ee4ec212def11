"""FSDP on a machine without a GPU: how many ranks start is open, and so it is no single process that shards nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml

from preflight.errors import BadInput
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
model.train()
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


TENSOR, CONTEXT = "tensor_parallel_size: 2\n", "context_parallel_size: 2\nflash_attention: true\n"
SHARD, COPY = "dp_shard_size: 4\n", "dp_replicate_size: 2\n"


@pytest.mark.libraries
@pytest.mark.parametrize(
    ("more", "ranks", "degrees"),
    [
        (TENSOR + SHARD, 8, (4, 1, 2, 1)),
        (TENSOR + SHARD + COPY, 16, (4, 2, 2, 1)),
        (CONTEXT + SHARD, 8, (8, 1, 1, 2)),
        (SHARD + COPY, 8, (4, 2, 1, 1)),
        (TENSOR, 8, None),
        (TENSOR + SHARD, 16, None),
        (CONTEXT, 16, None),
        (TENSOR + COPY, 16, None),
        (SHARD, 16, None),
    ],
)
def test_degrees_of_axolotl_that_do_not_make_up_all_ranks_are_refused(
    more, ranks, degrees, tmp_path
):
    """accelerate's own class is asked; axolotl hands it what the file says."""
    (tmp_path / "train.yaml").write_text(f"{AXOLOTL}fsdp_version: 2\n{more}")
    words = ("axolotl", "train", "train.yaml", "--launcher", "accelerate", "--", "--num_processes")
    command = LaunchCommand((*words, str(ranks)), {}, str(tmp_path))
    assert (refused_by_accelerate(yaml.safe_load(more), ranks) is None) is (degrees is not None)

    if degrees is None:
        with pytest.raises(BadInput) as refused:
            answer_of(command, "h100-sxm-80")
        assert [problem.id for problem in refused.value.problems] == ["PF117"]
    else:
        plan = answer_of(command, "h100-sxm-80").plan
        assert degrees == (
            plan.shard_degree,
            plan.replicate_degree,
            plan.tensor_parallel_degree,
            plan.context_parallel_degree,
        )


def refused_by_accelerate(sizes, ranks):
    """Return why the installed accelerate refuses the sizes under FSDP2 on so many ranks; None where it takes them."""
    from accelerate import ParallelismConfig

    names = {
        "tensor_parallel_size": "tp_size",
        "context_parallel_size": "cp_size",
        "dp_shard_size": "dp_shard_size",
        "dp_replicate_size": "dp_replicate_size",
    }
    accelerator = SimpleNamespace(
        num_processes=ranks, multi_device=True, is_fsdp2=True, is_main_process=False
    )
    try:
        config = ParallelismConfig(**{names[k]: v for k, v in sizes.items() if k in names})
        config._validate_accelerator(accelerator)
    except ValueError as error:
        return str(error)
    return None


def test_what_is_left_of_ranks_that_nobody_counts_is_named(tmp_path):
    (tmp_path / "train.yaml").write_text(f"{AXOLOTL}fsdp_version: 2\ntensor_parallel_size: 2\n")
    command = LaunchCommand(("axolotl", "train", "train.yaml"), {}, str(tmp_path))
    report = answer_of(command, "h100-sxm-80")

    assert "degrees over ranks that nobody counts" in report.verdict.unpriced


@pytest.mark.parametrize(
    "launcher", ["deepspeed", "torchrun --nproc_per_node gpu", "accelerate launch --use_deepspeed"]
)
def test_ranks_that_nobody_counts_contradict_no_batch(launcher, tmp_path):
    """A batch of 64 is that of 8 ranks, and it is refused where one rank is said."""
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "ds.json").write_text('{"train_batch_size": 64, "zero_optimization": {"stage": 2}}')
    words = "train.py --output_dir out --per_device_train_batch_size 8 --deepspeed ds.json"
    command = LaunchCommand((*launcher.split(), *words.split()), {}, str(tmp_path))

    assert answer_of(command, "h100-sxm-80").plan.engine == "zero2"
    with pytest.raises(BadInput, match="train_batch_size is 64"):
        one = LaunchCommand(
            ("torchrun", "--nproc_per_node", "1", *words.split()), {}, str(tmp_path)
        )
        answer_of(one, "h100-sxm-80")
