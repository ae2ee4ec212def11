"""Measures what the guard of sbatch costs, on a real Slurm with emulated nodes.

    python tests/benchmarks/bench_slurm.py [NUM_ROUNDS]

What is compared is timed in turn, so a busy machine slows all of it. The controller's guard alone is
timed in Lua 5.1, as Debian's Slurm loads it: in slurmctld it is below what sbatch varies by. The helper
runs from a wheel in an environment of its own, as at a site.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "slurm"), str(HERE.parent)]

from cluster import Cluster  # noqa: E402
from core_install import install_core  # noqa: E402
from lua_slurm import LuaGuard, filled  # noqa: E402

from preflight.slurm.options import submit_options  # noqa: E402
from preflight.slurm.stamp import stamp_of  # noqa: E402

NUM_PARALLEL = 40
SCRIPT = """\
#!/bin/bash
#SBATCH --nodes=1 --gpus-per-node=8 --mem=0 --hold --partition=h100
export OMP_NUM_THREADS=8
srun accelerate launch --use_fsdp --fsdp_version 2 --num_processes 8 --num_machines 1 \\
    --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP train.py \\
    --model_name_or_path meta-llama/Llama-3.1-8B --per_device_train_batch_size 1 \\
    --max_length 2048 --bf16 True --gradient_checkpointing True
"""
TRAINER = "from trl import SFTConfig, SFTTrainer, ModelConfig, TrlParser\nparser = TrlParser((SFTConfig, ModelConfig))\n"


class Bench:
    """A running cluster, the guard beside it, and one job."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.work = cluster.root / "work"
        self.client = cluster.root / "client"
        for folder in (self.work, self.client):
            folder.mkdir()
        (self.work / "job.sh").write_text(SCRIPT)
        # What a text alone does not tell
        dry = SCRIPT.replace("export OMP", "ranks=$(echo 8 | tr -d x)\nexport OMP")
        (self.work / "dry.sh").write_text(dry.replace("_processes 8", "_processes $ranks"))
        (self.work / "train.py").write_text(TRAINER)
        self.python = str(install_core(cluster.root / "site") / "python")
        self.admin("install", "--client", str(self.client))
        self.conf = self.client / "slurm.conf"
        self.conf.write_text(f"include {cluster.conf}\nCliFilterPlugins=cli_filter/lua\n")

    def admin(self, *words: str) -> None:
        """Run `preflight slurm`."""
        command = (self.python, "-I", "-m", "preflight", "slurm", *words)
        subprocess.run(
            command, env=self.cluster.environment(), check=True, stdout=subprocess.DEVNULL
        )

    def sbatch(self, guarded: bool, *words: str, **env: str) -> subprocess.Popen[bytes]:
        """Start one submission."""
        conf = {"SLURM_CONF": str(self.conf)} if guarded else {}
        return subprocess.Popen(
            ("sbatch", *words),
            cwd=self.work,
            env=self.cluster.environment(**conf, **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def seconds(self, guarded: bool, *words: str, number: int = 1, **env: str) -> float:
        """Return the wall time of submissions that are started together."""
        started = time.perf_counter()
        running = [self.sbatch(guarded, *words, **env) for _ in range(number)]
        said = [process.communicate()[1] for process in running]
        seconds = time.perf_counter() - started
        failed = [text for process, text in zip(running, said, strict=True) if process.returncode]
        assert not failed, failed[0].decode()
        self.cluster.cancel_all() if number > 1 else None
        return seconds


def controller_ms(folder: Path, num_bytes: int) -> float:
    """Return the milliseconds that job_submit.lua takes for a stamped script of about so many bytes."""
    (folder / "preflight.policy").write_text("require\n")
    guard = LuaGuard(filled("job_submit.lua", POLICY_FILE=f'"{folder / "preflight.policy"}"'))
    script = SCRIPT + "# so that it is longer\n" * ((num_bytes - len(SCRIPT)) // 23)
    stamp = stamp_of(script, submit_options(["-p", "h100", "--gpus-per-node=8", "x"], {}), "fits")
    job = {
        "script": script,
        "partition": "h100",
        "tres_per_node": "gres/gpu:8",
        "shared": 65534,
        "extra": stamp,
    }
    took = []
    for _ in range(200):
        started = time.perf_counter()
        assert guard.submit(**job) == 0 and not guard.said, guard.said
        took.append(1000 * (time.perf_counter() - started))
    return statistics.median(took)


def measured(bench: Bench, num_rounds: int) -> list[tuple[str, str]]:
    """Return the rows of the page."""
    gpu, cpu = ("job.sh",), ("--hold", "-p", "cpu", "--wrap=true")
    other = ("--hold", "-p", "h100", "--gpus=1", "--wrap=gmx mdrun -nb gpu")
    cases = {
        "plain": (False, gpu, {}),
        "guarded": (True, gpu, {}),
        "dry": (True, ("dry.sh",), {}),
        "other": (True, other, {}),
        "off": (True, gpu, {"PREFLIGHT": "off"}),
        "plain cpu": (False, cpu, {}),
        "cpu": (True, cpu, {}),
    }
    for guarded, words, env in cases.values():
        bench.seconds(guarded, *words, **env)  # warms the disk cache
    times: dict[str, list[float]] = {name: [] for name in (*cases, "pass")}
    empty = (bench.python, "-I", "-c", "pass")
    for _ in range(num_rounds):
        for name, (guarded, words, env) in cases.items():
            times[name].append(bench.seconds(guarded, *words, **env))
        started = time.perf_counter()
        subprocess.run(empty)
        times["pass"].append(time.perf_counter() - started)
    bench.cluster.cancel_all()
    ms = {name: 1000 * statistics.median(taken) for name, taken in times.items()}
    return [
        ("python -I -c pass", f"{ms['pass']:.1f} ms"),
        ("plain sbatch", f"{ms['plain']:.1f} ms"),
        ("with the client's guard", f"{ms['guarded']:.1f} ms"),
        ("  more than plain", f"{ms['guarded'] - ms['plain']:.1f} ms (at most 100)"),
        ("  a script that is run dry", f"{ms['dry'] - ms['plain']:.1f} ms more"),
        ("  a job on GPUs that trains nothing", f"{ms['other'] - ms['plain cpu']:.1f} ms more"),
        ("  a job without GPUs", f"{ms['cpu'] - ms['plain cpu']:.1f} ms more"),
        ("  PREFLIGHT=off", f"{ms['off'] - ms['plain']:.1f} ms more"),
    ]


def in_parallel(bench: Bench, num_rounds: int) -> list[tuple[str, str]]:
    """Return what many submissions at once take without any guard, and with the controller's."""
    folder = str(bench.cluster.conf.parent)
    options = submit_options(["-p", "h100", "--gpus-per-node=8", "job.sh"], {})
    stamp = f"--extra={stamp_of(SCRIPT, options, 'fits')}"
    times: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(num_rounds):
        for name in times:
            if name == "with":
                bench.admin("install", "--controller", folder, "--chain", "--policy", "require")
            bench.seconds(False, stamp, "job.sh")  # loads the file
            times[name].append(bench.seconds(False, stamp, "job.sh", number=NUM_PARALLEL))
            if name == "with":
                bench.admin("uninstall", "--controller", folder)
    both = bench.seconds(True, "job.sh", number=NUM_PARALLEL)
    ms = {name: 1000 * statistics.median(taken) for name, taken in times.items()}
    return [
        (f"{NUM_PARALLEL} submissions at once", f"{ms['without']:.0f} ms"),
        ("  with the controller's guard", f"{ms['with']:.0f} ms"),
        ("  with the client's guard", f"{1000 * both:.0f} ms (2 cores run 40 checks)"),
    ]


def main() -> None:
    num_rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 31
    root = Path(tempfile.mkdtemp(prefix="preflight-bench-"))
    cluster = Cluster(root)
    try:
        cluster.start()
        bench = Bench(cluster)
        rows = measured(bench, num_rounds)
        rows += [
            ("job_submit.lua, 1 KB script", f"{controller_ms(root, 1000):.2f} ms (under 1)"),
            ("job_submit.lua, 500 KB script", f"{controller_ms(root, 500_000):.2f} ms (under 1)"),
            *in_parallel(bench, max(3, num_rounds // 4)),
            ("rounds", str(num_rounds)),
        ]
    finally:
        cluster.stop()
        shutil.rmtree(root, ignore_errors=True)
    for name, value in rows:
        print(f"{name:<38}{value}")


if __name__ == "__main__":
    main()
