"""A script that trains with OLMo-core's train module: what is read of it, and what leaves the loop named."""

from __future__ import annotations

from pathlib import Path

import pytest

import preflight
from preflight.plan_parts import OLMO_CORE, OLMO_LOOP

SCRIPT = """\
import argparse
import torch
from olmo_core import optim
from olmo_core.config import DType
from olmo_core.distributed import parallel
from olmo_core.train import train_module as modules

def main(args):
    dp = modules.TransformerDataParallelConfig(
        name=parallel.DataParallelType.fsdp, param_dtype=DType.bfloat16, reduce_dtype=DType.float32)
    config = modules.TransformerTrainModuleConfig(
        rank_microbatch_size=args.rows * args.max_seq_length, max_sequence_length=args.max_seq_length,
        compile_model=True, optim=optim.SkipStepAdamWConfig(lr=1e-4), dp_config=dp,
        ac_config=None, max_grad_norm=1.0)
    module = config.build(build_model(args.model_name_or_path))
    train(module)

parser = argparse.ArgumentParser()
parser.add_argument("--model_name_or_path")
parser.add_argument("--rows", type=int, default=2)
parser.add_argument("--max_seq_length", type=int, default=1024)
main(parser.parse_args())
"""
COMMAND = "torchrun --nproc_per_node 8 train.py --model_name_or_path allenai/OLMo-2-0425-1B"


def answer_of(folder: Path, text: str) -> preflight.Report:
    (folder / "train.py").write_text(text)
    return preflight.check(COMMAND.split(), device="h100-sxm-80", cwd=folder)


def test_its_shards_and_its_rows_are_read_and_its_layers_bounded(tmp_path):
    report = answer_of(tmp_path, SCRIPT)
    plan = report.plan
    said = (plan.engine, plan.shard_degree, plan.micro_batch_size, plan.seq_len, plan.max_grad_norm)

    assert said == ("fsdp2", 8, 2, 1024, 1.0)
    assert (plan.load_dtype, plan.mixed_precision, plan.reduce_dtype) == ("fp32", "bf16", "fp32")
    assert (plan.optimizer, plan.optimizer_kernel) == ("adamw_torch", "for_loop")
    assert report.verdict.answer.value == "fits"
    assert report.verdict.bounded == (OLMO_CORE,)


@pytest.mark.parametrize(
    "before, after",
    [
        ("DataParallelType.fsdp", "DataParallelType.ddp"),
        ("param_dtype=DType.bfloat16", "param_dtype=DType.float32"),
        ("reduce_dtype=DType.float32", "prefetch_factor=1"),
        ("SkipStepAdamWConfig", "SkipStepLionConfig"),
        ("lr=1e-4", "lr=1e-4, dtype=DType.bfloat16"),
        ("max_grad_norm=1.0", "float8_config=make()"),
        ("max_grad_norm=1.0", "z_loss_multiplier=1e-5"),
        ("max_grad_norm=1.0", "**more"),
    ],
)
def test_what_was_not_counted_leaves_the_loop_named(before, after, tmp_path):
    report = answer_of(tmp_path, SCRIPT.replace(before, after))

    assert report.verdict.answer.value == "unknown"
    assert OLMO_LOOP in report.verdict.unpriced


@pytest.mark.parametrize(
    "given, may_be",
    [
        ("make(args)", ("none", "full")),
        ("modules.TransformerActivationCheckpointingConfig()", ()),
        ("modules.TransformerActivationCheckpointingConfig(mode=pick())", ("none", "full")),
    ],
)
def test_checkpoints_are_read_or_open(given, may_be, tmp_path):
    plan = answer_of(tmp_path, SCRIPT.replace("ac_config=None", f"ac_config={given}")).plan

    assert plan.origins["activation_checkpointing"].may_be == may_be
    assert may_be or plan.activation_checkpointing == "full"
