"""What is read in more than sixty job scripts is what a real srun gives rank 0."""

from __future__ import annotations

import shutil
from typing import NamedTuple

import pytest
from cluster import Cluster
from script_corpus import NAMES, SCRIPTS, Argv, environment, job_of, launched, read, run_all

from preflight.launchers.all import launchers
from preflight.slurm.inventory import read_inventory
from preflight.slurm.scripted_launch import ScriptReading


class Corpus(NamedTuple):
    read: dict[str, ScriptReading]
    real: dict[str, list[Argv]]


@pytest.fixture(scope="module")
def corpus(cluster_of_session: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Every script read, then run by Slurm."""
    root = tmp_path_factory.mktemp("corpus")
    folder = root / "project"
    shutil.copytree(SCRIPTS, folder)
    (root / "tmp").mkdir()
    env = environment(root)
    inventory = read_inventory(cluster_of_session.environment())
    jobs = [job_of(name, number) for number, name in enumerate(NAMES)]
    before = sorted(folder.rglob("*"))
    found = {job.name: read(job, folder, env, inventory) for job in jobs}
    assert sorted(folder.rglob("*")) == before, "reading wrote into the user's folder"
    return Corpus(found, run_all(jobs, cluster_of_session, folder, env))


DIFFERS = {
    # `$(python -c ...)` is not run: the launch line holds it as it stands, and it is named as not known.
    "python_in_the_way.sh",
}


def test_the_corpus_is_large_and_has_every_launcher():
    text = "".join((SCRIPTS / name).read_text() for name in NAMES)
    programs = [launcher.programs[0] for launcher in launchers() if launcher.programs]

    assert len(NAMES) >= 60
    assert not [name for name in programs if name not in text]


def test_the_text_gives_what_srun_gives_rank_0(corpus):
    differing = {name for name in NAMES if launched(corpus.read[name]) != corpus.real[name]}

    assert [name for name in NAMES if not corpus.real[name]] == []
    assert differing == DIFFERS


def test_what_is_not_known_is_named(corpus):
    random = {"ddp_tutorial.sh"}  # --rdzv_id $RANDOM
    assert {name for name in NAMES if any(one.unknown for one in corpus.read[name].launches)} == (
        DIFFERS | random
    )


def test_every_launch_has_the_line_that_makes_it(corpus):
    """Something is called on the line that a launch names."""
    for name in NAMES:
        lines = (SCRIPTS / name).read_text().split("\n")
        for launch in corpus.read[name].launches:
            file, _, number = launch.origin.rpartition(":")
            assert file == name
            assert lines[int(number) - 1].strip(), (name, launch.origin)


def test_texts_that_scripts_write_are_read_with_their_values(corpus):
    def text(name: str, ending: str) -> str:
        files = corpus.read[name].files
        return next(text for path, text in files.items() if path.endswith(ending))

    assert '"train_micro_batch_size_per_gpu": 2,' in text(
        "heredoc_deepspeed.sh", "ds_config_run.json"
    )
    assert '"zero_optimization": { "stage": 0 }' in text("big_strings.sh", ".json")
    assert "num_processes: 16\n" in text("heredoc_accelerate_config.sh", ".yaml")
    assert "sequence_len: 4096" in text("config_by_sed.sh", "run.yaml")
