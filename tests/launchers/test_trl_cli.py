"""What the reader makes of `trl sft ...` is what TRL's CLI hands to accelerate and to its script."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from preflight.errors import BadInput
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.trl import LAUNCHER
from preflight.launchers.trl.plan import split_words
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch, write_checked
from preflight.scripts.arguments.trainer_tables import argument_table
from preflight.versions.boundary import release

FSDP2 = """distributed_type: FSDP
num_processes: 8
mixed_precision: bf16
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: false
"""
SFT = "model_name_or_path: m\nper_device_train_batch_size: 4\nmax_length: 512\n"
FILES = {
    "fsdp2.yaml": FSDP2,
    "sft.yaml": SFT,
    "ranks.yaml": SFT + "num_processes: 4\n",
    "profile.yaml": SFT + "accelerate_config: zero2\nnum_processes: 2\n",
    "file.yaml": SFT + "accelerate_config: fsdp2.yaml\n",
    "typo.yaml": SFT + "lerning_rate: 1e-5\nwarmup_ratio: 0.03\nnum_processes: 2\n",
    "env.yaml": SFT + "env:\n  CUDA_VISIBLE_DEVICES: '0,1,2'\n",
}


def command(line: str, folder: Path, env: Mapping[str, str] | None = None) -> LaunchCommand:
    for name, text in FILES.items():
        if not (folder / name).exists():
            (folder / name).write_text(text)
    environment = {"HOME": str(folder / "home"), "CUDA_VISIBLE_DEVICES": "", **(env or {})}
    return LaunchCommand(tuple(shlex.split(line)), environment, str(folder))


def read(
    line: str, folder: Path, env: Mapping[str, str] | None = None, starts_here: bool = False
) -> LaunchPlan:
    started = replace(command(line, folder, env), starts_here=starts_here)
    plan = LAUNCHER.read(started)
    assert plan is not None
    return plan


def trl_starts(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the arguments that TRL's CLI gives to accelerate's launcher, or the text of its refusal."""
    from trl.cli import accelerate_launcher, main

    monkeypatch.chdir(folder)
    # The script's parser makes its arguments object, which asks for a GPU that knows bf16.
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    taken: list[Any] = []
    launch = accelerate_launcher.launch_training_script
    # The function takes its launcher as an argument, for tests like this one.
    monkeypatch.setattr(
        launch, "__kwdefaults__", {**launch.__kwdefaults__, "launch_command_fn": taken.append}
    )
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            main(shlex.split(line)[1:])
    except (SystemExit, ValueError) as error:
        text = errors.getvalue() or str(error)
        assert "support bf16/gpu" not in text
        return text
    return taken[0]


BASE = "--model_name_or_path m --dataset_name d --output_dir out"

LINES = [
    f"trl sft {BASE}",
    f"trl sft {BASE} --num_processes 2 --multi_gpu --per_device_train_batch_size 4",
    f"trl sft --num_processes=2 {BASE} --multi_gpu",
    f"trl sft {BASE} --accelerate_config fsdp2 --num_processes 4",
    f"trl sft --accelerate_config zero3 {BASE}",
    f"trl sft {BASE} --accelerate_config fsdp2.yaml",
    f"trl sft {BASE} --config_file fsdp2.yaml --mixed_precision bf16",
    f"trl dpo {BASE} --accelerate_config single_gpu --max_length 128",
    f"trl grpo {BASE} --accelerate_config multi_gpu --num_processes 2",
    f"trl kto {BASE} --accelerate_config zero1",
    f"trl reward {BASE} --accelerate_config zero2 --gradient_accumulation_steps 1",
    f"trl rloo {BASE} --accelerate_config fsdp1",
    f"trl sft --config sft.yaml {BASE}",
    f"trl sft --config ranks.yaml --multi_gpu {BASE} --max_length 64",
    f"trl sft --config profile.yaml {BASE}",
    f"trl sft {BASE} --config file.yaml --num_processes 2",
    f"trl sft {BASE} --use_peft --lora_target_modules q_proj v_proj --num_processes 2 --multi_gpu",
    f"trl sft {BASE} --gpu_ids 0,1 --multi_gpu --num_processes 2 --packing",
    f"trl sft {BASE} --use_fsdp --fsdp_version 2 --num_processes 2 --fsdp_reshard_after_forward false",
]


@pytest.mark.parametrize("line", LINES)
def test_words_are_split_as_trl_splits_them(line, tmp_path, monkeypatch):
    """Every option of accelerate's parser has the value that TRL gave it, and so have the script's words."""
    one = command(line, tmp_path)
    plan = LAUNCHER.read(one)
    theirs = trl_starts(line, tmp_path, monkeypatch)
    assert plan is not None and not isinstance(theirs, str), theirs
    split = split_words(one, 2, argument_table(one.argv[1]))
    ours = [
        word
        for index, word in enumerate(one.argv)
        if index >= 2 and index not in split.value.indices
    ]

    assert split.problems == ()
    assert ours == theirs.training_script_args
    assert theirs.training_script.endswith(f"trl/scripts/{one.argv[1]}.py")
    documents = plan.documents
    assert (documents.get("accelerate") is not None) == (theirs.config_file is not None)
    if theirs.config_file is not None:
        assert Path(one.resolve(documents["accelerate"])) == Path(theirs.config_file).absolute()
    elif theirs.num_processes is not None and theirs.multi_gpu:
        assert plan.world_size == theirs.num_processes


REFUSED = [
    f"trl sft {BASE} --accelerate_config no-such-profile",
    f"trl sft {BASE} --accelerate_config",
    f"trl sft {BASE} --no_such_option 3",
    f"trl sft {BASE} --config typo.yaml",
    f"trl sft {BASE} --warmup_ratio 0.03",
    f"trl sft {BASE} --num_processes many",
]


@pytest.mark.parametrize("line", REFUSED)
def test_what_trl_or_accelerate_refuses_is_refused(line, tmp_path, monkeypatch):
    with pytest.raises(BadInput) as error:
        read(line, tmp_path, starts_here=True)

    assert all(problem.id == "PF111" for problem in error.value.problems)
    assert isinstance(trl_starts(line, tmp_path, monkeypatch), str)


OLDER = "--max_seq_length 512 --torch_dtype bfloat16 --evaluation_strategy no --warmup_ratio 0.03"


def test_what_an_older_trl_takes_is_an_argument_where_the_launch_may_have_one(tmp_path):
    plan = read(f"trl sft {BASE} {OLDER}", tmp_path)

    assert (plan.seq_len, plan.load_dtype) == (512, "bf16")
    assert release(plan.versions["trl"]) < (0, 20)
    assert release(plan.versions["transformers"]) < (4, 51)


@pytest.mark.parametrize("words", ["--num_processes 2 --bf16", "--bf16 --num_processes 2"])
def test_a_switch_of_an_older_trl_is_the_scripts_wherever_it_stands(words, tmp_path):
    (tmp_path / "requirements.txt").write_text("trl==0.16.1\ntransformers==4.50.0\n")
    plan = read(f"trl sft {BASE} {words}", tmp_path)

    assert (plan.mixed_precision, plan.world_size) == ("bf16", 2)


@pytest.mark.parametrize("flag", OLDER.split()[::2])
def test_it_is_refused_where_the_launch_has_a_newer_one(flag, tmp_path):
    pins = "trl==1.16.0\ntransformers==5.24.0\n"
    (tmp_path / "requirements.txt").write_text(pins)
    with pytest.raises(BadInput) as error:
        read(f"trl sft {BASE} {flag} 1", tmp_path)

    assert [problem.where for problem in error.value.problems] == [flag]


def test_what_neither_trl_nor_accelerate_knows_is_told_at_once_with_its_line(tmp_path):
    with pytest.raises(BadInput) as error:
        read("trl sft --config typo.yaml --num_proceses 2", tmp_path, starts_here=True)

    assert [(problem.where, problem.fix) for problem in error.value.problems] == [
        ("typo.yaml:4", "did you mean learning_rate"),
        ("typo.yaml:5", "warmup_steps takes it now: below 1 it is a share of the steps"),
        ("--num_proceses", "did you mean --num_processes"),
    ]


def test_the_commands_are_those_of_trl():
    from trl.cli.commands import get_commands
    from trl.cli.commands.training import TrainingCommand

    training = {command.name for command in get_commands() if isinstance(command, TrainingCommand)}

    assert training == set(LAUNCHER.subcommands)


@pytest.mark.parametrize("line", ["trl env", "trl vllm-serve --model m", "trl", "trlx sft"])
def test_another_command_is_not_ours(line, tmp_path):
    assert LAUNCHER.read(command(line, tmp_path)) is None


@pytest.mark.parametrize("start", ["trl distillation", "python trl/scripts/distillation.py"])
def test_a_distillation_says_that_its_teacher_is_not_counted(start, tmp_path):
    words = f"{start} {BASE} --teacher_model_name_or_path Qwen/Qwen2.5-7B"
    plan = read_launch(LaunchCommand(tuple(words.split()), {}, str(tmp_path)), load_plugins(None))
    notices = {notice.id: notice for notice in plan.notices}

    assert plan.trainer == "trl"
    assert "teacher" in notices["PF438"].message
    errors = {notice.id for notice in plan.notices if notice.severity == "error"}
    assert errors <= {"PF128"}  # the script lies nowhere here


PLANS = {
    f"trl sft {BASE} --accelerate_config fsdp2 --num_processes 4": ("fsdp2", 4, 4, "sft.py"),
    f"trl sft {BASE} --accelerate_config zero3": ("zero3", 8, 8, ""),
    f"trl sft {BASE} --num_processes 2 --multi_gpu": ("ddp", 2, 1, ""),
    "trl sft --config profile.yaml": ("zero2", 2, 2, ""),
    "trl sft --config ranks.yaml --multi_gpu": ("ddp", 4, 1, ""),
    f"trl sft {BASE}": ("single", 1, 1, ""),
}


@pytest.mark.parametrize("line", PLANS)
def test_both_halves_make_the_plan(line, tmp_path):
    plan = read(line, tmp_path, {"CUDA_VISIBLE_DEVICES": "0"})
    engine, world_size, shard_degree, _ = PLANS[line]

    assert (plan.engine, plan.world_size, plan.shard_degree) == (engine, world_size, shard_degree)
    assert (plan.trainer, plan.launcher) == ("trl", "trl")
    assert plan.activation_checkpointing == "full"  # TRL's own default
    assert not [notice for notice in plan.notices if "ignored" in notice.message]


def test_a_launcher_option_of_the_file_is_named_by_its_line(tmp_path):
    plan = read("trl sft --config ranks.yaml --multi_gpu", tmp_path)

    assert plan.origins["world_size"].where == "ranks.yaml:4"


def test_variables_of_the_file_reach_the_launcher(tmp_path):
    plan = read("trl sft --config env.yaml", tmp_path)

    assert plan.world_size == 3


EDITS: list[tuple[str, dict[str, Any]]] = [
    (
        f"trl sft {BASE} --per_device_train_batch_size 4 --num_processes 2 --multi_gpu",
        {"micro_batch_size": 2, "gradient_accumulation_steps": 2},
    ),
    (
        "trl sft --config sft.yaml --num_processes 2 --multi_gpu",
        {"micro_batch_size": 2, "gradient_accumulation_steps": 2},
    ),
    ("trl sft --config file.yaml", {"reshard_after_forward": True}),
    (f"trl sft {BASE} --accelerate_config fsdp2.yaml", {"reshard_after_forward": True}),
    (f"trl sft {BASE} --accelerate_config fsdp2", {"reshard_after_forward": False}),
    ("trl sft --config profile.yaml", {"expandable_segments": True}),
    (
        f"trl sft {BASE} --use_fsdp --fsdp_version 2 --num_processes 2 --fsdp_reshard_after_forward false",
        {"reshard_after_forward": True},
    ),
    (f"trl sft {BASE}", {"optimizer": "adamw_bnb_8bit"}),
    (f"trl sft {BASE} --gradient_checkpointing false", {"activation_checkpointing": "full"}),
]


@pytest.mark.parametrize(("line", "edits"), EDITS)
def test_a_remedy_is_written_back_and_trl_takes_it(line, edits, tmp_path, monkeypatch):
    before = read(line, tmp_path, {"CUDA_VISIBLE_DEVICES": "0"})
    rewrite = write_checked(before, before.with_edits(edits), load_plugins(None))

    assert rewrite is not None
    for file in rewrite.files:
        Path(file.new_path).parent.mkdir(exist_ok=True)
        Path(file.new_path).write_text(file.after)
        assert file.new_path_shown in " ".join([*rewrite.argv, *(f.after for f in rewrite.files)])
    assert not isinstance(trl_starts(shlex.join(rewrite.argv), tmp_path, monkeypatch), str)


PROFILES = ("fsdp1", "fsdp2", "multi_gpu", "single_gpu", "zero1", "zero2", "zero3")


@pytest.mark.parametrize("name", PROFILES)
def test_a_config_of_trls_own_is_known_where_trl_is_not_installed(name, tmp_path, monkeypatch):
    line = f"trl sft {BASE} --accelerate_config {name}"
    beside = read(line, tmp_path)
    monkeypatch.setattr("preflight.launchers.trl.profiles._installed_folder", lambda: None)
    alone = read(line, tmp_path)

    assert alone.to_dict() == beside.to_dict()
    assert alone.documents["accelerate"] == f"TRL 1.16.0/{name}.yaml"


def test_the_shipped_configs_are_those_of_the_installed_trl():
    from preflight.derive.tables.trl_profiles import PATH, derive

    assert json.loads((Path(__file__).parents[2] / PATH).read_text()) == derive()
    assert tuple(derive()["profiles"]) == PROFILES


def test_a_checkout_of_trl_beats_what_is_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr("preflight.launchers.trl.profiles._installed_folder", lambda: None)
    folder = tmp_path / "trl" / "accelerate_configs"
    folder.mkdir(parents=True)
    (folder / "zero2.yaml").write_text("num_processes: 3\ndistributed_type: MULTI_GPU\n")
    plan = read(f"trl sft {BASE} --accelerate_config zero2", tmp_path)

    assert (plan.engine, plan.world_size) == ("ddp", 3)


def test_a_remedy_makes_a_copy_of_a_config_that_is_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr("preflight.launchers.trl.profiles._installed_folder", lambda: None)
    before = read(f"trl sft {BASE} --accelerate_config fsdp2", tmp_path)
    after = before.with_edits({"reshard_after_forward": False})
    rewrite = write_checked(before, after, load_plugins(None))

    assert rewrite is not None
    (file,) = rewrite.files
    assert "fsdp_reshard_after_forward: false" in file.after
    assert file.new_path in " ".join(rewrite.argv) or file.new_path.endswith(
        rewrite.argv[rewrite.argv.index("--accelerate_config") + 1]
    )
