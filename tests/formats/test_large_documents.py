"""Documents of a hundred thousand keys: what is paid grows with them, also where a search writes and reads them back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from preflight.errors import BadInput
from preflight.formats.load import load_json, load_yaml

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
    # The shorter of two runs, in turn: what else the machine does only ever adds.
    runs = [[cpu_seconds(tmp_path, number) for number in (40_000, 160_000)] for _ in range(2)]
    small, large = map(min, zip(*runs, strict=True))

    # Four times the keys take about four times as long, and a square sixteen times: one that adds
    # two seconds is seen, and a machine whose caches are busy is not.
    assert large < 6 * small


@pytest.mark.parametrize("load", [load_json, load_yaml])
def test_a_hundred_thousand_keys_and_more_are_read_and_too_many_are_refused_by_number(load):
    def text(number: int, length: int) -> str:
        keys = ",\n".join(f'"k{at:0{length}d}": 1' for at in range(number))
        return "{" + keys + "}"

    assert len(load(text(150_000, 6), "c").value) == 150_000
    assert len(load(text(210_000, 20), "runs").value) == 210_000  # a list of that length
    with pytest.raises(BadInput, match="more than 200,000 entries"):
        load('{"a": [' + "1," * 210_000 + "1]}", "c")


def test_a_small_text_of_aliases_is_no_long_list():
    doubled = "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
    with pytest.raises(BadInput, match="more than 200,000 entries"):
        load_yaml("a0: &a0 [x, x]\n" + doubled, "c.yaml")
