"""What the reader makes of `torchrun` is what torch.distributed.run makes of it, and a remedy can be written back."""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight.errors import BadInput
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.torchrun import LAUNCHER
from preflight.launchers.torchrun.options import OPTIONS
from preflight.launchers.torchrun.plan import parse_torchrun
from preflight.plugins import load_plugins
from preflight.rewriting import write_checked

HF = """from transformers import HfArgumentParser, Trainer, TrainingArguments
HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(return_remaining_strings=True)
"""
LOOP = "import argparse\nfrom accelerate import Accelerator\n"
ZERO3 = '{"zero_optimization": {"stage": 3}, "bf16": {"enabled": "auto"}, "train_micro_batch_size_per_gpu": "auto"}\n'


def command(
    line: str, env: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None
) -> LaunchCommand:
    texts = {"train.py": HF, "loop.py": LOOP, "own.py": "import torch\n", "z3.json": ZERO3}
    overlay = {f"/srv/job/{name}": text for name, text in {**texts, **(files or {})}.items()}
    environment = {"HOME": "/nonexistent", **(env or {})}
    return LaunchCommand(tuple(shlex.split(line)), environment, "/srv/job", overlay)


def read(line: str, env: Mapping[str, str] | None = None, **files: str) -> LaunchPlan:
    plan = LAUNCHER.read(command(line, env, files))
    assert plan is not None
    return plan


def torch_reads(line: str, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return torch's own arguments and launch config, or the text of its refusal."""
    from torch.distributed import launch, run

    for name, text in env.items():
        monkeypatch.setenv(name, text)
    words = shlex.split(line)
    module = launch if "torch.distributed.launch" in words else run
    first = 1 if words[0] == "torchrun" else 3
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            arguments = module.parse_args(words[first:])
            return arguments, run.config_from_args(arguments)[0]
    except (SystemExit, ValueError, AssertionError, RuntimeError) as error:
        return errors.getvalue() or str(error)


LINES: dict[str, dict[str, str]] = {
    "torchrun train.py": {},
    "torchrun --nproc-per-node 8 train.py --bf16 true": {},
    "torchrun --nproc_per_node=8 train.py": {},
    "torchrun --nproc_per_node 4 --nnodes 2 --node-rank 1 --master-addr n0 train.py": {},
    "torchrun --nnodes=1:4 --nproc-per-node=8 --rdzv-backend c10d --rdzv-endpoint n0:29500 train.py": {},
    "torchrun --nnodes 2:2 --nproc-per-node 2 --master-addr n0 train.py": {},
    "torchrun --standalone --nproc_per_node 2 train.py --a 1": {},
    "torchrun --nproc-per-node 2 -m pkg.train --a 1": {},
    "torchrun --nproc-per-node 2 --module pkg.train -m 1": {},
    "torchrun --nproc-per-node 2 --no-python bash run.sh": {},
    "torchrun --nproc-per-node 2 -- train.py --nproc-per-node 9": {},
    "torchrun -r3 --tee 3 --nproc-per-node 2 train.py": {},
    "torchrun -r 0:1,1:2 -t=3 --nproc-per-node 2 train.py": {},
    "torchrun --max-restarts 3 --monitor_interval 0.5 --nproc-per-node 2 train.py": {},
    "torchrun --rdzv-id 7 --rdzv_conf timeout=900,read_timeout=60 --nproc-per-node 2 train.py": {},
    "torchrun --start-method fork --nproc-per-node 2 train.py": {},
    "torchrun --local-ranks-filter 0,1 --role trainer --nproc-per-node 2 train.py": {},
    "torchrun --log-dir /tmp/x --master-port 29501 --nproc-per-node 2 train.py": {},
    "torchrun --standal --nproc-per-node 2 train.py": {},
    "torchrun train.py --nproc-per-node 8": {},
    "python -m torch.distributed.run --nproc_per_node 2 train.py": {},
    "python3.11 -m torch.distributed.launch --nproc_per_node 2 --use_env train.py": {},
    "python -m torch.distributed.launch --nproc_per_node 2 train.py": {},
    "torchrun  train.py ": {"PET_NPROC_PER_NODE": "4", "PET_NNODES": "2", "PET_MASTER_ADDR": "n0"},
    "torchrun --nproc-per-node 2  train.py": {"PET_NPROC_PER_NODE": "4"},
    "torchrun --nproc-per-node 2   pkg.train": {"PET_MODULE": "1", "PET_STANDALONE": "0"},
    "torchrun --numa-binding node --nproc-per-node 2 train.py": {},
    "torchrun --signals-to-handle SIGTERM --shutdown-timeout 5 --nproc-per-node 2 train.py": {},
    "torchrun --virtual-local-rank --nproc-per-node 2 train.py": {},
}


@pytest.mark.parametrize("line", LINES)
def test_ranks_are_those_of_torch(line, monkeypatch):
    theirs = torch_reads(line, LINES[line], monkeypatch)
    assert not isinstance(theirs, str), theirs
    arguments, config = theirs
    plan = read(line, LINES[line])

    assert plan.world_size == config.min_nodes * config.nproc_per_node
    assert plan.num_nodes == config.min_nodes
    assert plan.command.argv[plan.script_facts.index] == arguments.training_script
    assert list(plan.command.argv[plan.script_facts.index + 1 :]) == (
        arguments.training_script_args
    )
    elastic = any(notice.id == "PF132" for notice in plan.notices)
    assert elastic == (config.max_nodes > config.min_nodes)


REFUSED: dict[str, dict[str, str]] = {
    "torchrun --nproc-per-node two train.py": {},
    "torchrun --nnodes 2:1 train.py": {},
    "torchrun --nnodes 0 train.py": {},
    "torchrun --nnodes a:b train.py": {},
    "torchrun --nproc-per-node": {},
    "torchrun --nproc-per-node 2": {},
    "torchrun --no-such-option 3 train.py": {},
    "torchrun --max-restarts many train.py": {},
    "torchrun --start-method thread train.py": {},
    "torchrun --standalone=1 train.py": {},
    "torchrun --master-port --nproc-per-node 2 train.py": {},
    "torchrun --rdzv 3 train.py": {},
    "torchrun --nproc-per-node 2 train.py ": {"PET_STANDALONE": "yes"},
    "torchrun --use-env train.py": {},
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_torch_refuses_is_refused(line, monkeypatch):
    assert isinstance(torch_reads(line, REFUSED[line], monkeypatch), str)
    with pytest.raises(BadInput) as error:
        read(line, REFUSED[line])

    assert all(problem.id == "PF111" for problem in error.value.problems)


@given(
    st.lists(
        st.sampled_from(
            [
                "--nproc-per-node=2",
                "--nproc_per_node",
                "4",
                "--nnodes",
                "2",
                "1:3",
                "-m",
                "--module",
                "--standalone",
                "-r3",
                "-t",
                "3",
                "--max-restarts",
                "1",
                "train.py",
                "pkg.mod",
                "--",
                "--x",
                "-x=1",
                "--no-python",
                "--monitor-interval=0.5",
                "--node-rank",
                "0",
                "--master-port",
                "29500",
            ]
        ),
        min_size=1,
        max_size=7,
    )
)
def test_any_command_is_split_where_torch_splits_it(words):
    from torch.distributed.run import parse_args

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            theirs = parse_args(words)
    except SystemExit:
        theirs = None
    ours = parse_torchrun(LaunchCommand(("torchrun", *words)), 1)

    assert bool(ours.problems) == (theirs is None)
    if theirs is not None:
        assert ("torchrun", *words)[ours.script_index] == theirs.training_script
        for option in OPTIONS:
            if option.key in ours.given:
                assert ours.given[option.key].value == getattr(theirs, option.key)


ENGINES = {
    "torchrun --nproc-per-node 2 train.py": ("ddp", 1),
    'torchrun --nproc-per-node 2 train.py --fsdp "full_shard auto_wrap"': ("fsdp2", 2),
    "torchrun --nproc-per-node 2 train.py --deepspeed z3.json": ("zero3", 2),
    "torchrun --nproc-per-node 2 loop.py": ("ddp", 1),
    "torchrun --nproc-per-node 2 own.py": ("ddp", 1),
}


@pytest.mark.parametrize("line", ENGINES)
def test_the_trainers_own_arguments_decide_the_engine(line):
    plan = read(line)

    assert (plan.engine, plan.shard_degree) == ENGINES[line]
    assert plan.origins["engine"].assumed == ("own.py" in line)


def test_the_environment_of_accelerate_reaches_the_ranks_under_torchrun():
    env = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "ACCELERATE_MIXED_PRECISION": "bf16"}
    plan = read("torchrun --nproc-per-node 4 loop.py", env)

    assert (plan.engine, plan.shard_degree, plan.mixed_precision) == ("fsdp2", 4, "bf16")
    assert plan.origins["mixed_precision"].where == "$ACCELERATE_MIXED_PRECISION"


def test_a_variable_that_accelerate_does_not_take_for_on_is_said():
    plan = read("torchrun --nproc-per-node 4 loop.py", {"ACCELERATE_USE_FSDP": "1"})

    assert plan.engine == "ddp"
    assert [notice.id for notice in plan.notices] == ["PF116"]
    assert "does not turn FSDP on" in plan.notices[0].message


def test_a_variable_for_transformers_loader_is_no_mistake_under_the_trainers_fsdp(tmp_path):
    """`ACCELERATE_USE_FSDP=1 FSDP_CPU_RAM_EFFICIENT_LOADING=1 torchrun ... --fsdp full_shard`."""
    (tmp_path / "train.py").write_text(HF)
    words = "torchrun --nproc-per-node 4 train.py --fsdp full_shard"
    env = {"ACCELERATE_USE_FSDP": "1", "FSDP_CPU_RAM_EFFICIENT_LOADING": "1"}
    plan = LAUNCHER.read(LaunchCommand(tuple(words.split()), env, str(tmp_path)))

    assert plan is not None and plan.is_fsdp
    assert [notice for notice in plan.notices if notice.id == "PF116"] == []


@pytest.mark.parametrize("word", ["gpu", "auto"])
def test_ranks_per_gpu_are_counted_from_what_is_visible(word):
    plan = read(f"torchrun --nproc-per-node {word} train.py", {"CUDA_VISIBLE_DEVICES": "0,1,2"})

    assert plan.world_size == 3
    assert plan.origins["world_size"].where == "$CUDA_VISIBLE_DEVICES"
    uncounted = read(f"torchrun --nproc-per-node {word} train.py", {"CUDA_VISIBLE_DEVICES": ""})
    assert "PF115" in [notice.id for notice in uncounted.notices]
    assert {1, 8} <= set(uncounted.origins["world_size"].may_be)


LOST = {
    "torchrun --nnodes 2 --nproc-per-node 2 train.py": True,
    "torchrun --nnodes 2 --master-addr 127.0.0.1 --nproc-per-node 2 train.py": True,
    "torchrun --nnodes 2 --standalone --nproc-per-node 2 train.py": True,
    "torchrun --nnodes 2 --rdzv-backend c10d --nproc-per-node 2 train.py": True,
    "torchrun --nnodes 2 --rdzv-backend c10d --rdzv-endpoint n0:1 --nproc-per-node 2 train.py": False,
    "torchrun --nnodes 2 --rdzv-endpoint n0:1 --nproc-per-node 2 train.py": False,
    "torchrun --nnodes 2 --master-addr n0 --nproc-per-node 2 train.py": False,
    "torchrun --nproc-per-node 2 train.py": False,
}


@pytest.mark.parametrize("line", LOST)
def test_several_nodes_need_an_address_to_meet_at(line):
    assert ("PF109" in [notice.id for notice in read(line).notices]) == LOST[line]


EDITS: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    (
        "torchrun --nproc-per-node 2 train.py --per_device_train_batch_size 4",
        {},
        {"micro_batch_size": 2, "gradient_accumulation_steps": 2},
    ),
    ("torchrun --nproc-per-node 2 train.py", {}, {"activation_checkpointing": "full"}),
    ("torchrun --nproc-per-node 2 train.py", {}, {"expandable_segments": True}),
    ("torchrun --nproc-per-node 2 train.py", {}, {"optimizer": "adamw_bnb_8bit"}),
    (
        "torchrun --nproc-per-node 2 train.py --fsdp 'shard_grad_op auto_wrap'",
        {},
        {"reshard_after_forward": True},
    ),
    (
        "torchrun --nproc-per-node 2 train.py --deepspeed z3.json",
        {},
        {"deepspeed.reduce_bucket_size": 1000},
    ),
    (
        "torchrun --nproc-per-node 2 loop.py",
        {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "false"},
        {"reshard_after_forward": True},
    ),
    (
        "torchrun --nproc-per-node 2 loop.py",
        {"ACCELERATE_USE_FSDP": "true", "FSDP_SHARDING_STRATEGY": "SHARD_GRAD_OP"},
        {"reshard_after_forward": True},
    ),
]


@pytest.mark.parametrize(("line", "env", "edits"), EDITS)
def test_a_remedy_is_written_back_and_reads_as_edited(line, env, edits):
    before = read(line, env)
    rewrite = write_checked(before, before.with_edits(edits), load_plugins(None))

    assert rewrite is not None
    script = before.script_facts.index
    assert rewrite.argv[: script + 1] == before.command.argv[: script + 1]


def test_what_torchrun_has_no_word_for_is_not_written():
    before = read("torchrun --nproc-per-node 2 train.py")

    assert write_checked(before, before.with_edits({"world_size": 4}), load_plugins(None)) is None
