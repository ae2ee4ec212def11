"""A disk that is full: nothing half-written stays, and the fix that is told is room."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy import WORKER

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "2-rewritten"


@pytest.fixture
def disk(tmp_path: Path):
    """A file system of 64 KiB with the example's launch in it, and no room left."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root may mount")
    try:
        (folder / "train.sh").write_text(
            "accelerate launch --config_file fsdp2.yaml train.py --bf16 True\n"
        )
        for name in ("fsdp2.yaml", "train.py"):
            (folder / name).write_text((EXAMPLE / name).read_text())
        (folder / "worker.py").write_text(WORKER)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    with (folder / "full").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def preflight(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "preflight", *args]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


def test_init_leaves_nothing_and_works_when_there_is_room_again(disk):
    fill(disk)
    done = preflight(disk, "init", "--repo")

    assert done.returncode == 2, done.stderr
    assert "No space left on device" in done.stderr and "make room there" in done.stderr
    assert sorted(os.listdir(disk)) == ["fsdp2.yaml", "full", "train.py", "train.sh", "worker.py"]
    (disk / "full").unlink()
    assert preflight(disk, "init", "--repo").returncode == 0
    assert (disk / "preflight.toml").stat().st_size


def test_a_rewrite_that_has_no_room_starts_nothing_and_says_what_helps(disk):
    (disk / ".preflight").mkdir()
    fill(disk)
    words = ["accelerate", "launch", "--config_file", "fsdp2.yaml", "train.py", "--bf16", "True"]
    flags = ["--model_name_or_path", "meta-llama/Llama-3.1-8B", "--max_length", "16384"]
    done = preflight(disk, "fix", "--device", "h100-sxm-80", "--", *words, *flags)

    assert done.returncode == 2, done.stderr
    assert "No space left on device" in done.stderr and "make room there" in done.stderr
    assert os.listdir(disk / ".preflight") == []
