"""What a submission asks for, from its command line, its environment and its `#SBATCH` lines."""

from __future__ import annotations

import pytest

from preflight.slurm.job_environment import components_of, job_environment, place_of
from preflight.slurm.option_words import split_words
from preflight.slurm.options import (
    GpuCount,
    SubmitOptions,
    gpu_counts,
    gpus_of_gres,
    memory_bytes,
    submit_options,
)

GIB = 1 << 30


def read(*words: str, **env: str) -> SubmitOptions:
    return submit_options(words, env)


@pytest.mark.parametrize(
    "words",
    [("-p", "a,b"), ("-pa,b",), ("--partition=a,b",), ("--partition", "a,b"), ("--part=a,b",)],
)
def test_every_spelling_of_an_option_is_the_same_option(words):
    assert read(*words, "job.sh").partitions == ("a", "b")


def test_letters_may_be_glued_and_the_last_one_may_have_a_value():
    split = split_words(["-HQN2", "-n", "4", "job.sh", "-n", "9"])

    assert [(o.name, o.value) for o in split.components[0]] == [
        ("hold", None),
        ("quiet", None),
        ("nodes", "2"),
        ("ntasks", "4"),
    ]
    assert split.rest == ("job.sh", "-n", "9")


def test_the_command_line_is_over_the_environment_and_that_over_the_script():
    lines = (split_words(["--gres=gpu:1", "-p", "s", "-q", "s"], where="job.sh:2").components[0],)

    options = submit_options(
        ["--gres=gpu:h100:8", "job.sh"], {"SBATCH_GRES": "gpu:2", "SBATCH_QOS": "e"}, lines
    )

    assert options.gpus_per_node == (GpuCount("h100", 8),)
    assert options.qos == "e"
    assert options.partitions == ("s",)
    assert options.origins == {
        "gres": "--gres=gpu:h100:8",
        "qos": "SBATCH_QOS",
        "partitions": "job.sh:2",
    }


def test_memory_asked_for_in_one_way_takes_back_what_a_weaker_source_asked_for_in_another():
    options = read("--mem-per-gpu=64G", "job.sh", SBATCH_MEM_PER_NODE="200G")

    assert options.mem_per_gpu_bytes == 64 * GIB
    assert options.mem_bytes is None


def test_components_of_a_heterogeneous_job_have_options_of_their_own():
    options = read("-N1", "--gpus-per-node=h100:8", ":", "-N2", "-p", "cpu", "job.sh")

    assert [item.min_nodes for item in options.components] == [1, 2]
    assert options.het[0].partitions == ("cpu",)
    assert not options.het[0].wants_gpus


def test_an_option_that_nobody_knows_is_kept_and_hides_nothing():
    options = read("--site-thing=3", "-N", "2", "--mem=lots", "job.sh")

    assert options.unread == ("--site-thing=3", "--mem=lots")
    assert options.min_nodes == 2


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("4096", 4 * GIB), ("80G", 80 * GIB), ("1.5T", 1536 * GIB), ("512M", GIB // 2), ("0", 0)],
)
def test_memory_is_in_mebibytes_unless_a_letter_says_otherwise(text, num_bytes):
    assert memory_bytes(text) == num_bytes


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("8", (GpuCount("", 8),)),
        ("h100:8", (GpuCount("h100", 8),)),
        ("a100:2,v100:1", (GpuCount("a100", 2), GpuCount("v100", 1))),
        ("nvidia_h100_80gb_hbm3:4", (GpuCount("nvidia_h100_80gb_hbm3", 4),)),
    ],
)
def test_gpus_are_counted_by_type(text, gpus):
    assert gpu_counts(text) == gpus
    assert gpus_of_gres(",".join(f"gpu:{item}" for item in text.split(","))) == gpus


def test_other_resources_are_no_gpus():
    assert gpus_of_gres("nvme:1,gpu,craynetwork:2") == (GpuCount("", 1),)
    assert gpus_of_gres("shard:4") == ()


@pytest.mark.parametrize(
    ("words", "num_gpus"),
    [
        (("-N2", "--gpus-per-node=8"), 8),
        (("-N2", "--ntasks-per-node=4", "--gpus-per-task=1"), 4),
        (("-N2", "-n8", "--gpus-per-task=2"), 8),
        (("-N4", "--gpus=16"), 4),
        (("-N4", "--gpus=6"), None),
        (("-N2",), None),
        (("-N2", "--tres-per-task=cpu:8,gres/gpu:h100:2", "--ntasks-per-node=4"), 8),
    ],
)
def test_gpus_of_a_node_follow_from_how_they_were_asked_for(words, num_gpus):
    assert read(*words, "job.sh").num_gpus_per_node == num_gpus


def test_wait_takes_a_value_in_srun_and_none_in_sbatch():
    assert split_words(["-W", "job.sh"]).rest == ("job.sh",)
    assert split_words(["-W", "60", "hostname"], "srun").rest == ("hostname",)


@pytest.mark.parametrize(
    "word",
    [
        *("--nodes=0", "--nodes=-1", "--nodes=99999999999", "--nodes=1e3", "--ntasks=-4"),
        *(
            "--cpus-per-task=99999999999999",
            "--mem=inf",
            "--mem=nan",
            "--mem=-1G",
            "--mem=1e308",
            "--mem=1e999",
        ),
        *("--gpus=99999999999999", "--gpus-per-node=h100:-1", "--gres=gpu:" + "9" * 5000),
    ],
)
def test_a_number_that_nothing_can_have_is_passed_on_and_not_reckoned_with(word):
    """It would divide by zero, or list ten thousand million nodes."""
    options = read(word, "--gpus-per-task=2", "job.sh")
    place = place_of(options, None)
    told = job_environment(options, place, {}, "/work")

    assert options.unread == (word,)
    assert len(place.nodes) == 1 and len(told["SLURM_JOB_NODELIST"]) < 100


def test_parts_of_a_job_that_it_has_not_are_not_counted_out():
    assert components_of(("srun", "--het-group=0-99999999999"), 3) == (0, 1, 2)
    assert components_of(("srun", "--het-group", "7,2," + "9" * 5000), 3) == (2,)
