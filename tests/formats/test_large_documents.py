"""Documents of a hundred thousand keys: what is paid grows with them, also where a search writes and reads them back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LAUNCH = (
    *("accelerate", "launch", "--use_deepspeed", "--num_processes", "8"),
    *("--deepspeed_config_file", "ds.json", "train.py", "--bf16", "True"),
    *("--model_name_or_path", "meta-llama/Llama-3.1-8B", "--max_length", "32768"),
)


def cpu_seconds(folder: Path, num_keys: int) -> float:
    keys = {f"key_{number:06}": number for number in range(num_keys)}
    text = json.dumps({"zero_optimization": {"stage": 2}, **keys}, indent=1)
    (folder / "ds.json").write_text(text)
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'preflight', *sys.argv[1:]], stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\nprint(used.ru_utime + used.ru_stime)\n"
    )
    words = ("check", "--device", "h100-sxm-80", "--", *LAUNCH)
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True
    )
    return float(done.stdout)


def test_time_grows_with_the_keys_and_not_with_their_square(tmp_path):
    base = cpu_seconds(tmp_path, 10)
    small, large = (cpu_seconds(tmp_path, n) - base for n in (4_000, 16_000))

    # Four times the keys; the square would be sixteen times.
    assert large < 8 * small
