"""Files of a launch in a container: read where its mounts have them, and copied to where it sees them."""

from __future__ import annotations

import os
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.rewriting import read_launch
from preflight.studies.checked_behind import checked_launches

CONFIG = "distributed_type: FSDP\nnum_processes: 8\nfsdp_config:\n  fsdp_version: 2\n"
TRAIN = """
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
model = AutoModelForCausalLM.from_pretrained("/models/own")
args = TrainingArguments("out", per_device_train_batch_size=3, bf16=True)
Trainer(model=model, args=args).train()
"""
OWN = (
    '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,'
    ' "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 320}'
)
INSIDE = "accelerate launch --config_file /work/config.yaml /work/train.py"
BELOW = "accelerate launch --config_file config.yaml train.py"
LAUNCHES = [
    f"docker run --gpus all -v {{repo}}:/work -v {{models}}:/models:ro img {INSIDE}",
    f"docker run -v {{repo}}:/work --volume={{models}}:/models -w /work img {BELOW}",
    f"podman run --mount type=bind,source={{repo}},target=/work"
    f" --mount type=bind,src={{models}},dst=/models,readonly img {INSIDE}",
    f"docker run -v {{repo}}:/work -v {{models}}:/models img bash -c 'cd /work && {BELOW}'",
    f"apptainer exec --nv --bind {{repo}}:/work,{{models}}:/models --pwd /work img.sif {BELOW}",
    f"singularity exec -B {{repo}}:/work -B {{models}}:/models img.sif {INSIDE}",
    f"srun -N1 --container-image=img --container-mounts={{repo}}:/work,{{models}}:/models:ro {INSIDE}",
    f"srun --container-image img --container-mounts {{repo}}:/work,{{models}}:/models"
    f" --container-workdir /work numactl -l {BELOW}",
    f"srun --container-image=img --container-mounts={{repo}}:/work,{{models}}:/models"
    f" bash -c 'cd /work && {BELOW}'",
]


@pytest.fixture
def launched(tmp_path):
    """The folder of somebody who starts what lies in two others."""
    for name, files in {
        "repo": {"config.yaml": CONFIG, "train.py": TRAIN},
        "models/own": {"config.json": OWN},
        "elsewhere": {},
    }.items():
        (tmp_path / name).mkdir(parents=True)
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    return tmp_path


def command_of(line, folder):
    words = shlex.split(line.format(repo=folder / "repo", models=folder / "models"))
    return LaunchCommand(tuple(words), {"PATH": os.environ["PATH"]}, str(folder / "elsewhere"))


@pytest.mark.parametrize("line", LAUNCHES)
def test_files_are_read_where_a_mount_has_them(line, launched):
    report = check_launch(command_of(line, launched), load_plugins(), Request())
    plan = report.plan

    assert (plan.engine, plan.world_size) == ("fsdp2", 8)
    assert (plan.micro_batch_size, plan.mixed_precision) == (3, "bf16")
    assert report.model is not None and report.model.num_layers == 2


@pytest.mark.parametrize("line", LAUNCHES)
def test_a_job_that_starts_it_is_read_in_the_same_way(line, launched):
    whole = line.format(repo=launched / "repo", models=launched / "models")
    (launched / "elsewhere" / "job.sh").write_text(f"#!/bin/bash\n#SBATCH --gpus=8\n{whole}\n")
    submitted = command_of("sbatch job.sh", launched)
    (found,) = checked_launches(submitted, load_plugins(), Request())

    assert found.report is not None, found
    assert found.report.plan.micro_batch_size == 3
    assert found.report.model.num_layers == 2


def test_what_lies_in_no_mount_is_not_here(launched):
    """Neither is it taken from the folder where somebody starts the container."""
    (launched / "elsewhere" / "train.py").write_text(TRAIN.replace("=3", "=5"))
    line = f"docker run -v {{repo}}:/other -w /work img {BELOW}"
    report = check_launch(command_of(line, launched), load_plugins(), Request())

    assert report.verdict.answer.value == "unknown" and report.plan.micro_batch_size is None


def test_a_scratch_folder_of_apptainer_is_not_where_it_starts(launched):
    """`--workdir` of Apptainer holds its /tmp; it starts in the caller's folder."""
    line = f"apptainer exec --contain --workdir /scratch img.sif {BELOW}"
    for name, text in (("config.yaml", CONFIG), ("train.py", TRAIN)):
        (launched / "elsewhere" / name).write_text(text)

    assert read_launch(command_of(line, launched), load_plugins()).micro_batch_size == 3


BIG = " --model_name_or_path meta-llama/Llama-3.1-70B --max_length 1024 --per_device_train_batch_size 1"
SFT = "{program} --config_file {config} {script}" + BIG
REWRITTEN = [
    ("docker run -v {repo}:/work -w /work img", "/work/", "/work/.preflight/config.yaml"),
    ("docker run -v {repo}:/work -w /work img", "", ".preflight/config.yaml"),
    ("srun --container-image=img --container-mounts={repo}:/work --container-workdir=/work",
     "/work/", "/work/.preflight/config.yaml"),
    # nobody says where it starts, so that nobody knows where a relative path leads
    ("docker run -v {repo}:/work img", "", None),
    ("srun --container-image=img --container-mounts={repo}:/work", "", None),
    ("docker exec box", "", None),
]  # fmt: skip


@pytest.mark.parametrize(("wrapper", "folder", "named"), REWRITTEN)
def test_a_copy_is_named_as_the_container_sees_it_or_not_written(wrapper, folder, named, launched):
    config = CONFIG.replace("2\n", "2\n  fsdp_reshard_after_forward: false\n")
    for place in ("repo", "elsewhere"):
        (launched / place / "config.yaml").write_text(config)
        (launched / place / "sft.py").write_text(
            "from trl import SFTConfig, SFTTrainer, TrlParser\n"
        )
    line = SFT.format(
        program="accelerate launch", config=f"{folder}config.yaml", script=f"{folder}sft.py"
    )
    command = command_of(f"{wrapper} {line}", launched)
    report = check_launch(command, load_plugins(), Request(device="h100-sxm-80"))
    rewrite = report.rewrite

    if named is None:
        assert rewrite is None or not rewrite.files
    else:
        (file,) = rewrite.files
        assert named in rewrite.argv
        assert file.new_path == str(launched / "repo" / ".preflight" / "config.yaml")


FOLDERS = st.lists(st.sampled_from(["a", "b", "work", "data"]), max_size=3).map(
    lambda names: "/" + "/".join(names)
)


@given(
    st.dictionaries(FOLDERS, FOLDERS.map("/host{}".format).map(os.path.normpath), max_size=3),
    FOLDERS,
)
def test_what_is_seen_inside_is_the_file_that_is_read(mounts, path):
    command = LaunchCommand((), cwd="/", mounts=mounts)
    seen = command.inside("/host" + path)
    once = command.resolve(path)

    assert command.resolve(once) == once

    if seen is not None:
        again = LaunchCommand((), cwd="/", mounts=mounts).resolve(seen)
        nested = sum(os.path.commonpath((target, seen)) == target for target in mounts)
        assert nested > 1 or again == os.path.normpath("/host" + path)
