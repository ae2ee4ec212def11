"""What the reader makes of a `deepspeed` command is what the launcher itself starts."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from preflight.engines.own_deepspeed import STAGES
from preflight.errors import BadInput
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.deepspeed import LAUNCHER
from preflight.launchers.deepspeed.launcher import rank_variables
from preflight.plugins import load_plugins
from preflight.rewriting import write_checked

HF = """from transformers import HfArgumentParser, Trainer, TrainingArguments
HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
"""
OWN = """\
import argparse
import deepspeed

args = deepspeed.add_config_arguments(argparse.ArgumentParser()).parse_args()
"""
HOSTS = "# two nodes\nn0 slots=4\nn1  slots=2\n\n"
Z3 = '{"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 4}'
Z2_YAML = """\
train_micro_batch_size_per_gpu: 3
zero_optimization:
  stage: 2
bf16: {enabled: true}
"""
FOUR = "--num_gpus 4"


def command(line: str, folder: Path, env: Mapping[str, str] | None = None) -> LaunchCommand:
    for name, text in {"train.py": HF, "own.py": OWN, "hosts": HOSTS, "z3.json": Z3}.items():
        if not (folder / name).exists():
            (folder / name).write_text(text)
    environment = {"HOME": str(folder / "home"), **(env or {})}
    return LaunchCommand(tuple(shlex.split(line)), environment, str(folder))


def read(line: str, folder: Path, env: Mapping[str, str] | None = None, **files: str) -> LaunchPlan:
    for name, text in files.items():
        (folder / name).write_text(text)
    plan = LAUNCHER.read(command(line, folder, env))
    assert plan is not None
    return plan


class Started:
    """Stands for the process that DeepSpeed's runner starts: keeps its words."""

    returncode = 0
    words: ClassVar[list[str]] = []

    def __init__(self, words: list[str], env: Mapping[str, str] | None = None) -> None:
        Started.words = list(words)

    def wait(self) -> None:
        """End at once."""


def deepspeed_starts(
    line: str, folder: Path, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[int]] | str:
    """Return host -> slots that the real runner hands to its worker launcher, or its refusal."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("LOCAL_SIZE", "8")  # the devices that DeepSpeed's CPU accelerator counts
    monkeypatch.chdir(folder)
    from deepspeed.launcher import runner

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, text in env.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(runner.subprocess, "Popen", Started)
    Started.words = []
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            runner.main(shlex.split(line)[1:])
    except (SystemExit, ValueError, RuntimeError, AssertionError, KeyError) as error:
        if Started.words == [] or not isinstance(error, SystemExit):
            return repr(error)
    info = next(word for word in Started.words if word.startswith("--world_info="))
    decoded: dict[str, list[int]] = json.loads(base64.urlsafe_b64decode(info.partition("=")[2]))
    return decoded


ONE_NODE = "--no_ssh_check --no_ssh --node_rank 0 --master_addr n0 --hostfile hosts"
"""Several hosts without pdsh: the runner hands out the same slots and starts its own node's."""

LINES: dict[str, dict[str, str]] = {
    "deepspeed --num_gpus 4 train.py --a 1": {},
    "deepspeed --num_gpus=4 train.py": {},
    "deepspeed --num_accelerators 2 train.py": {},
    "deepspeed --include localhost:0,2 train.py": {},
    "deepspeed -i localhost:3,1,1 train.py": {},
    "deepspeed --include=localhost:5 --master_port 29501 train.py": {},
    "deepspeed --num_nodes 1 --num_gpus 4 train.py": {},
    "deepspeed train.py": {"CUDA_VISIBLE_DEVICES": "1,3"},
    "deepspeed  --num_gpus 4 train.py": {"CUDA_VISIBLE_DEVICES": "1,3"},
    "deepspeed --num_gpus 2 --module pkg.train --x 1": {},
    "deepspeed --num_gpus 2 --no_python --no_local_rank run.sh": {},
    "deepspeed --num_gpus 2 --bind_cores_to_rank --bind_core_list 0-3 train.py": {},
    "deepspeed --num_gpus 2 -q --save_pid --log_level error train.py": {},
    "deepspeed --num_gpus 2 --enable_each_rank_log logs train.py": {},
    "deepspeed --num_gpus 2 --hostfile no-such-file train.py": {},
    "deepspeed --num_gpus 12 train.py": {},
    "deepspeed --num_gpu 2 train.py": {},
    f"deepspeed {ONE_NODE} train.py": {},
    f"deepspeed {ONE_NODE} --num_nodes 1 train.py": {},
    f"deepspeed {ONE_NODE} --num_gpus 2 train.py": {},
    f"deepspeed {ONE_NODE} --include n1@n0:0,3 train.py": {},
    f"deepspeed {ONE_NODE} --include n1 train.py": {},
    f"deepspeed {ONE_NODE} --exclude n0:0,1 train.py": {},
    f"deepspeed {ONE_NODE} -e n1 train.py": {},
    f"deepspeed {ONE_NODE}  train.py": {"CUDA_VISIBLE_DEVICES": "0"},
}


@pytest.mark.parametrize("line", LINES)
def test_ranks_are_the_slots_that_deepspeed_takes(line, tmp_path, monkeypatch):
    ours = read(line, tmp_path, LINES[line])
    theirs = deepspeed_starts(line, tmp_path, LINES[line], monkeypatch)

    assert isinstance(theirs, dict), theirs
    assert ours.world_size == sum(len(slots) for slots in theirs.values())
    assert ours.num_nodes == len(theirs)
    # What the runner starts ends with the script and its arguments.
    words = Started.words
    script = ours.command.argv[ours.script_facts.index :]
    assert tuple(words[len(words) - len(script) :]) == script


REFUSED = {
    "deepspeed --num_gpus 2 --include localhost:0 train.py": "",
    "deepspeed --include localhost:0 --exclude localhost:1 train.py": "",
    "deepspeed --num_nodes 2 --num_gpus 2 train.py": "",
    "deepspeed --include localhost:zero train.py": "",
    "deepspeed --include elsewhere:0 train.py": "",
    f"deepspeed {ONE_NODE} --include n0:9 train.py": "",
    f"deepspeed {ONE_NODE} --include n7 train.py": "",
    f"deepspeed {ONE_NODE} train.py": "n0 slots=4\nn0 slots=2\n",
    f"deepspeed {ONE_NODE}  train.py": "n0 slots=4\nn1: 2\n",
    f"deepspeed {ONE_NODE}   train.py": "# nothing\n",
    "deepspeed --num_gpus two train.py": "",
    "deepspeed --autotuning guess --num_gpus 2 train.py": "",
    "deepspeed --no-such-option --num_gpus 2 train.py": "",
    "deepspeed --num_gpus 2": "",
    "deepspeed --num_gpus": "",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_deepspeed_refuses_is_refused(line, tmp_path, monkeypatch):
    if REFUSED[line]:
        (tmp_path / "hosts").write_text(REFUSED[line])
    with pytest.raises(BadInput) as error:
        LAUNCHER.read(replace(command(line, tmp_path), starts_here=True))

    assert all(problem.id == "PF111" for problem in error.value.problems)
    assert isinstance(deepspeed_starts(line, tmp_path, {}, monkeypatch), str)


@pytest.mark.parametrize(
    ("options", "ranks"),
    [
        ("--num_nodes 2 --num_gpus 4", (8, 2)),
        ("--include worker-2:0,1", (2, 1)),
        ("--include worker-1:0,1,2@worker-2:0", (4, 2)),
        ("--num_nodes=2", None),
        ("--include worker-2", None),
        ("--exclude worker-2:0@worker-3:0,1", None),
    ],
)
def test_hosts_that_another_machine_lists_are_no_mistake(options, ranks, tmp_path):
    """Started here they are: the hostfile is looked for where the launcher runs."""
    plan = read(f"deepspeed {options} train.py", tmp_path)
    is_open = bool(plan.origins["world_size"].may_be)

    assert is_open if ranks is None else (plan.world_size, plan.num_nodes) == ranks
    assert ("PF115" in [notice.id for notice in plan.notices]) is (ranks is None)
    with pytest.raises(BadInput):
        line = f"deepspeed {options} train.py"
        LAUNCHER.read(replace(command(line, tmp_path), starts_here=True))


def test_ranks_of_a_machine_without_gpus_are_open(tmp_path):
    plan = read("deepspeed train.py", tmp_path)

    assert "PF115" in [notice.id for notice in plan.notices]
    assert {1, 8} <= set(plan.origins["world_size"].may_be)


ENGINES = {
    f"deepspeed {FOUR} train.py --deepspeed z3.json --per_device_train_batch_size 2 --gradient_accumulation_steps 4": "zero3",
    f"deepspeed {FOUR} own.py --deepspeed --deepspeed_config z3.json": "zero3",
    f"deepspeed {FOUR} own.py --deepspeed_config=z3.json": "zero3",
    f"deepspeed {FOUR} train.py": "ddp",
    f"deepspeed {FOUR} own.py": "ddp",
}


@pytest.mark.parametrize("line", ENGINES)
def test_the_script_names_the_config(line, tmp_path):
    plan = read(line, tmp_path)

    assert plan.engine == ENGINES[line]
    assert ("PF133" in [notice.id for notice in plan.notices]) == (plan.engine == "ddp")
    if plan.engine == "zero3":
        assert (plan.micro_batch_size, plan.gradient_accumulation_steps) == (2, 4)


def test_a_script_of_ones_own_may_load_yaml_and_hand_it_to_deepspeed(tmp_path):
    plan = read(f"deepspeed {FOUR} own.py --ds_config z2.yaml", tmp_path, **{"z2.yaml": Z2_YAML})

    assert (plan.engine, plan.micro_batch_size) == ("zero2", 3)
    with pytest.raises(BadInput, match="not a JSON value"):  # transformers reads JSON alone
        read(f"deepspeed {FOUR} train.py --deepspeed z2.yaml", tmp_path)


def test_a_length_below_one_is_the_own_affair_of_a_script(tmp_path):
    said = "own.py --deepspeed_config z3.json --seq-length -1"
    plan = read(f"deepspeed {FOUR} {said}", tmp_path)

    assert plan.seq_len is None
    assert any("--seq-length -1 is not understood" in each.message for each in plan.notices)


DEEPSPEEDS = """\
import argparse
import deepspeed
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--zero_stage", type=int, default=0)
parser.add_argument("--per_device_train_batch_size", type=int, default=16)
parser.add_argument("--gradient_checkpointing", action="store_true")
{more}
args = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained("gpt2")
engine, *_ = deepspeed.initialize(args=args, model=model, config=made_of(args))
"""
ADDS = "parser = deepspeed.add_config_arguments(parser)"


@pytest.mark.parametrize(
    ("words", "engine"),
    [
        ("--deepspeed --per_device_train_batch_size 4", "ddp"),
        ("--per_device_train_batch_size 4 --deepspeed", "ddp"),
        ("--deepspeed --zero_stage 2 --per_device_train_batch_size 4", "zero2"),
        ("--zero_stage 3 --per_device_train_batch_size 4 --deepspeed", "zero3"),
        ("--deepspeed --deepspeed_config z4.json --per_device_train_batch_size 4", "zero3"),
    ],
)
def test_the_switch_of_deepspeeds_own_arguments_takes_no_value(words, engine, tmp_path):
    script = DEEPSPEEDS.format(more=ADDS)
    files = {"chat.py": script, "z4.json": '{"zero_optimization": {"stage": 3}}'}
    plan = read(f"deepspeed {FOUR} chat.py {words}", tmp_path, **files)

    assert (plan.engine, plan.micro_batch_size) == (engine, 4)
    assert plan.shard_degree == (1 if engine == "ddp" else 4)


def test_deepspeed_adds_a_switch_and_a_file():
    """`preflight.scripts.python.options.DEEPSPEED_OPTIONS` against the parser that DeepSpeed makes."""
    import argparse

    import deepspeed

    from preflight.scripts.python.options import DEEPSPEED_OPTIONS

    parser = deepspeed.add_config_arguments(argparse.ArgumentParser(add_help=False))
    takes = {
        word: "none" if action.nargs == 0 else "one"
        for action in parser._actions
        for word in action.option_strings
    }

    assert takes == {word: option.takes for word, option in DEEPSPEED_OPTIONS.items()}


def test_a_stage_that_the_script_decides_is_open(tmp_path):
    script = DEEPSPEEDS.format(more="")
    plan = read(f"deepspeed {FOUR} chat.py", tmp_path, **{"chat.py": script})
    (said,) = [notice for notice in plan.notices if notice.id == "PF133"]

    assert set(plan.origins["engine"].may_be) == {"ddp", "zero1", "zero2", "zero3"}
    assert "hands DeepSpeed a config of its own" in said.message
    assert said.where == "chat.py:12"


def test_a_switch_is_no_file_where_the_script_cannot_be_read(tmp_path):
    plan = read(f"deepspeed {FOUR} elsewhere/main.py --bf16 --deepspeed --zero_stage 2", tmp_path)

    assert plan.world_size == 4


NAMES = "from transformers import Seq2SeqTrainingArguments\nfrom own import parse\n"
PARSES = """from transformers import HfArgumentParser, Trainer, TrainingArguments
(arguments,) = HfArgumentParser((TrainingArguments,)).parse_args_into_dataclasses()
Trainer(args=arguments).train()
"""


@pytest.mark.parametrize(
    ("name", "engine", "may_be"),
    [("zero2", "zero2", ()), ("zero3_offload", "zero3", ()), ("fast", "ddp", STAGES)],
)
def test_a_framework_of_ones_own_may_name_its_configs(name, engine, may_be, tmp_path):
    """No file of that name is here, and no class of transformers reads it."""
    words = f"torchrun --nproc-per-node 4 sft.py --deepspeed {name}"
    plan = load_plugins().first(
        "preflight_read_launch",
        command=LaunchCommand(
            tuple(words.split()), {}, str(tmp_path), {str(tmp_path / "sft.py"): NAMES}
        ),
    )

    assert plan.engine == engine
    assert plan.origins["engine"].may_be == may_be
    assert [notice.severity for notice in plan.notices if notice.id == "PF133"] == ["warning"]


def test_a_file_without_zero_is_deepspeeds_stage_0_in_a_loop_of_ones_own(tmp_path):
    (tmp_path / "plain.json").write_text('{"train_batch_size": 8, "bf16": {"enabled": true}}')
    script = DEEPSPEEDS.format(more=ADDS)
    words = f"deepspeed {FOUR} chat.py --deepspeed --deepspeed_config plain.json"
    plan = read(words, tmp_path, **{"chat.py": script})

    assert (plan.engine, plan.mixed_precision) == ("zero0", "bf16")


def test_a_file_without_zero_is_accelerates_refusal_where_a_trainer_reads_it_for_sure(tmp_path):
    (tmp_path / "plain.json").write_text('{"bf16": {"enabled": true}}')
    words = f"deepspeed {FOUR} sft.py --output_dir out --bf16 --deepspeed plain.json"

    assert read(words, tmp_path, **{"sft.py": NAMES}).engine == "zero0"
    with pytest.raises(BadInput, match="zero_optimization is missing"):
        read(words, tmp_path, **{"sft.py": PARSES})


def test_the_file_that_the_autotuner_starts_from_decides_nothing(tmp_path):
    words = f"deepspeed {FOUR} --autotuning run train.py --deepspeed plain.json"
    plan = read(words, tmp_path, **{"plain.json": '{"train_micro_batch_size_per_gpu": "auto"}'})

    assert [n.unpriced for n in plan.notices if n.unpriced] == ["what the autotuner tries"]


def test_the_variables_of_several_nodes_are_those_that_deepspeed_exports(tmp_path, monkeypatch):
    """The real runner is asked for its pdsh command, which exports variable by variable."""
    from deepspeed.launcher import runner

    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / ".deepspeed_env").write_text("FROM_FILE=3\n")
    env = {
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "UCX_TLS": "tcp",
        "HOME": str(home),
    }
    line = "deepspeed --no_ssh_check --master_addr n0 --hostfile hosts train.py"
    plan = read(line, tmp_path, env)
    monkeypatch.setattr(runner.PDSHRunner, "backend_exists", lambda self: True)
    monkeypatch.setattr(runner, "DEEPSPEED_ENVIRONMENT_PATHS", [str(home), "."])
    deepspeed_starts(line, tmp_path, env, monkeypatch)
    exported = " ".join(Started.words)

    assert "export UCX_TLS=tcp" in exported and "export FROM_FILE=3" in exported
    assert "PYTORCH_ALLOC_CONF" not in exported
    assert plan.expandable_segments is False
    assert [notice.where for notice in plan.notices if notice.id == "PF134"] == [
        "$PYTORCH_ALLOC_CONF"
    ]
    edited = plan.with_edits({"expandable_segments": True})
    assert write_checked(plan, edited, load_plugins(None)) is None


@pytest.mark.parametrize(
    "data",
    [b"n0 slots=\xe9\n", b"\xff\xfen\x000\x00", b"n0 slots=" + b"9" * 5000],
)
def test_a_hostfile_that_is_no_text_or_no_number_is_bad_input(data, tmp_path):
    """Attack D3: a hostfile of latin-1, and slots that are no number of anything."""
    (tmp_path / "odd").write_bytes(data)
    with pytest.raises(BadInput) as error:
        read("deepspeed --hostfile odd train.py", tmp_path, {})

    assert error.value.problems[0].where.startswith(("odd", str(tmp_path)))


EDITS: list[tuple[str, dict[str, Any]]] = [
    (
        f"deepspeed {FOUR} train.py --deepspeed z3.json --per_device_train_batch_size 2 --gradient_accumulation_steps 4",
        {"micro_batch_size": 1, "gradient_accumulation_steps": 8},
    ),
    (
        f"deepspeed {FOUR} own.py --deepspeed_config z3.json",
        {"micro_batch_size": 1, "gradient_accumulation_steps": 8},
    ),
    (f"deepspeed {FOUR} own.py --deepspeed_config=z3.json", {"deepspeed.sub_group_size": 1000}),
    (f"deepspeed {FOUR} train.py", {"expandable_segments": True}),
    (f"deepspeed {FOUR} train.py", {"activation_checkpointing": "full"}),
]


@pytest.mark.parametrize(("line", "edits"), EDITS)
def test_a_remedy_is_written_back_and_reads_as_edited(line, edits, tmp_path):
    before = read(line, tmp_path)
    rewrite = write_checked(before, before.with_edits(edits), load_plugins(None))

    assert rewrite is not None
    assert rewrite.argv[:4] == before.command.argv[:4]
    for file in rewrite.files:
        assert file.new_path_shown in " ".join(rewrite.argv)


def test_only_ranks_of_one_node_see_every_variable(tmp_path):
    from preflight.launchers.deepspeed.launcher import DEFAULT, Slots

    one = command("deepspeed --num_gpus 2 train.py", tmp_path, {"A": "1"})

    assert rank_variables(one, Slots({"localhost": (0, 1)}, DEFAULT, DEFAULT))["A"] == "1"
    assert "A" not in rank_variables(
        one, Slots({"n0": (0,), "n1": (0,)}, DEFAULT, DEFAULT, spans_nodes=True)
    )
