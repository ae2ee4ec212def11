"""`--dataset` on the command line: the length it gives a launch, what is said of it, what goes wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from preflight.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a launch that cuts at 20480 tokens, and rows that are shorter."""
    for name in ("fsdp2.yaml", "train.py"):
        shutil.copy(EXAMPLES / "2-rewritten" / name, tmp_path)
    rows = "".join(json.dumps({"num_tokens": n}) + "\n" for n in (100, 3500, 20))
    (tmp_path / "rows.jsonl").write_text(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def launch(name: str, *options: str, batch: int = 1) -> list[str]:
    words = (
        "-- accelerate launch --config_file fsdp2.yaml train.py"
        " --model_name_or_path meta-llama/Llama-3.1-8B --max_length 20480"
        f" --per_device_train_batch_size {batch} --bf16 True --output_dir out"
    )
    padded = ["--set", "sequence_kind=padded"]
    return [name, "--device", "h100-sxm-80", *padded, *options, *words.split()]


def test_the_longest_row_is_what_is_estimated(folder, capsys):
    without = main(launch("check", "--format", "json"))
    before = json.loads(capsys.readouterr().out)
    code = main(launch("check", "--dataset", "rows.jsonl", "--format", "json"))
    after = json.loads(capsys.readouterr().out)

    assert (without, code) == (1, 0)
    assert (before["plan"]["seq_len"], after["plan"]["seq_len"]) == (20480, 3500)
    assert after["origins"]["seq_len"]["where"] == (
        "--dataset rows.jsonl: row 2 is the longest, 3,500 tokens"
    )
    assert "dataset" not in before
    assert after["dataset"]["num_rows"] == 3 and after["dataset"]["num_truncated"] == 0
    assert before["estimate"]["device_peak_bytes"] > after["estimate"]["device_peak_bytes"]


def test_the_report_says_what_was_found(folder, capsys):
    main(launch("check", "--dataset", "rows.jsonl"))
    told = " ".join(capsys.readouterr().out.split())

    assert "note: --dataset rows.jsonl: 3 rows, longest 3,500 tokens (row 2), p99 3,500" in told
    assert "none is over 20,480; the longest micro batch is 1 x 3,500 tokens" in told


def test_a_rewrite_keeps_the_length_that_the_launch_has(folder, capsys):
    """The dataset is not part of the launch: its length is neither written nor missed in the copy."""
    code = main(launch("fix", "--dataset", "rows.jsonl", "--format", "json", batch=8))
    report = json.loads(capsys.readouterr().out)
    argv = report["rewrite"]["argv"]

    assert code == 0 and report["applied"]
    assert argv[argv.index("--max_length") + 1] == "20480"


def test_an_option_about_a_dataset_without_one_is_bad_input(folder, capsys):
    code = main(launch("check", "--tokenizer", "model", "--column", "text"))
    told = capsys.readouterr().err

    assert code == 2
    assert "--tokenizer says how a dataset is read" in told
    assert "--column says how a dataset is read" in told


def test_a_broken_dataset_is_bad_input_and_in_run_starts_nothing(folder, capsys):
    (folder / "broken.jsonl").write_text('{"length": 3}\n{"length":\n')

    assert main(launch("check", "--dataset", "broken.jsonl")) == 2
    assert "broken.jsonl:2" in capsys.readouterr().err
    assert main(launch("run", "--dataset", "broken.jsonl")) == 78


def test_images_without_a_limit_leave_the_verdict_open(folder, capsys):
    (folder / "rows.jsonl").write_text('{"num_tokens": 100, "image": "a.png"}\n')
    arguments = launch("check", "--dataset", "rows.jsonl", "--set", "seq_len=null")
    code = main(arguments)
    told = " ".join(capsys.readouterr().out.split())

    assert code == 0
    assert "preflight: unknown" in told
    assert "warning: rows hold images (column image)" in told


def test_a_plan_file_takes_a_dataset_too(folder, capsys):
    (folder / "plan.yaml").write_text(
        "model: meta-llama/Llama-3.1-8B\nmicro_batch_size: 1\nsequence_kind: padded\n"
    )
    main(["estimate", "plan.yaml", "--dataset", "rows.jsonl", "--format", "json"])

    assert json.loads(capsys.readouterr().out)["plan"]["seq_len"] == 3500


def test_the_core_alone_reads_json_lines_and_says_what_the_others_need(core_bin, folder):
    """No pyarrow and no transformers are importable there."""
    (folder / "rows.parquet").write_bytes(b"PAR1")
    (folder / "text.jsonl").write_text('{"text": "a"}\n')
    (folder / "model").mkdir()

    def check(*options: str) -> subprocess.CompletedProcess[str]:
        words = launch("check", *options)
        return subprocess.run(
            [core_bin / "preflight", *words],
            env={"HOME": str(folder), "PATH": str(core_bin)},
            capture_output=True,
            text=True,
        )

    assert check("--dataset", "rows.jsonl").returncode == 0
    for options, told in (
        (("rows.parquet",), "needs pyarrow to be read, which is not installed here"),
        (("text.jsonl", "--tokenizer", "model"), "needs transformers to be used"),
    ):
        done = check("--dataset", *options)

        assert done.returncode == 2
        assert told in done.stderr and "pip install" in done.stderr


def test_a_check_without_a_dataset_imports_nothing_for_one(folder):
    code = (
        "import sys; from preflight.cli import main; main(sys.argv[1:]);"
        "print([n for n in sys.modules if 'dataset' in n or n == 'pyarrow'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *launch("check")], capture_output=True, text=True, cwd=folder
    )

    assert done.stdout.splitlines()[-1] == "[]"
