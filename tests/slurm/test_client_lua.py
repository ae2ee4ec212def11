"""The client's guard under Lua itself, with helpers that behave and misbehave: only one way to refuse, and no way to break."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
from lua_slurm import VERSIONS, LuaGuard, filled

GPU_JOB = {"gres": "gres/gpu:8", "argv": ["/home/u/job.sh"]}


class Client:
    """The client's guard with a helper of the test."""

    def __init__(self, folder: Path, version: str, helper: str, **values: str) -> None:
        self.folder = folder
        script = folder / "helper"
        script.write_text(helper)
        quoted = shlex.quote(str(script))
        self.guard = LuaGuard(
            filled("cli_filter.lua", HELPER=f'"{sys.executable} {quoted}"', **values), version
        )

    def submit(self, options: dict[str, object], kind: str = "sbatch", component: int = 0) -> int:
        told = {k: v for k, v in options.items() if k != "argv"}
        argv = json.dumps(options.get("argv", []), separators=(",", ":"))
        text = json.dumps(told, separators=(",", ":"))[:-1] + ("," if told else "")
        # As Slurm's serializer writes it, slashes and all
        text = (text + f'"argv":{argv}}}').replace("/", "\\/")
        self.options = self.guard.lua.table_from({**told, "type": kind, "json": text})
        return int(self.guard.lua.globals().slurm_cli_pre_submit(self.options, component))


READS = """\
import json, sys
request = json.load(open(sys.argv[-1], encoding="utf-8"))
json.dump(request, open({seen!r}, "w"))
print("stamp=preflight=1,fits,a,b")
"""


@pytest.fixture(params=VERSIONS)
def client(request, tmp_path):
    def make(helper: str = "", **values: str) -> Client:
        return Client(tmp_path, request.param, helper, **values)

    return make


def test_a_job_that_passes_gets_the_stamp_behind_what_its_user_wrote(client, tmp_path):
    guard = client(READS.format(seen=str(tmp_path / "seen")))

    assert guard.submit({**GPU_JOB, "extra": "mine"}) == 0
    assert guard.options["extra"] == "mine preflight=1,fits,a,b"
    request = json.loads((tmp_path / "seen").read_text())
    assert request["program"] == "sbatch"
    assert request["options"] == {**GPU_JOB, "extra": "mine"}


def test_the_stamp_goes_where_the_site_wants_it(client, tmp_path):
    guard = client(READS.format(seen=str(tmp_path / "seen")), STAMP_OPTION='"comment"')

    assert guard.submit(GPU_JOB) == 0
    assert guard.options["comment"] == "preflight=1,fits,a,b"
    assert guard.options["extra"] is None


def test_only_the_word_and_the_code_together_refuse(client):
    assert client("print('refuse'); raise SystemExit(3)").submit(GPU_JOB) == -1


@pytest.mark.parametrize(
    ("helper", "reason"),
    [
        ("raise SystemExit(3)", "failed"),
        ("print('refuse')", "failed"),
        ("print('refuse'); raise SystemExit(1)", "failed"),
        ("1/0", "failed"),
        ("this is no Python", "failed"),
        ("import os; os.kill(os.getpid(), 9)", "failed"),
        ("import os; os.kill(os.getpid(), 11)", "failed"),
        ("print('stamp=')", "failed"),
        ("", "failed"),
    ],
)
def test_every_other_end_of_the_helper_lets_the_job_pass_and_is_told(client, capfd, helper, reason):
    guard = client(helper)

    assert guard.submit(GPU_JOB) == 0
    assert guard.options["extra"] == f"preflight=not-judged,{reason}"
    assert "the job was not judged and passes" in capfd.readouterr().err


def test_a_helper_that_hangs_is_ended(client, capfd):
    guard = client("import time; time.sleep(600)", TIMEOUT_S="1")

    assert guard.submit(GPU_JOB) == 0
    assert guard.options["extra"] == "preflight=not-judged,timeout"
    assert "no answer within 1 s" in capfd.readouterr().err


def test_a_helper_that_hangs_and_will_not_end_is_ended_too(client, capfd):
    guard = client(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
        TIMEOUT_S="1",
    )

    assert guard.submit(GPU_JOB) == 0
    assert "no answer within 1 s" in capfd.readouterr().err


def test_a_helper_that_was_killed_at_once_is_not_called_late(client, capfd):
    assert client("import os; os.kill(os.getpid(), 9)").submit(GPU_JOB) == 0
    assert "the check failed (exit code 137)" in capfd.readouterr().err


def test_what_preflight_sbatch_judged_is_not_judged_again_and_what_it_started_is(
    client, monkeypatch
):
    monkeypatch.setenv("PREFLIGHT_SUBMITTED", str(os.getpid()))
    guard = client("print('refuse'); raise SystemExit(3)")
    assert guard.submit(GPU_JOB) == 0
    assert guard.options["extra"] is None
    monkeypatch.setenv("PREFLIGHT_SUBMITTED", str(os.getppid()))

    assert guard.submit(GPU_JOB) == -1


@pytest.mark.parametrize("word", ["off", "OFF", " off", "off\t", "0", "False", "no"])
def test_off_is_off_with_spaces_around_it(client, monkeypatch, word):
    monkeypatch.setenv("PREFLIGHT", word)
    guard = client("print('refuse'); raise SystemExit(3)")

    assert guard.submit(GPU_JOB) == 0
    assert guard.options["extra"] == "preflight=off"


def test_a_helper_that_is_missing_lets_the_job_pass(tmp_path):
    guard = LuaGuard(filled("cli_filter.lua", HELPER='"/nonexistent/python -I -m x"'))
    options = guard.lua.table_from({"type": "sbatch", "json": '{"gpus":"2","argv":["j"]}'})

    assert guard.lua.globals().slurm_cli_pre_submit(options, 0) == 0
    assert options["extra"] == "preflight=not-judged,failed"


@pytest.mark.parametrize(
    ("options", "kind", "component"),
    [
        ({"partition": "gpu", "argv": ["job.sh"]}, "sbatch", 0),  # no GPUs
        ({"mem-per-gpu": "3G", "wrap": "true"}, "sbatch", 0),
        ({"gres": "gres/nvme:1", "argv": ["job.sh"]}, "sbatch", 0),
        (GPU_JOB, "salloc", 0),
        ({"gres": "gres/gpu:1", "argv": ["hostname"]}, "srun", 0),
        ({"gpus": "1", "wrap": "nvidia-smi -L"}, "sbatch", 0),
        ({"gpus": "1", "argv": ["simulation"]}, "sbatch", 0),
        (GPU_JOB, "sbatch", 1),  # a further part of a heterogeneous job has no script
    ],
)
def test_what_is_no_launch_on_gpus_starts_no_process(client, capfd, options, kind, component):
    guard = client("raise SystemExit(1)")
    simulation = guard.folder / "simulation"
    simulation.write_text("#!/bin/bash\nsrun gmx mdrun -nb gpu\n")
    if options.get("argv") == ["simulation"]:
        options = {**options, "argv": [str(simulation)]}

    assert guard.submit(options, kind, component) == 0
    assert guard.options["extra"] is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "options",
    [
        {"gpus": "8"},
        {"gpus-per-node": "h100:8"},
        {"gpus-per-task": "1"},
        {"tres-per-task": "cpu:2,gres/gpu:1"},
        {"exclusive": "exclusive"},
    ],
)
def test_every_way_to_ask_for_gpus_is_seen(client, tmp_path, options):
    guard = client(READS.format(seen=str(tmp_path / "seen")))
    guard.submit({**options, "argv": ["job.sh"]})

    assert (tmp_path / "seen").exists()


@pytest.mark.parametrize(
    "text", ["torchrun x.py", "source common.sh", "bash run.sh", "python train.py", "$X launch.sh"]
)
def test_a_script_that_may_launch_something_is_judged(client, tmp_path, text):
    guard = client(READS.format(seen=str(tmp_path / "seen")))
    (tmp_path / "job").write_text(f"#!/bin/bash\n{text}\n")
    guard.submit({"gpus": "8", "argv": [str(tmp_path / "job")]})

    assert (tmp_path / "seen").exists()


def test_srun_is_judged_outside_a_job_and_not_inside(client, tmp_path, monkeypatch):
    guard = client(READS.format(seen=str(tmp_path / "seen")))
    options = {"gpus": "8", "argv": ["accelerate", "launch", "x.py"]}
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    inside = guard.submit(options, "srun"), (tmp_path / "seen").exists()
    monkeypatch.delenv("SLURM_JOB_ID")
    outside = guard.submit(options, "srun"), (tmp_path / "seen").exists()

    assert inside == (0, False)
    assert outside == (0, True)


def test_whoever_turns_it_off_is_on_record(client, monkeypatch):
    monkeypatch.setenv("PREFLIGHT", "off")
    guard = client("raise SystemExit(1)")

    assert guard.submit(GPU_JOB) == 0
    assert guard.options["extra"] == "preflight=off"


def test_whatever_is_in_the_options_arrives_as_it_was(client, tmp_path):
    guard = client(READS.format(seen=str(tmp_path / "seen")))
    odd = 'it\'s "$(touch /tmp/x)" `y` \\ \n\t\u00e9 %s'
    guard.submit({"gpus": "1", "wrap": f"python {odd}", "job-name": odd})

    assert json.loads((tmp_path / "seen").read_text())["options"]["wrap"] == f"python {odd}"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sites_own_filter_is_asked_first(tmp_path, version):
    own = tmp_path / "cli_filter.site.lua"
    own.write_text(
        "function slurm_cli_setup_defaults(o, early) o.partition = 'own' return slurm.SUCCESS end\n"
        "function slurm_cli_pre_submit(o, off) if o.gpus == '9' then return slurm.ERROR end"
        " return slurm.SUCCESS end\n"
        "function slurm_cli_post_submit(off, job, step) return 5 end\nreturn slurm.SUCCESS\n"
    )
    guard = Client(tmp_path, version, "print('stamp=x')", SITE_FILE=f'"{own}"')
    table = guard.guard.lua.table()
    guard.guard.lua.globals().slurm_cli_setup_defaults(table, False)

    assert guard.submit({"gpus": "9", "argv": ["j"]}) == -1
    assert guard.submit({"gpus": "8", "argv": ["j"]}) == 0
    assert table["partition"] == "own"
    assert guard.guard.lua.globals().slurm_cli_post_submit(0, 1, 0) == 5
