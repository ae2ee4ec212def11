"""Wrappers are peeled off as the real programs peel them, and put back around a rewritten launch."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight.errors import BadInput
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.pipeline import check_launch
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.rewrite import Rewrite
from preflight.rewriting import read_launch, write_checked
from preflight.shell.commands import parse_script
from preflight.shell.edits import with_words
from preflight.shell.starters.layers import rewrapped
from preflight.shell.starters.typed_words import as_program
from preflight.shell.starters.wrappers import unwrapped

SHOW = f"""#!{sys.executable}
import json, os, sys
names = ("A", "B", "C", "PATH_SEEN")
print(json.dumps([sys.argv[1:], {{n: os.environ[n] for n in names if n in os.environ}}, os.getcwd()]))
"""
LAUNCH = "accelerate launch --multi_gpu --num_processes 2 train.py"
LOOP = "import argparse\nfrom accelerate import Accelerator\n"
HF = """from transformers import HfArgumentParser, Trainer, TrainingArguments
HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(return_remaining_strings=True)
"""


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return load_plugins(None)


def command(line: str, env: dict[str, str] | None = None, **files: str) -> LaunchCommand:
    texts = {"train.py": LOOP, "run/train.py": LOOP, **files}
    overlay = {f"/srv/job/{name}": text for name, text in texts.items()}
    environment = {"HOME": "/nonexistent", **(env or {})}
    return LaunchCommand(tuple(shlex.split(line)), environment, "/srv/job", overlay)


def innermost(one: LaunchCommand) -> LaunchCommand:
    """Peel until `show` is the program."""
    while os.path.basename(one.argv[0]) != "show":
        layers = [layer for layer in unwrapped(one) if "show" in " ".join(layer.inner.argv)]
        assert len(layers) == 1, one.argv
        one = layers[0].inner
    return one


REAL = [
    "env A=1 B='two words' {show} --x 'a b'",
    "env -u A B=1 {show} x",
    "env -C sub A=1 {show} x",
    "env -i A=1 {show} --flag=value",
    "env -- A=1 {show} x",
    "nice -n 3 {show} a b",
    "nice -3 {show} a",
    "nice --adjustment=3 {show} a",
    "nohup {show} a 'b c'",
    "timeout 20 {show} a",
    "timeout -k 5 -s TERM 20s {show} a",
    "timeout --preserve-status 20 {show} a",
    "stdbuf -oL -e 0 {show} a",
    "taskset -c 0 {show} a",
    "taskset 1 {show} a",
    "setsid -w {show} a",
    "env A=1 nice -n 1 timeout 20 stdbuf -oL {show} a",
    "bash -c '{show} a b'",
    "sh -c '{show} \"a b\" c'",
    "bash -euo pipefail -c '{show} a'",
    "bash -o pipefail -c 'A=2 {show} a'",
    "bash -c 'cd sub && {show} a'",
    "bash -c 'cd sub; B=$A; export B; exec {show} $B \"$A-x\"'",
    "bash -c 'export C=1 && unset A && {show} a > out.txt; cat out.txt'",
    "bash -c '{show} a 2>&1 | cat'",
    'bash -c \'ARGS="--x 1  --y 2"; {show} $ARGS "$ARGS" end\'',
    "bash -c '{show} ${NOT_SET:-default} ${A:-other} $A'",
    "bash -c '{show} \\\n  --a 1 \\\n  --b 2 # a comment'",
    'bash -c \'true && : ; {show} a\\ b "c\\"d" \'"\'"\'e f\'"\'"',
    "bash -c 'X=a; X+=b; {show} $X'",
    "bash -c '{show} \"\" a'",
    "bash -c 'time {show} a'",
    "bash -c 'A=9 env B=3 {show} a; true'",
]


@pytest.mark.parametrize("line", REAL)
def test_the_inner_command_is_what_the_real_wrapper_starts(line, tmp_path):
    show = tmp_path / "show"
    show.write_text(SHOW)
    show.chmod(0o755)
    (tmp_path / "sub").mkdir()
    argv = shlex.split(line.replace("{show}", str(show)))
    env = {"PATH": os.environ["PATH"], "A": "first", "HOME": str(tmp_path)}
    ran = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    words, variables, folder = json.loads(ran.stdout)
    ours = innermost(LaunchCommand(tuple(argv), env, str(tmp_path)))

    assert list(ours.argv[1:]) == words
    assert {n: ours.env[n] for n in ("A", "B", "C") if n in ours.env} == variables
    assert os.path.realpath(ours.cwd) == folder


SEEN = {
    f"srun -N2 --ntasks-per-node=1 --gres gpu:4 {LAUNCH}": ["srun"],
    f"srun --export=ALL,A=1 -u --mpi=none -w node[1-2] {LAUNCH}": ["srun"],
    f"srun --container-image=nvcr.io/x:1 --container-mounts=/a:/b {LAUNCH}": ["srun"],
    f"numactl --cpunodebind=0 -m 0 {LAUNCH}": ["numactl"],
    f"numactl -N 0 --localalloc {LAUNCH}": ["numactl"],
    f"uv run {LAUNCH}": ["uv run"],
    f"uv run --with flash-attn --no-sync --extra gpu {LAUNCH}": ["uv run"],
    "uv run -m accelerate.commands.launch --multi_gpu --num_processes 2 train.py": ["uv run"],
    "uv run python -m accelerate.commands.launch --multi_gpu --num_processes 2 train.py": [
        "uv run"
    ],
    f"uvx --from accelerate {LAUNCH}": ["uvx"],
    f"poetry run {LAUNCH}": ["poetry run"],
    f"pdm run {LAUNCH}": ["pdm run"],
    f"pixi run -e gpu {LAUNCH}": ["pixi run"],
    f"conda run -n train --no-capture-output {LAUNCH}": ["conda run"],
    f"micromamba run -p /opt/env {LAUNCH}": ["conda run"],
    f"apptainer exec --nv -B /data:/data image.sif {LAUNCH}": ["apptainer exec"],
    f"singularity exec --nv --cleanenv image.sif {LAUNCH}": ["apptainer exec"],
    f"docker run --rm -it --gpus all --shm-size 8g -v /srv/job:/w -w /w img {LAUNCH}": [
        "docker run"
    ],
    f"podman run --device nvidia.com/gpu=all -e A=1 -w /srv/job img {LAUNCH}": ["docker run"],
    f"srun bash -c 'source env.sh && cd run && {LAUNCH} 2>&1 | tee log'": ["srun", "bash"],
    f"uv run --extra=gpu --group dev --all-extras -- {LAUNCH}": ["uv run"],
    f"bash -c 'eval {LAUNCH}'": ["bash", "eval"],
    "bash -c 'eval \"accelerate launch --multi_gpu --num_processes 2 train.py\"'": ["bash", "eval"],
    f"bash -c 'eval \"$(conda shell.bash hook)\" && conda activate x && {LAUNCH}'": ["bash"],
    f"eval '{LAUNCH}'": ["eval"],
    f"python submit.py --gpus 8 -- {LAUNCH}": ["submitter"],
    f"python submit.py --gpus 8 -- source env.sh '&&' {LAUNCH} '|' tee log": ["submitter"],
    f"uv run python tools/submit.py --gpus=8 -- uv run {LAUNCH}": ["uv run", "submitter", "uv run"],
    "debugpy-run -p :5678 -m accelerate.commands.launch -- --multi_gpu --num_processes 2 train.py": [
        "debugpy-run"
    ],
    "debugpy-run -m accelerate.commands.launch --multi_gpu --num_processes 2 train.py": [
        "debugpy-run"
    ],
    "python -m debugpy --listen 0.0.0.0:5678 --wait-for-client -m accelerate.commands.launch"
    " --multi_gpu --num_processes 2 train.py": ["debugpy"],
    "python3 -u -m debugpy --connect h:1 --configure-subProcess true /opt/bin/accelerate launch"
    " --multi_gpu --num_processes 2 train.py": ["debugpy"],
    "debugpy --listen 1 -m accelerate.commands.launch --multi_gpu --num_processes 2 train.py": [
        "debugpy"
    ],
    "python -m cProfile -o prof.out -m accelerate.commands.launch --multi_gpu --num_processes 2"
    " train.py": ["cProfile"],
    "python -m coverage run -m accelerate.commands.launch --multi_gpu --num_processes 2 train.py": [
        "coverage run"
    ],
    "memray run --follow-fork -o out.bin -m accelerate.commands.launch --multi_gpu --num_processes 2"
    " train.py": ["memray run"],
    "viztracer --log_async -m accelerate.commands.launch --multi_gpu --num_processes 2 train.py": [
        "viztracer"
    ],
    f"sudo -E -u train HF_HOME=/models {LAUNCH}": ["sudo"],
    f"xvfb-run -a {LAUNCH}": ["xvfb-run"],
    f"screen -dmS tuning {LAUNCH}": ["screen"],
    f"caffeinate -i {LAUNCH}": ["caffeinate"],
    f"nsys profile -o out --trace=cuda,nvtx --force-overwrite true {LAUNCH}": ["nsys profile"],
    f"srun -n 2 env A=1 numactl -N 0 bash -lc 'exec {LAUNCH}'": [
        "srun",
        "env",
        "numactl",
        "bash",
        "exec",
    ],
}


@pytest.mark.parametrize("line", SEEN, ids=range(len(SEEN)))
def test_a_launcher_is_read_through_its_wrappers(line, plugins):
    plan = read_launch(command(line), plugins)

    assert plan is not None and (plan.launcher, plan.world_size) == ("accelerate", 2)
    assert [layer.kind for layer in plan.wrapping] == SEEN[line]


@pytest.mark.parametrize("line", SEEN, ids=range(len(SEEN)))
def test_putting_the_same_words_back_changes_nothing(line, plugins):
    plan = read_launch(command(line), plugins)
    assert plan is not None
    inner = plan.wrapping[-1].inner
    whole = rewrapped(Rewrite(inner.argv), plan.wrapping)

    assert whole is not None and whole.argv == tuple(shlex.split(line))


@pytest.mark.parametrize("line", SEEN, ids=range(len(SEEN)))
def test_other_words_and_variables_come_back_when_the_whole_is_read_again(line, plugins):
    plan = read_launch(command(line), plugins)
    assert plan is not None
    argv = (*plan.wrapping[-1].inner.argv, "--note", "two 'words' $HERE", "--last")
    whole = rewrapped(Rewrite(argv, env={"PYTORCH_ALLOC_CONF": "a:1"}), plan.wrapping)
    assert whole is not None
    env = {"HOME": "/nonexistent", **whole.env}
    again = read_launch(LaunchCommand(whole.argv, env, "/srv/job", command(line).overlay), plugins)

    assert again is not None
    assert again.wrapping[-1].inner.argv == argv
    assert again.wrapping[-1].inner.env["PYTORCH_ALLOC_CONF"] == "a:1"


def test_a_variable_that_the_text_sets_is_set_again_behind_it(plugins):
    line = f"bash -c 'PYTORCH_ALLOC_CONF=x:1 {LAUNCH}'"
    plan = read_launch(command(line), plugins)
    assert plan is not None
    rewrite = Rewrite(plan.wrapping[-1].inner.argv, env={"PYTORCH_ALLOC_CONF": "x:1,y:2"})
    whole = rewrapped(rewrite, plan.wrapping)

    assert whole is not None and whole.env == {}
    assert whole.argv[2] == (f"PYTORCH_ALLOC_CONF=x:1 env PYTORCH_ALLOC_CONF=x:1,y:2 {LAUNCH}")


def test_a_remedy_is_written_inside_the_quotes_and_everything_else_keeps_its_text(plugins):
    text = (
        "set -e; cd run && accelerate launch --num_processes 2 --multi_gpu train.py "
        '--model_name_or_path  $MODEL --per_device_train_batch_size 4 2>&1 | tee "log $X"'
    )
    files = {"run/train.py": HF}
    whole = command(shlex.join(["srun", "bash", "-c", text]), {"MODEL": "m"}, **files)
    before = read_launch(whole, plugins)
    assert before is not None and before.model == "m"
    after = before.with_edits({"micro_batch_size": 2, "gradient_accumulation_steps": 2})
    rewrite = write_checked(before, after, plugins)

    assert rewrite is not None
    assert rewrite.argv[:3] == ("srun", "bash", "-c")
    assert rewrite.argv[3] == text.replace("_size 4", "_size 2 --gradient_accumulation_steps 2")


REFUSED = {
    "bash -c 'for i in 1 2; do accelerate launch train.py; done'": "cannot follow `for`",
    "bash -c 'if true; then accelerate launch train.py; fi'": "cannot follow `if`",
    "bash -c '(cd run; accelerate launch train.py)'": "a subshell",
    "bash -c 'eval export A=1; accelerate launch train.py'": "`eval`",
    "eval 'if true; then accelerate launch train.py; fi'": "cannot follow `if`",
    "bash -c 'cd $(mktemp -d) && accelerate launch train.py'": "cd $(mktemp -d)",
    "bash -c 'accelerate launch train.py \"unclosed'": "never closed",
    "bash -c 'cat <<EOF\naccelerate launch train.py\nEOF'": "here-document",
    "srun --multi-prog jobs.conf": "--multi-prog",
    "srun --unheard-of thing accelerate launch train.py": "--unheard-of",
    f"bash -c '{LAUNCH} && {LAUNCH}'": "more than one launch",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_followed_is_said(line, plugins):
    with pytest.raises(BadInput) as error:
        read_launch(command(line), plugins)

    assert REFUSED[line] in str(error.value)
    assert all(problem.id == "PF131" for problem in error.value.problems)


UNSEEN = {
    f"docker run img:1 {LAUNCH}": ("PF130", "the container img:1"),
    f"srun --container-image=img:1 {LAUNCH}": ("PF130", "the container img:1"),
    f"conda run -n other {LAUNCH}": ("PF130", "conda environment other"),
    f"python submit.py --nodes 2 -- {LAUNCH}": ("PF130", "submit.py starts what stands behind --"),
    f"bash -c 'eval \"$(conda shell.bash hook)\" && {LAUNCH}'": ("PF131", "`eval $(conda shell"),
    f"bash -c 'source env.sh && {LAUNCH}'": ("PF131", "`source env.sh`"),
    f"bash -c '{LAUNCH} --output_dir $(date +%F)'": ("PF131", "$(date +%F)"),
    f"bash -c 'X=$(hostname); {LAUNCH} --name $X'": ("PF131", "$X"),
}


@pytest.mark.parametrize("line", UNSEEN)
def test_what_is_not_seen_through_a_wrapper_is_said(line, plugins):
    plan = read_launch(command(line), plugins)
    assert plan is not None
    id, words = UNSEEN[line]
    said = [notice for notice in plan.notices if notice.id == id]

    assert len(said) == 1 and words in said[0].message and said[0].severity == "info"


@pytest.mark.parametrize(
    "line",
    [
        "python train.py --optim adamw -- --notes run",
        "python train.py -- data/a.json",
        "python -m train -- more words",
        "torchrun --nproc-per-node 2 train.py -- python",
    ],
)
def test_words_behind_two_dashes_that_start_nothing_belong_to_the_script(line, plugins):
    plan = read_launch(command(line), plugins)

    assert plan is not None and plan.wrapping == ()


def test_ranks_are_open_where_a_submitting_script_is_told_of_nodes(plugins):
    plan = read_launch(command(f"python submit.py --num_nodes 4 --gpus 8 -- {LAUNCH}"), plugins)
    assert plan is not None
    alone = read_launch(command(f"python submit.py --gpus 8 -- {LAUNCH}"), plugins)

    assert plan.origins["world_size"].may_be == (2, 8)
    assert alone is not None and not alone.origins["world_size"].may_be


@pytest.mark.parametrize(
    ("typed", "program"),
    [
        ("A=1 B=2 torchrun x.py", ("env", "A=1", "B=2", "torchrun", "x.py")),
        ("torchrun x.py A=1", ("torchrun", "x.py", "A=1")),
        ("eval torchrun x.py", ("bash", "-c", "torchrun x.py")),
        ("A=1 eval 'torchrun x.py'", ("env", "A=1", "bash", "-c", "torchrun x.py")),
        ("exec torchrun x.py", ("torchrun", "x.py")),
        ("exec -a name torchrun x.py", ("exec", "-a", "name", "torchrun", "x.py")),
        ("command eval torchrun", ("bash", "-c", "torchrun")),
        ("./train-A=1 x", ("./train-A=1", "x")),
        ("A=1", ("A=1",)),
    ],
)
def test_what_a_shell_takes_away_in_front_of_a_program_is_left_to_programs(typed, program):
    assert as_program(shlex.split(typed)) == program


def test_the_program_that_is_started_sees_what_a_shell_would_give_it(tmp_path):
    show = tmp_path / "show"
    show.write_text(SHOW)
    show.chmod(0o755)
    typed = f"A=1 B='two words' eval {show} a"
    shell = subprocess.run(
        ["bash", "-c", typed], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    ours = subprocess.run(
        as_program(shlex.split(typed)), cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert json.loads(ours.stdout) == json.loads(shell.stdout)


def test_an_error_behind_a_container_says_that_the_image_is_not_seen(plugins):
    with pytest.raises(BadInput) as error:
        read_launch(command("docker run img torchrun --nproc-per-node=none t.py"), plugins)

    assert [problem.id for problem in error.value.problems] == ["PF111", "PF130"]


def test_a_command_behind_a_wrapper_that_nobody_reads_is_still_no_launch(plugins):
    assert read_launch(command("srun nice echo hello"), plugins) is None


def test_a_check_of_a_wrapped_launch_reports_the_whole_command(plugins):
    whole = command(f"srun {LAUNCH}")
    report = check_launch(whole, plugins, Request())

    assert report.command == whole
    assert isinstance(report.plan, LaunchPlan)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_without_a_traceback(text):
    try:
        unwrapped(LaunchCommand(("bash", "-c", text), {"A": "1"}, "/srv/job"))
    except BadInput as error:
        assert error.problems


@given(
    st.lists(st.text("ab '\"$\\;&|", min_size=0, max_size=6), min_size=1, max_size=6),
    st.lists(st.text("ab '\"$\\;&|", min_size=0, max_size=6), min_size=1, max_size=6),
)
def test_any_words_that_are_put_in_place_are_read_again(old, new):
    text = f"cd x && show {shlex.join(old)} > log"
    show = parse_script(text, {})[1]
    again = parse_script(with_words(text, show, ["show", *new]), {})[1]

    assert again.argv == ("show", *new)


def test_the_programs_that_are_compared_with_are_here():
    assert all(shutil.which(name) for name in ("env", "nice", "timeout", "stdbuf", "taskset"))


@given(
    st.lists(
        st.sampled_from(
            [
                "srun",
                "env",
                "nice",
                "-n",
                "4",
                "-N2",
                "--ntasks=3",
                "A=1",
                "--",
                "bash",
                "sh",
                "-c",
                "-lc",
                "--foo",
                "--foo=1",
                "docker",
                "run",
                "podman",
                "exec",
                "--rm",
                "-it",
                "-v",
                "/a:/b",
                "img",
                "apptainer",
                "--nv",
                "uv",
                "uvx",
                "conda",
                "-n",
                "x",
                "timeout",
                "5",
                "taskset",
                "-c",
                "0",
                "stdbuf",
                "-oL",
                "python",
                "torchrun",
                "--nproc-per-node",
                "2",
                "deepspeed",
                "--num_gpus",
                "trl",
                "sft",
                "accelerate",
                "launch",
                "train.py",
                "exec",
                "nohup",
                "time",
                "-",
                "-m",
            ]
        )
        | st.text("a-=' \"$&;|", max_size=6),
        max_size=9,
    )
)
def test_any_command_line_is_read_or_refused_without_a_traceback(words):
    try:
        read_launch(LaunchCommand(tuple(words), {}, "/srv/job"), load_plugins(None))
    except BadInput as error:
        assert error.problems
