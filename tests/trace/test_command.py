"""`preflight trace`: text, JSON, the cache, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_models import CONFIGS

from preflight.cli import main
from preflight.trace.job import TraceJob
from preflight.trace.kept import keep, read_kept
from preflight.trace.run import trace
from preflight.trace.timeline import timeline_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"

PLAN = {
    "model": "tiny", "engine": "fsdp2", "world_size": 4, "shard_degree": 4, "load_dtype": "fp32",
    "mixed_precision": "bf16", "micro_batch_size": 2, "seq_len": 256, "trainer": "transformers",
    "activation_checkpointing": "full", "sequence_kind": "fixed", "optimizer": "adamw_torch",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    values = {"plan": PLAN, "models": {"tiny": CONFIGS["llama"]}}
    (tmp_path / "plan.yaml").write_text(json.dumps(values))
    return tmp_path


def test_phases_are_shown_beside_the_formulas_and_the_second_time_from_the_cache(folder, capsys):
    assert main(["trace", "--plan", "plan.yaml", "--format", "json"]) == 0
    first = json.loads(capsys.readouterr().out)["trace"]
    assert main(["trace", "--plan", "plan.yaml"]) == 0
    text = capsys.readouterr().out
    heads = []
    for card in ("small:0.001", "large:80"):
        assert main(["trace", "--plan", "plan.yaml", "--device", card]) == 0
        heads.append(" ".join(capsys.readouterr().out.split()).partition(";")[0])

    assert [entry["phase"] for entry in first["phases"]] == [
        "forward", "loss", "backward", "optimizer_step", "second_step",
    ]  # fmt: skip
    for entry in first["phases"]:
        assert entry["num_bytes"] == sum(entry["categories"].values())
        assert entry["formula_bytes"] == pytest.approx(entry["num_bytes"], rel=0.05)
    assert not first["is_cached"]
    assert "5 of 7 layers run" in text
    assert "from the cache" in text
    assert text.startswith("preflight: traced. Peak ")
    assert heads[0].endswith("step: does not fit") and heads[1].endswith(": the tensors alone fit")
    assert "optimizer step" in text


def test_a_damaged_cache_is_traced_again_and_mended(folder, capsys):
    """Valid JSON of another shape, half a file, and a result from before there was a timeline: no answers, no errors."""
    assert main(["trace", "--plan", "plan.yaml", "--format", "json"]) == 0
    first = json.loads(capsys.readouterr().out)["trace"]
    (cached,) = (folder / "cache").rglob("*.json")
    whole = json.loads(cached.read_text())
    older = {name: whole[name] for name in whole if name not in ("timeline", "traced_on")}
    for damaged in ('{"phases": [{}]}', cached.read_text()[:100], "[]", json.dumps(older)):
        cached.write_text(damaged)
        assert read_kept(str(cached)) is None
    assert main(["trace", "--plan", "plan.yaml", "--format", "json"]) == 0
    again = json.loads(capsys.readouterr().out)["trace"]

    assert not again["is_cached"]
    assert again["phases"] == first["phases"]
    kept = list(cached.parent.iterdir())
    assert any(read_kept(str(path)) for path in kept)
    assert {path.suffix for path in kept} == {".json"}


def test_results_written_at_once_are_each_whole(tmp_path):
    """Whoever reads while many write gets one of the results, never a part of two."""
    path = str(tmp_path / "cache" / "one.json")
    results = [
        {"phases": [], "timeline": [], "num_layers": n, "num_traced_layers": n, "seconds": 0.0,
         "versions": {"padding": "x" * 10_000 * n}, "traced_on": "2026-01-31"}
        for n in range(1, 9)
    ]  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(keep, path, result) for result in results * 10]
        seen = [read_kept(path) for _ in range(100)]
        for done in writing:
            done.result()

    assert read_kept(path) is not None
    assert all(r is None or len(r.versions["padding"]) == 10_000 * r.num_layers for r in seen)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["one.json"]


def test_a_launch_is_read_as_check_reads_it(folder, capsys):
    for file in EXAMPLE.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    command = ["accelerate", "launch", "--config_file", "fsdp2.yaml", "train_trainer.py",
               "--model_name_or_path", ".", "--max_length", "128", "--output_dir", "out"]  # fmt: skip
    code = main(["trace", "--format", "json", "--", *command])
    shown = json.loads(capsys.readouterr().out)

    assert code == 0
    assert shown["plan"]["engine"] == "fsdp2"
    assert shown["trace"]["peak_bytes"] > 0


def test_a_model_that_no_formula_knows_is_traced(folder, capsys):
    (folder / "config.json").write_text(json.dumps({**CONFIGS["llama"], "model_type": "dory"}))
    code = main(["trace", "--plan", "plan.yaml", "--set", "model_config=config.json"])
    text = capsys.readouterr().out

    assert code == 0
    assert text.startswith("preflight: traced.") and "none" in text


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own_llama"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_a_folders_own_code_is_run_only_when_asked(folder, capsys, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    model = folder / "own"
    model.mkdir()
    (model / "modeling_own.py").write_text(OWN_CODE)
    auto_map = {
        "AutoConfig": "modeling_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    }
    config = {**CONFIGS["llama"], "model_type": "own_llama", "auto_map": auto_map}
    (model / "config.json").write_text(json.dumps(config))
    (folder / "own.yaml").write_text(json.dumps({**PLAN, "model": "own"}))
    arguments = ["trace", "--plan", "own.yaml", "--format", "json"]

    assert main(arguments) == 2
    assert "--trust-remote-code" in capsys.readouterr().out
    assert main([*arguments, "--trust-remote-code"]) == 0
    assert json.loads(capsys.readouterr().out)["trace"]["num_traced_layers"] == 5

    config["auto_map"]["AutoModelForCausalLM"] = "someone/else--modeling_own.OwnForCausalLM"
    (model / "config.json").write_text(json.dumps(config))
    assert main([*arguments, "--trust-remote-code"]) == 2
    assert "is in another repository: AutoModelForCausalLM: someone/else--modeling_own" in (
        "".join(capsys.readouterr())
    )

    (model / "config.json").write_text(json.dumps({**config, "auto_map": 1}))
    assert main([*arguments, "--trust-remote-code"]) == 2
    assert "auto_map must name the classes" in "".join(capsys.readouterr())


def test_everything_that_is_not_traced_is_named_at_once(folder, capsys):
    more = [
        "--set",
        "optimizer=galore_adamw",
        "--set",
        "offload_params=cpu",
        "--set",
        "engine=zero3",
    ]
    code = main(["trace", "--plan", "plan.yaml", *more])
    errors = capsys.readouterr().err

    assert code == 2
    for words in ("engine zero3 is not traced", "offload of params", "optimizer galore_adamw"):
        assert words in errors


def test_a_model_type_that_transformers_does_not_know_is_named(folder, capsys):
    (folder / "config.json").write_text(json.dumps({**CONFIGS["llama"], "model_type": "no_such"}))
    code = main(["trace", "--plan", "plan.yaml", "--set", "model_config=config.json"])
    errors = capsys.readouterr().err

    assert code == 2
    assert "'no_such'" in errors
    assert "--trust-remote-code" in errors


def test_a_model_that_cannot_run_is_refused_with_torchs_reason(folder, capsys):
    """Helium's heads have 128 features unless its config says otherwise; these do not add up."""
    (folder / "config.json").write_text(json.dumps({**CONFIGS["llama"], "model_type": "helium"}))
    code = main(["trace", "--plan", "plan.yaml", "--set", "model_config=config.json"])
    errors = capsys.readouterr().err

    assert code == 2
    assert "helium cannot be traced: RuntimeError: a and b must have same reduction dim" in errors


def test_without_torch_it_says_what_to_install(core_bin, tmp_path):
    plan = {"model": "meta-llama/Llama-3.1-8B", "micro_batch_size": 1, "seq_len": 128}
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    done = subprocess.run(
        [core_bin / "preflight", "trace", "--plan", "plan.yaml"],
        cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 2
    assert "fix  pip install torch transformers" in done.stderr


def test_what_a_trace_does_not_import_changes_no_byte():
    """The tracing process leaves out torch's compiler and, beside TRL's head, libraries of tables; this one has them."""
    job = TraceJob(
        config=CONFIGS["llama"], engine="fsdp2", shard_degree=4, micro_batch_size=2, seq_len=64,
        checkpointing=True, loss="chunked_linear", trainable_dtype="fp32", mixed=True, clips=True,
    )  # fmt: skip
    own_process = (
        "import json, sys; from preflight.trace.imports import import_libraries\n"
        "from preflight.trace.job import job_from_dict\n"
        "job = job_from_dict(json.load(sys.stdin)); import_libraries(job)\n"
        "from preflight.trace.run import trace\n"
        "from preflight.trace.timeline import timeline_of\n"
        "parts = [vars(part) for part in timeline_of(trace(job).levels)]\n"
        "left_out = ('torch._dynamo.eval_frame', 'pandas.core', 'pyarrow', 'peft.tuners')\n"
        "print(json.dumps([[n for n in left_out if n in sys.modules], repr(parts)]))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", own_process],
        input=json.dumps(job.to_dict()), capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported, parts = json.loads(answer.stdout.splitlines()[-1])

    assert imported == []
    assert parts == repr([vars(part) for part in timeline_of(trace(job).levels)])
