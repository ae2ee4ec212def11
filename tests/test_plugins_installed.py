"""The example plugin, installed by pip, found through its entry point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "plugins" / "example_plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder that pip installed the example plugin into."""
    folder = tmp_path_factory.mktemp("site")
    source = folder / "source"
    shutil.copytree(EXAMPLE, source)  # the build leaves its folders beside the source
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "install", *options]
    subprocess.run([*command, "--target", str(folder / "installed"), str(source)], check=True)
    return folder / "installed"


def preflight(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "preflight.cli", *args],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def test_an_installed_plugin_is_found_through_its_entry_point(site, tmp_path):
    done = preflight("hooks", "--format", "json", cwd=tmp_path, PYTHONPATH=str(site))
    hooks = {hook["name"]: hook["plugins"] for hook in json.loads(done.stdout)["hooks"]}

    assert hooks["preflight_memory_terms"][0] == "replay-buffer"


def test_without_it_on_the_path_nobody_asks_it(tmp_path):
    done = preflight("hooks", "--format", "json", cwd=tmp_path)

    assert "replay-buffer" not in done.stdout
    assert done.returncode == 0


def test_what_an_installed_plugin_knows_is_in_the_estimate(site, tmp_path):
    plan = {
        "model_config": json.loads(TINY_LLAMA),
        "micro_batch_size": 1,
        "seq_len": 64,
        "load_dtype": "fp32",
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    args = ("estimate", "plan.json", "--device", "h100-sxm-80", "--format", "json")
    done = preflight(*args, cwd=tmp_path, PYTHONPATH=str(site))
    terms = {t["name"]: t["num_bytes"] for t in json.loads(done.stdout)["estimate"]["terms"]}

    assert terms["replay buffer"] == 64 * 2**20


TINY_LLAMA = """{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
  "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "vocab_size": 256, "max_position_embeddings": 256,
  "tie_word_embeddings": false, "torch_dtype": "float32"
}"""
