"""The site's guard on the cluster of the tests: an admin's commands, and the job that most tests submit."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster

from preflight.slurm.guard_files import set_policy, uninstall

TRAIN = (
    "train.py --model_name_or_path meta-llama/Llama-3.1-8B --per_device_train_batch_size 1"
    " --max_length 2048 --bf16 True --gradient_checkpointing True"
)
LAUNCH = (
    "accelerate launch --use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP"
    " --num_processes 2 --num_machines 1"
)
SCRIPT = """\
#!/bin/bash
#SBATCH --nodes=1 --hold
#SBATCH --gpus-per-node=2 --mem=0
export OMP_NUM_THREADS=8
srun {launch} {train}
"""
TRAINER = """\
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

config, model = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config()
SFTTrainer(model=model.model_name_or_path, args=config).train()
"""


class Site:
    """The cluster with the client's guard switched on, and an admin's commands."""

    def __init__(self, cluster: Cluster, folder: Path, work: Path) -> None:
        self.cluster, self.folder, self.work = cluster, folder, work
        self.conf = folder / "slurm.conf"

    def preflight(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.cluster.run(sys.executable, "-m", "preflight", *words, cwd=self.work)

    def sbatch(
        self, *words: str, guarded: bool = True, stdin: str | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        conf = {"SLURM_CONF": str(self.conf)} if guarded else {}
        return self.cluster.run("sbatch", *words, cwd=self.work, env={**conf, **env}, stdin=stdin)

    def policy(self, word: str) -> None:
        """Have the controller's guard in force, the cluster's own file asked first."""
        folder = str(self.cluster.conf.parent)
        if (self.cluster.conf.parent / "job_submit.site.lua").exists():
            set_policy(folder, word)
            return
        done = self.preflight(
            "slurm", "install", "--controller", folder, "--chain", "--policy", word
        )
        assert done.returncode == 0, done.stderr

    def helper(self, text: str) -> None:
        """Put another helper in the client's guard."""
        path = self.folder / "cli_filter.lua"
        new = re.sub(r"local HELPER = \"[^\"]*\"", f'local HELPER = "{text}"', path.read_text())
        path.write_text(new)

    def job(self, done: subprocess.CompletedProcess[str]) -> dict[str, str]:
        """Return the record of a job that was submitted."""
        assert done.returncode == 0, done.stderr
        found = re.search(r"\d+", done.stdout)
        assert found is not None, done.stdout
        return self.cluster.facts(found.group(0))


@pytest.fixture(scope="session")
def installed(cluster_of_session: Cluster) -> tuple[Path, str]:
    """The folder of the client's guard, and the file as `preflight slurm install` wrote it there."""
    folder = cluster_of_session.root / "client"
    folder.mkdir()
    done = Site(cluster_of_session, folder, folder).preflight(
        "slurm", "install", "--client", str(folder), "--timeout", "60"
    )
    assert done.returncode == 0, done.stderr
    # What an admin would add to slurm.conf itself, without that the other tests of the session see it
    conf = f"include {cluster_of_session.conf}\nCliFilterPlugins=cli_filter/lua\n"
    (folder / "slurm.conf").write_text(conf)
    return folder, (folder / "cli_filter.lua").read_text()


@pytest.fixture
def site(cluster: Cluster, installed: tuple[Path, str], tmp_path: Path) -> Iterator[Site]:
    folder, guard = installed
    (folder / "cli_filter.lua").write_text(guard)
    (tmp_path / "train.py").write_text(TRAINER)
    (tmp_path / "job.sh").write_text(SCRIPT.format(launch=LAUNCH, train=TRAIN))
    yield Site(cluster, folder, tmp_path)
    if (cluster.conf.parent / "job_submit.site.lua").exists():
        uninstall("controller", str(cluster.conf.parent))
        (cluster.conf.parent / "preflight.policy").unlink(missing_ok=True)
