"""Which commands are accelerate launches, and where the launcher's options end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.command import LaunchCommand
from preflight.errors import BadInput
from preflight.launch import LaunchPlan
from preflight.launchers.accelerate.argv import (
    OPTIONS,
    first_option_index,
    parse_launcher_arguments,
)
from preflight.plugins import load_plugins
from preflight.shell.starters.launcher_options import LauncherOption
from preflight.shell.starters.option_table import older_options
from preflight.versions.boundary import release


@pytest.mark.parametrize(
    ("words", "index"),
    [
        ("accelerate launch train.py", 2),
        ("/opt/venv/bin/accelerate launch train.py", 2),
        ("accelerate-launch train.py", 1),
        ("python -m accelerate.commands.launch train.py", 3),
        ("python3.11 -u -m accelerate.commands.launch train.py", 4),
        ("/usr/bin/python3 -W ignore -m accelerate.commands.launch train.py", 5),
        ("python -um accelerate.commands.launch train.py", 3),
        ("python -m accelerate.commands.accelerate_cli launch train.py", 4),
        ("python /opt/venv/bin/accelerate launch train.py", 3),
    ],
)
def test_every_way_to_call_the_launcher_is_recognised(words: str, index: int) -> None:
    assert first_option_index(words.split()) == index


@pytest.mark.parametrize(
    "words",
    [
        "",
        "accelerate",
        "accelerate config",
        "accelerate test --config_file c.yaml",
        "torchrun --nproc-per-node 8 train.py",
        "python train.py accelerate launch",
        "python -m torch.distributed.run train.py",
        "deepspeed train.py",
        "python",
    ],
)
def test_other_commands_are_left_to_others(words: str) -> None:
    assert first_option_index(words.split()) is None


def parse(words: str) -> Any:
    return parse_launcher_arguments(words.split(), 0)


def test_what_stands_behind_the_script_belongs_to_the_script() -> None:
    parsed = parse("--num_processes 8 train.py --num_processes 2 --multi_gpu")

    assert {key: setting.value for key, setting in parsed.given.items()} == {"num_processes": 8}
    assert parsed.script_index == 2
    assert parsed.problems == ()


@pytest.mark.parametrize(
    "words",
    [
        "--num_processes 8 t.py",
        "--num-processes 8 t.py",
        "--num_processes=8 t.py",
        "--num-processes=8 t.py",
    ],
)
def test_every_spelling_of_an_option_is_the_same_option(words: str) -> None:
    setting = parse(words).given["num_processes"]

    assert setting.value == 8
    assert setting.place.index == 0
    assert words.startswith(setting.place.where)


def test_a_module_is_found_behind_dash_m() -> None:
    parsed = parse("--multi_gpu -m trl.scripts.sft --learning_rate 1e-5")

    assert parsed.given["module"].value is True
    assert parsed.script_index == 2


def test_every_wrong_option_is_reported_at_once() -> None:
    parsed = parse("--num_process 4 --mixed_precision BF16 --num_machines two train.py")

    # As in argparse, the value of an option that nobody knows is taken for the script.
    assert [problem.where for problem in parsed.problems] == ["--num_process"]
    assert "num_processes" in parsed.problems[0].fix
    parsed = parse("--multi_gpu=yes --mixed_precision BF16 --num_machines two train.py")
    assert [problem.where for problem in parsed.problems] == [
        "--multi_gpu",
        "--mixed_precision",
        "--num_machines",
    ]


VALUES = {"int": st.integers(-1, 64).map(str), "float": st.floats(0, 1).map(str)}
WORDS = st.sampled_from(["true", "false", "0", "cpu", "a b", "x=y"])


def one_option(option: LauncherOption) -> st.SearchStrategy[list[str]]:
    flags = st.sampled_from([flag for flag in option.flags if flag.startswith("--")])
    if option.kind == "flag":
        return flags.map(lambda flag: [flag])
    values = st.sampled_from(option.choices) if option.choices else VALUES.get(option.kind, WORDS)
    joined = st.tuples(flags, values).map(lambda pair: [f"{pair[0]}={pair[1]}"])
    return st.one_of(st.tuples(flags, values).map(list), joined)


OTHERS = ("unset", "append", "bool", "bools")
OPTION_WORDS = st.one_of([one_option(o) for o in OPTIONS if o.kind not in OTHERS])


@settings(max_examples=60, deadline=None)
@given(st.lists(OPTION_WORDS, max_size=5))
def test_values_are_those_of_the_installed_parser(options: list[list[str]]) -> None:
    from accelerate.commands.launch import launch_command_parser

    words = [word for option in options for word in option]
    argv = [*words, "train.py", "--lr", "1"]
    theirs = vars(launch_command_parser().parse_args(argv))
    ours = parse_launcher_arguments(argv, 0)

    assert ours.problems == ()
    assert argv[ours.script_index] == theirs["training_script"]
    for key, setting in ours.given.items():
        assert setting.value == theirs[key]


OLDER = older_options()


@pytest.mark.parametrize("option", OLDER, ids=[option.key for option in OLDER])
def test_the_installed_parser_has_none_of_the_older_options(option: LauncherOption) -> None:
    from accelerate.commands.launch import launch_command_parser

    value = [] if option.kind == "flag" else ["1"]
    with pytest.raises(SystemExit):
        launch_command_parser().parse_args([option.flags[0], *value, "train.py"])
    ours = parse_launcher_arguments([option.flags[0], *value, "train.py"], 0, "0.17.1")

    assert ours.problems == () and len(ours.given) == 1


SCRIPT = "from transformers import Trainer\nTrainer(model, args).train()\n"


def plan_of(folder: Path, words: str, requirements: str = "") -> LaunchPlan:
    (folder / "train.py").write_text(SCRIPT)
    (folder / "requirements.txt").write_text(requirements)
    argv = ("accelerate", "launch", *words.split(), "train.py")
    plan = load_plugins().first(
        "preflight_read_launch", command=LaunchCommand(argv, {}, str(folder))
    )
    assert isinstance(plan, LaunchPlan)
    return plan


PREFETCH = "--num_processes 8 --use_fsdp --fsdp_backward_prefetch_policy NO_PREFETCH"


@pytest.mark.parametrize("requirements", ["", "accelerate==0.31.0\n", "accelerate<0.34\n"])
def test_an_option_that_has_left_is_read_where_a_release_may_have_it(
    tmp_path: Path, requirements: str
) -> None:
    plan = plan_of(tmp_path, PREFETCH, requirements)

    assert plan.backward_prefetch == "none"
    assert release(plan.versions["accelerate"]) < (1, 0)


def test_an_option_that_has_left_is_refused_by_a_release_without_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no option --fsdp_backward_prefetch_policy"):
        plan_of(tmp_path, PREFETCH, "accelerate==1.3.0\n")


def test_an_older_option_that_nothing_reads_is_named(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "--num_processes 8 --use_tp --tp_size 4", "accelerate==1.6.0\n")
    unpriced = {notice.unpriced for notice in plan.notices}

    assert {"what --use_tp does", "what --tp_size does"} <= unpriced


def test_a_part_of_a_name_was_the_name_before_0_18(tmp_path: Path) -> None:
    words = "--multi_gpu --num_machine=1 --num_processes=8"

    assert plan_of(tmp_path, words, "accelerate==0.17.1\n").world_size == 8
    with pytest.raises(BadInput, match="no option --num_machine"):
        plan_of(tmp_path, words)
