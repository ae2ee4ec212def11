"""No output has a value of the environment, whatever wraps the launch and however much is asked for (attack I1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from preflight.cli import main

LAUNCH = ["accelerate", "launch", "--num_processes", "2", "--config_file", "a.yaml", "train.py"]
WRAPPED = {
    "nothing": LAUNCH,
    "srun": ["srun", "-N", "1", *LAUNCH],
    "env": ["env", "A=1", *LAUNCH],
    "bash": ["bash", "-c", f"export B=$TOKEN_OF_MINE; {' '.join(LAUNCH)}"],
    "nohup timeout": ["nohup", "timeout", "60", *LAUNCH],
    "uv": ["uv", "run", *LAUNCH],
    "docker": ["docker", "run", "-e", "TOKEN_OF_MINE", "image", *LAUNCH],
}
CONFIG = """\
distributed_type: FSDP
num_processes: 2
fsdp_config: {fsdp_version: 2, fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP}
"""
SCRIPT = "from trl import SFTConfig, SFTTrainer, ModelConfig, TrlParser\nparser = TrlParser((SFTConfig, ModelConfig))\n"
DOORS = {
    "verbose": ["check", "-v"],
    "json": ["check", "-v", "--format", "json"],
    "sarif": ["check", "--format", "sarif"],
    "page": ["check", "-v", "--report", "report.html"],
    "fix": ["fix", "-v", "--device", "t4-16"],
    "rewrite in json": ["fix", "--device", "t4-16", "--format", "json"],
}


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("door", DOORS)
def test_a_token_of_the_environment_is_in_no_output(
    tmp_path: Path, monkeypatch, capfd, door, wrapper
):
    (tmp_path / "a.yaml").write_text(CONFIG)
    (tmp_path / "train.py").write_text(SCRIPT)
    values = ["--set", "model=gpt2", "--set", "seq_len=1024", "--set", "micro_batch_size=64"]
    monkeypatch.chdir(tmp_path)
    for name in ("HF_TOKEN", "TOKEN_OF_MINE"):
        monkeypatch.setenv(name, "hf_secret")
    monkeypatch.setenv("PREFLIGHT_TRACE", "1")
    code = main([*DOORS[door], *values, "--", *WRAPPED[wrapper]])
    printed = capfd.readouterr()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    said = printed.out + printed.err + "".join(path.read_text() for path in written)

    assert code in (0, 1, 2) and said
    assert "preflight: trace: " in printed.err
    assert "hf_secret" not in said
