"""Records leak nothing, and nobody's records and corrections but one's own are believed (attack I2, and trust)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import tiny
from toy import HOOKS, WORKER, launch
from two_users import ATTACKER, ROOT, VICTIM

from preflight.models import describe
from preflight.models.registry import all_models
from preflight.records.anonymous import anonymous_config, anonymous_plan
from preflight.records.run_store import host_name

FILE = f"runs-{host_name()}.jsonl"
SAVE = """\
import sys
from preflight.records.run_record import DONE, RunRecord
from preflight.records.run_store import save
device = {"name": "NVIDIA H100 80GB HBM3", "kind": "cuda", "capacity_bytes": 2**36}
wrong = save(RunRecord(sys.argv[1], 0, 1, "here", "2026-11-25T10:00:00Z", DONE, device=device))
sys.exit("; ".join(wrong) or 0)
"""
CORRECTION = {
    "schema": 1,
    "devices": {
        "h100-sxm-80": {
            "device": "h100-sxm-80",
            "num_runs": 9,
            "context_bytes": 2 * 2**30,
            "num_context_runs": 9,
            "nccl_factor": None,
            "num_nccl_runs": 0,
            "allocator_factor": None,
            "num_allocator_runs": 0,
        }
    },
}


def save(machine, user: int, name: str, folder: Path):
    return machine.run(
        *(user, sys.executable, "-c", SAVE, name),
        cwd=machine.root,
        PREFLIGHT_RECORDS=str(folder),
    )


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_record_is_for_its_user_alone_whatever_the_umask_and_one_of_before_is_closed(machine):
    folder = machine.homes[VICTIM] / "records"
    assert save(machine, VICTIM, "a", folder).returncode == 0
    first = (mode(folder), mode(folder / FILE))
    (folder / FILE).chmod(0o644)
    assert save(machine, VICTIM, "b", folder).returncode == 0

    assert first == (0o700, 0o600) and mode(folder / FILE) == 0o600
    assert len((folder / FILE).read_text().splitlines()) == 2


def test_users_of_one_host_share_a_folder_and_no_file(machine):
    assert save(machine, ATTACKER, "theirs", machine.scratch).returncode == 0
    assert save(machine, VICTIM, "hers", machine.scratch).returncode == 0
    own = machine.scratch / f"runs-{host_name()}-{VICTIM}.jsonl"

    assert own.stat().st_uid == VICTIM and "hers" in own.read_text()
    assert "hers" not in (machine.scratch / FILE).read_text()


@pytest.mark.parametrize("kind", ["link", "fifo", "file"])
def test_what_an_attacker_put_in_the_place_of_a_record_is_not_written(machine, kind):
    folder = machine.folder(ATTACKER, "shared", 0o777)
    target = machine.write(VICTIM, machine.homes[VICTIM] / "precious", "kept")
    for name in (FILE, f"runs-{host_name()}-{VICTIM}.jsonl"):
        path = folder / name
        if kind == "link":
            path.symlink_to(target)
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.write_text("")
            path.chmod(0o666)
        os.chown(path, ATTACKER, ATTACKER, follow_symlinks=False)
    done = save(machine, VICTIM, "hers", folder)

    assert done.returncode == 1 and done.stderr
    assert target.read_text() == "kept"
    if kind == "file":
        assert (folder / FILE).read_text() == ""


@pytest.mark.parametrize("user", [VICTIM, ROOT])
def test_a_correction_of_somebody_is_named_and_moves_no_estimate(machine, user):
    own = machine.folder(user, "own")
    machine.write(user, own / "worker.py", WORKER)
    machine.write(user, own / "preflight_hooks.py", HOOKS)
    shared = machine.folder(ROOT, "records")
    path = machine.write(ATTACKER, shared / "correction.json", json.dumps(CORRECTION))
    words = ["check", "--device", "h100-sxm-80", "--", *launch(4)]

    def said(**more: str) -> str:
        records = {"PREFLIGHT_RECORDS": str(shared), **more}
        done = machine.preflight(user, *words, cwd=own, **records)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"{path} is left alone: {path} belongs to user {ATTACKER}" in said()
    assert "this site's" not in said()
    assert "this site's" in said(PREFLIGHT_TRUST=str(shared))
    os.chown(path, ROOT, ROOT)
    assert "this site's" in said() and "left alone" not in said()


def test_records_of_somebody_are_named_and_decide_nothing(machine):
    for number in range(6):
        assert save(machine, ATTACKER, f"bad-{number}", machine.scratch).returncode == 0
    words = ["history", "--format", "json", "--folder", str(machine.scratch)]
    for user in (VICTIM, ROOT):
        told = json.loads(machine.preflight(user, *words, cwd=machine.root).stdout)
        assert told["runs"] == []
        assert "is left alone" in told["unreadable"][0]


# What a record says (attack I2)

SECRET = "/home/u/secret-project"
CONFIG = {
    "_name_or_path": SECRET,
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 64,
    "rope_scaling": {"rope_type": "linear", "factor": 2.0, "note": SECRET},
    "layer_types": ["full_attention"],
    "hub_token": "hf_secret",
    "notes": ["see secret", SECRET],
    "secret key with words": 1,
    "auto_map": {"AutoModel": f"{SECRET}--modeling.Secret"},
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True, "path": SECRET},
}


def test_a_plan_keeps_numbers_and_words_of_the_libraries():
    plan = {
        "model": SECRET,
        "model_config": CONFIG,
        "optimizer": "adamw_torch",
        "adapter": {"kind": "lora", "rank": 8, "targets": r".*\.(q|v)_proj$", "dtype": SECRET},
        "wrap_classes": ["LlamaDecoderLayer", "my secret/layer"],
        "micro_batch_size": 4,
    }
    kept = anonymous_plan(plan)

    assert "secret" not in json.dumps(kept)
    assert kept["model"] == "local llama" and kept["micro_batch_size"] == 4
    assert kept["adapter"] == {
        "kind": "lora",
        "rank": 8,
        "targets": r".*\.(q|v)_proj$",
        "dtype": None,
    }
    assert kept["wrap_classes"] == ["LlamaDecoderLayer"]
    assert kept["model_config"] == {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": 64,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "layer_types": ["full_attention"],
        "auto_map": {},
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    }


def test_a_model_is_named_as_on_the_hub_or_by_its_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "model").mkdir(parents=True)

    assert (
        anonymous_plan({"model": "meta-llama/Llama-3.1-8B"})["model"] == "meta-llama/Llama-3.1-8B"
    )
    for local in ("org/model", "./model", "/abs/model", "a/b/c", "~/model", str(tmp_path)):
        assert anonymous_plan({"model": local}, str(tmp_path))["model"] == "local model"


def test_what_is_kept_of_a_config_describes_the_same_model():
    """Every model of the registry has the same sizes from what a record keeps."""
    compared = 0
    for entry in all_models():
        whole = describe(entry.config, entry.id, "", entry.num_params)
        kept = describe(anonymous_config(entry.config), entry.id, "", entry.num_params)
        assert whole.num_params == kept.num_params, entry.id
        assert {k: v for k, v in vars(whole).items() if k != "config"} == {
            k: v for k, v in vars(kept).items() if k != "config"
        }, entry.id
        compared += 1
    assert compared > 100


RUN = """\
import sys
sys.path[:0] = sys.argv[1].split(":")
import preflight, torch, transformers
from tiny import *
config = transformers.LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1,
    num_attention_heads=2, vocab_size=64, max_position_embeddings=64)
config._name_or_path = "/home/u/secret-project"
config.hub_token = "hf_secret"
model = transformers.LlamaForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters())
with preflight.measure(model, optimizer=optimizer, micro_batch_size=1, seq_len=8):
    model(input_ids=torch.zeros(1, 8, dtype=torch.long), labels=torch.zeros(1, 8, dtype=torch.long)).loss.backward()
    optimizer.step()
    raise RuntimeError("cannot open /home/u/x with token hf_secret")
"""


def test_a_run_that_failed_leaves_no_text_of_its_exception_and_no_path(tmp_path):
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", RUN, str(Path(tiny.__file__).parent)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PREFLIGHT_RECORDS": str(tmp_path / "records"),
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
    )
    assert "cannot open" in done.stderr  # to the user it is said, by Python itself
    text = (tmp_path / "records" / FILE).read_text()
    record = json.loads(text.splitlines()[-1])

    assert (record["outcome"], record["error"]) == ("failed", "RuntimeError")
    assert record["plan"]["model_config"]["hidden_size"] == 32
    assert "secret" not in text and "/home" not in text and str(tmp_path) not in text
