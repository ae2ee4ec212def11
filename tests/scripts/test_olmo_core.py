"""A script that trains with OLMo-core's train module: what is read of it, and what leaves the loop named."""

from __future__ import annotations

from pathlib import Path

import pytest

import preflight
from preflight.unpriced_names import DIVIDED, OLMO_CORE, OLMO_LOOP, OLMO_PARTS

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


def answer_of(folder: Path, text: str, command: str = COMMAND) -> preflight.Report:
    (folder / "train.py").write_text(text)
    return preflight.check(command.split(), device="h100-sxm-80", cwd=folder)


def test_its_shards_and_its_rows_are_read_and_its_layers_bounded(tmp_path):
    report = answer_of(tmp_path, SCRIPT)
    plan = report.plan
    said = (plan.engine, plan.shard_degree, plan.micro_batch_size, plan.seq_len, plan.max_grad_norm)

    assert said == ("fsdp2", 8, 2, 1024, 1.0)
    assert (plan.load_dtype, plan.mixed_precision, plan.reduce_dtype) == ("fp32", "bf16", "fp32")
    assert (plan.optimizer, plan.optimizer_kernel) == ("adamw_torch", "for_loop")
    assert (plan.loss, plan.torch_compile, plan.keeps_outputs) == ("compiled_ce", True, False)
    assert plan.sync_each_batch
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
        ("max_grad_norm=1.0", "**more"),
        ("compile_model=True", "compile_model=pick()"),
        ("config.build(", "config.head(loss_implementation='fused_linear').build("),
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


HELPERS = """\
from olmo_core.train import train_module as modules
from olmo_core.nn.transformer import TransformerActivationCheckpointingMode as Mode
from olmo_core.train.train_module.transformer import TransformerActivationCheckpointingConfig, TransformerContextParallelConfig
from olmo_core.nn.transformer import TransformerActivationCheckpointingMode

def checkpoints(mode, parts):
    if mode == "parts":
        return TransformerActivationCheckpointingConfig(
            mode=TransformerActivationCheckpointingMode.selected_modules, modules=parts)
    if mode == "whole":
        return TransformerActivationCheckpointingConfig()
    if mode == "some":
        return TransformerActivationCheckpointingConfig(
            mode=TransformerActivationCheckpointingMode.budget, activation_memory_budget=0.5)
    return None

def sharing(style, degree=2):
    if style is None:
        return None
    if style == "heads":
        return TransformerContextParallelConfig.ulysses(degree=degree)
    return TransformerContextParallelConfig.zig_zag(degree=degree)
"""
ALL_PARTS = [
    f"blocks.*.{name}{rest}" for name in ("attention", "feed_forward") for rest in ("", "_norm", "_residual_stream")
]  # fmt: skip
"""Everything that a block of OLMo-core is made of."""


def with_helpers(folder: Path, before: str, after: str, command: str = COMMAND) -> preflight.Report:
    (folder / "helpers.py").write_text(HELPERS)
    text = SCRIPT.replace("import torch\n", "import torch\nimport helpers\n")
    return answer_of(folder, text.replace(before, after), command)


@pytest.mark.parametrize(
    "mode, parts, checkpoints, bounded",
    [
        ("parts", ALL_PARTS, ("full",), (OLMO_CORE, OLMO_PARTS)),
        ("parts", ALL_PARTS[:4], ("none", "full"), (OLMO_CORE,)),
        ("whole", [], ("full",), (OLMO_CORE,)),
        ("some", [], ("none", "full"), (OLMO_CORE,)),
        ("no", [], ("none",), (OLMO_CORE,)),
    ],
)
def test_what_a_function_returns_for_a_call_says_how_blocks_are_checkpointed(
    mode, parts, checkpoints, bounded, tmp_path
):
    report = with_helpers(
        tmp_path, "ac_config=None", f"ac_config=helpers.checkpoints({mode!r}, {parts!r})"
    )

    may_be = report.plan.origins["activation_checkpointing"].may_be

    assert (may_be or (report.plan.activation_checkpointing,)) == checkpoints
    assert report.verdict.bounded == bounded


@pytest.mark.parametrize(
    "given, degree, unpriced",
    [("None", 1, ()), ("'heads'", 2, ()), ("'heads', 4", 4, ()), ("'ring'", 1, (DIVIDED,))],
)
def test_ranks_that_share_a_sequence_by_its_heads_are_read_and_a_ring_is_named(
    given, degree, unpriced, tmp_path
):
    report = with_helpers(tmp_path, "ac_config=None", f"cp_config=helpers.sharing({given})")
    named = {each.unpriced for each in report.plan.notices if each.unpriced == DIVIDED}

    assert report.plan.sequence_parallel_degree == degree
    assert report.plan.shard_degree == 8
    assert named == set(unpriced)


@pytest.mark.parametrize(
    "ranks, may_be",
    [("--nproc_per_node 8", ()), ("--nnodes 2 --nproc_per_node 8", (16, 8))],
)
@pytest.mark.parametrize(
    "degree, more",
    [
        ("shard_degree=torch.cuda.device_count()", ""),
        ("shard_degree=torch.cuda.device_count() if torch.cuda.is_available() else 1", ""),
        ("shard_degree=torch.cuda.device_count() // 2", "cp_config=helpers.sharing('heads'), "),
        ("shard_degree=None", ""),
        ("num_replicas=None", ""),
    ],
)
def test_copies_of_a_node_each_are_one_copy_on_one_node(ranks, may_be, degree, more, tmp_path):
    command = COMMAND.replace("--nproc_per_node 8", ranks)
    plan = with_degree(tmp_path, degree, more, command).plan
    origin = plan.origins.get("shard_degree")

    assert (origin.may_be if origin is not None else ()) == may_be


@pytest.mark.parametrize(
    "degree",
    ["shard_degree=torch.cuda.device_count() // 2", "shard_degree=args.rows", "num_replicas=4", "shard_degree=pick()"],
)  # fmt: skip
def test_copies_over_fewer_ranks_than_a_node_has_are_open(degree, tmp_path):
    plan = with_degree(tmp_path, degree, "", COMMAND).plan

    assert plan.origins["shard_degree"].may_be == (8, 2)


def with_degree(folder: Path, degree: str, more: str, command: str) -> preflight.Report:
    (folder / "helpers.py").write_text(HELPERS)
    text = SCRIPT.replace("import torch\n", "import torch\nimport helpers\n")
    text = text.replace("parallel.DataParallelType.fsdp", "parallel.DataParallelType.hsdp")
    text = text.replace("reduce_dtype=", f"{degree}, reduce_dtype=")
    return answer_of(folder, text.replace("ac_config=None", f"{more}ac_config=None"), command)


@pytest.mark.parametrize(
    "added, attention, may_be",
    [
        ("", None, ("flash_attention_2", "sdpa")),
        ("make(generate_doc_lengths=True)", "flash_attention_2", ()),
        ("make(attn_backend=AttentionBackendName.torch)", "sdpa", ()),
        ("make(attn_backend=AttentionBackendName(args.attention))", "flash_attention_3", ()),
    ],
)
def test_the_backend_or_rows_of_several_documents_say_the_attention(
    added, attention, may_be, tmp_path
):
    text = SCRIPT.replace("    module = ", f"    {added}\n    module = ")
    flag = 'parser.add_argument("--attention", default="flash_3")\nmain('
    plan = answer_of(tmp_path, text.replace("main(parser", f"{flag}parser")).plan
    origin = plan.origins.get("attention")

    assert attention is None or plan.attention == attention
    assert (origin.may_be if origin is not None else ()) == may_be


def test_a_refusal_rests_on_three_quarters_of_the_activations_of_layers_that_were_counted(tmp_path):
    many = "--rows 32 --max_seq_length 4096"
    report = answer_of(tmp_path, SCRIPT, f"{COMMAND} {many}")

    assert report.verdict.answer.value == "does_not_fit"
    assert OLMO_CORE not in report.verdict.unpriced


def test_a_hybrid_is_bounded_whose_scan_the_kernels_of_another_package_run(tmp_path):
    command = COMMAND.replace("OLMo-2-0425-1B", "Olmo-Hybrid-7B")
    report = answer_of(tmp_path, SCRIPT, command)

    assert report.verdict.answer.value == "fits"
    assert report.verdict.bounded == (OLMO_CORE,)
