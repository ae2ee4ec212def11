"""What is read in more than sixty job scripts is what a real srun gives rank 0."""

from __future__ import annotations

import shutil
from typing import NamedTuple

import pytest
from cluster import Cluster
from script_corpus import NAMES, SCRIPTS, Argv, environment, job_of, launched, read_both, run_all

from preflight.launchers.all import launchers
from preflight.slurm.inventory import read_inventory
from preflight.slurm.scripted_launch import ScriptReading


class Corpus(NamedTuple):
    dry: dict[str, ScriptReading]
    static: dict[str, ScriptReading]
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
    dry, static = {}, {}
    before = sorted(folder.rglob("*"))
    for job in jobs:
        dry[job.name], static[job.name] = read_both(job, folder, env, inventory)
    assert sorted(folder.rglob("*")) == before, "reading wrote into the user's folder"
    return Corpus(dry, static, run_all(jobs, cluster_of_session, folder, env))


DRY_RUN_DIFFERS = {
    # `$(python -c ...)` is not run: the launch line holds it as it stands, and it is named as not known.
    "python_in_the_way.sh",
}
TEXT_DIFFERS = {
    "python_in_the_way.sh",
    # A config that sed makes, and a value that grep reads in it.
    "config_by_sed.sh",
}


FOLLOWED = {"second_script.sh", "wrapper_in_a_second_file.sh"}


def test_the_corpus_is_large_and_has_every_launcher():
    text = "".join((SCRIPTS / name).read_text() for name in NAMES)
    programs = [launcher.programs[0] for launcher in launchers() if launcher.programs]

    assert len(NAMES) >= 60
    assert not [name for name in programs if name not in text]


def test_a_dry_run_gives_what_srun_gives_rank_0(corpus):
    differing = {name for name in NAMES if launched(corpus.dry[name]) != corpus.real[name]}

    assert all(corpus.real[name] for name in NAMES)
    assert differing == DRY_RUN_DIFFERS
    assert {corpus.dry[name].how for name in NAMES} == {"dry run"}


def test_the_text_gives_what_srun_gives_rank_0(corpus):
    differing = {name for name in NAMES if launched(corpus.static[name]) != corpus.real[name]}

    assert differing == TEXT_DIFFERS


def test_what_is_not_known_is_named(corpus):
    assert {name for name in NAMES if any(one.unknown for one in corpus.dry[name].launches)} == (
        DRY_RUN_DIFFERS
    )
    random = {"ddp_tutorial.sh"}  # --rdzv_id $RANDOM
    assert {
        name for name in NAMES if any(one.unknown for one in corpus.static[name].launches)
    } == TEXT_DIFFERS | random


def test_every_launch_has_the_line_that_makes_it(corpus):
    """A dry run and the text name the same line, and something is called there."""
    for name in NAMES:
        lines = (SCRIPTS / name).read_text().split("\n")
        for reading in (corpus.dry[name], corpus.static[name]):
            for launch in reading.launches:
                file, _, number = launch.origin.rpartition(":")
                if file == name:
                    assert lines[int(number) - 1].strip(), (name, launch.origin)
        dry, static = (
            {one.origin for one in r.launches} for r in (corpus.dry[name], corpus.static[name])
        )
        # A script that the job starts has lines of its own, which the text's reader does not follow.
        assert dry == static or name in FOLLOWED, name


def test_texts_that_scripts_write_are_read_with_their_values(corpus):
    def text(name: str, ending: str) -> str:
        texts = {
            how: next(text for path, text in reading.files.items() if path.endswith(ending))
            for how, reading in (("dry", corpus.dry[name]), ("static", corpus.static[name]))
        }
        assert texts["dry"] == texts["static"]
        return texts["dry"]

    assert '"train_micro_batch_size_per_gpu": 2,' in text(
        "heredoc_deepspeed.sh", "ds_config_run.json"
    )
    assert '"zero_optimization": { "stage": 0 }' in text("big_strings.sh", ".json")
    assert "num_processes: 16\n" in text("heredoc_accelerate_config.sh", ".yaml")
    assert (
        "sequence_len: 4096"
        in corpus.dry["config_by_sed.sh"].files[
            next(path for path in corpus.dry["config_by_sed.sh"].files if path.endswith("run.yaml"))
        ]
    )
