"""The controller's guard under Lua itself: what it lets pass, what it says, and that it does nothing else."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lua_slurm import VERSIONS, LuaGuard, filled

from preflight.slurm.options import SubmitOptions, submit_options
from preflight.slurm.stamp import (
    MOST_BYTES,
    options_text,
    script_checksum,
    stamp_of,
    with_stamp,
    wrapped_script,
)

SCRIPT = "#!/bin/bash\n#SBATCH -N2\nsrun accelerate launch train.py\n"
GPUS = {"partition": "a100", "features": "gpu_mem:80gb", "tres_per_node": "gres/gpu:a100:8"}
WORDS = ("-p", "a100", "-C", "gpu_mem:80gb", "--gres=gpu:a100:8", "job.sh")
UNSET = 65534


def job(**more: object) -> dict[str, object]:
    return {"script": SCRIPT, "shared": UNSET, "argv": {0: "job.sh"}, **GPUS, **more}


@pytest.fixture(params=VERSIONS)
def guard(request, tmp_path) -> LuaGuard:
    (tmp_path / "preflight.policy").write_text("require\n")
    return LuaGuard(controller(tmp_path), request.param)


def controller(folder: Path, **values: str) -> str:
    return filled("job_submit.lua", POLICY_FILE=f'"{folder / "preflight.policy"}"', **values)


def options(*words: str) -> SubmitOptions:
    return submit_options(words, {})


STAMP = stamp_of(SCRIPT, options(*WORDS), "fits")


def test_a_job_with_the_stamp_of_its_check_passes_and_keeps_it_for_the_record(guard):
    assert guard.submit(**job(extra=STAMP)) == 0
    assert guard.said == []
    assert guard.job["admin_comment"] == STAMP


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, "it was not checked"),
        ({"extra": STAMP, "script": SCRIPT + "\n"}, "another script"),
        ({"extra": STAMP, "partition": "h100"}, "other options"),
        ({"extra": STAMP, "partition": None}, "other options"),
        ({"extra": STAMP, "features": None}, "other options"),
        ({"extra": STAMP, "tres_per_node": "gres/gpu:a100:4"}, "other options"),
        ({"extra": "preflight=9,fits,1,2"}, "another version"),
        ({"extra": "preflight="}, "not checked"),
    ],
)
def test_require_refuses_a_job_whose_stamp_is_missing_or_of_something_else(guard, more, why):
    assert guard.submit(**job(**more)) == 2014
    assert why in guard.said[0]
    assert "preflight sbatch job.sh" in guard.said[0]


def test_warn_says_the_same_and_lets_it_pass(guard, tmp_path):
    (tmp_path / "preflight.policy").write_text("warn  # for now\n")

    assert guard.submit(**job()) == 0
    assert "it was not checked" in guard.said[0]


@pytest.mark.parametrize("text", ["off\n", "", "nonsense\n", None])
def test_any_other_policy_is_off(guard, tmp_path, text):
    path = tmp_path / "preflight.policy"
    path.unlink() if text is None else path.write_text(text)

    assert guard.submit(**job()) == 0
    assert guard.said == []


@pytest.mark.parametrize(
    "more",
    [
        {"tres_per_node": None},  # no GPUs
        {"tres_per_node": "gres/nvme:1"},
        {"script": None},  # srun, salloc
        {"script": "#!/bin/bash\nhostname\n"},
    ],
)
def test_what_is_no_training_on_gpus_is_none_of_its_business(guard, more):
    assert guard.submit(**job(**more)) == 0
    assert guard.said == []


def test_whole_nodes_bring_gpus_that_nobody_asked_for(guard):
    assert guard.submit(**job(tres_per_node=None, shared=0)) == 2014


@pytest.mark.parametrize(
    ("more", "recorded"),
    [
        ({"environment": {"PREFLIGHT": "off"}}, "preflight=off,by-user"),
        ({"environment": {"PREFLIGHT": "False"}}, "preflight=off,by-user"),
        ({"environment": {"PREFLIGHT": "0"}}, "preflight=off,by-user"),
        ({"extra": "mine preflight=off"}, "preflight=off,by-user"),
        ({"extra": "preflight=not-judged,timeout"}, "preflight=not-judged,timeout"),
        ({"comment": STAMP}, STAMP),
        ({"extra": f"mine {STAMP}"}, STAMP),
    ],
)
def test_who_is_let_off_is_on_record(guard, more, recorded):
    assert guard.submit(**job(**more)) == 0
    assert guard.job["admin_comment"] == recorded
    if "off" in recorded or "not-judged" in recorded:
        assert recorded in guard.logged[0]


def test_a_fault_of_the_guard_lets_the_job_pass(guard):
    assert guard.submit(**job(script=7)) == 0
    assert "guard failed" in guard.logged[0]


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (("--gpus=4",), {"tres_per_job": "gres/gpu:4"}),
        (("--gres=gpu:h100",), {"tres_per_node": "gres/gpu:h100"}),
        (("--gres=gpu",), {"tres_per_node": "gres/gpu"}),
        (("--gres=gpu:rtx4090",), {"tres_per_node": "gres/gpu:rtx4090"}),
        (("--gres=gpu:l40s:2,nvme:1,gpu:v100:1",),
         {"tres_per_node": "gres/gpu:l40s:2,gres/nvme:1,gres/gpu:v100:1"}),
        (("--gpus-per-task=h100:1",), {"tres_per_task": "gres/gpu:h100=1"}),
        (("--tres-per-task=cpu:2,gres/gpu:1",), {"tres_per_task": "cpu:2,gres/gpu:1"}),
        (("--gpus-per-node=2", "--gres=gpu:2"), {"tres_per_node": "gres/gpu:2,gres/gpu:2"}),
        (("--gpus-per-socket=2", "-p", "a,b"), {"tres_per_socket": "gres/gpu:2", "partition": "a,b"}),
        (("--exclusive",), {"shared": 0}),
        (("--gres=gres/gpu:a100:4", "-C", "a|b"), {"tres_per_node": "gres/gpu:a100:4", "features": "a|b"}),
    ],
)  # fmt: skip
def test_client_and_controller_read_the_same_options(guard, words, fields):
    """The fields are those that Slurm 24.11 gave its plugin for these words."""
    stamp = stamp_of(SCRIPT, options(*words, "job.sh"), "fits")

    assert (
        guard.submit(script=SCRIPT, argv={0: "x"}, **{"shared": UNSET, **fields}, extra=stamp) == 0
    )
    assert guard.said == []


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=500), st.sampled_from([1, 30, 400]))
def test_the_checksum_in_lua_is_that_of_zlib(tail, times):
    script = b"#!/bin/sh\ntorchrun x.py\n" + tail * times

    assert _ADLER(script.decode("latin-1")) == script_checksum(script)


def _checksum_function():
    text = controller(Path("/nonexistent")).rstrip().removesuffix("return slurm.SUCCESS")
    return LuaGuard(text + "checksum = script_checksum\n").lua.globals().checksum


_ADLER = _checksum_function()


def test_a_long_script_costs_no_more_than_its_two_ends():
    ends = "#!/bin/sh\n" + "x" * MOST_BYTES
    long, longer = ends + "y" * 1000 + ends, ends + "z" * 1000 + ends

    assert _ADLER(long) == script_checksum(long) == script_checksum(longer)
    assert script_checksum(long + "y") != script_checksum(long)
    assert script_checksum("a") == f"{zlib.adler32(b'a'):08x}"


def test_a_stamp_stands_behind_what_a_user_wrote_and_once():
    assert with_stamp(None, "preflight=1,a,b,c") == "preflight=1,a,b,c"
    assert with_stamp("mine", "preflight=1,a,b,c") == "mine preflight=1,a,b,c"
    assert with_stamp("mine preflight=1,x,y,z", "preflight=off") == "mine preflight=off"


def test_the_text_of_options_says_what_decides_the_gpus():
    assert options_text(options(*WORDS)) == "a100|gpu_mem:80gb|node:a100:8"
    assert (
        wrapped_script("true") == "#!/bin/sh\n# This script was created by sbatch --wrap.\n\ntrue\n"
    )


def test_who_moves_a_checked_job_to_other_gpus_is_told(guard):
    before = {"partition": "a100", "features": "gpu_mem:80gb", "extra": STAMP}

    assert guard.modify(before, partition="gpu") == 0
    assert "other GPUs" in guard.said[0]


@pytest.mark.parametrize(
    ("before", "uid", "change"),
    [
        ({"partition": "a100", "extra": STAMP}, 0, {"partition": "gpu"}),  # an admin
        ({"partition": "a100", "extra": STAMP}, 1000, {"comment": "x"}),
        ({"partition": "a100"}, 1000, {"partition": "gpu"}),
    ],
)
def test_other_changes_are_nobodys_business(guard, before, uid, change):
    assert guard.modify(before, uid, **change) == 0
    assert guard.said == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sites_own_file_is_asked_first(tmp_path, version):
    (tmp_path / "preflight.policy").write_text("require\n")
    own = tmp_path / "job_submit.site.lua"
    own.write_text(
        'function slurm_job_submit(job, parts, uid) asked = true; job.partition = "a100"'
        " if job.name == 'bad' then return 2013 end return slurm.SUCCESS end\n"
        "function slurm_job_modify(job, rec, parts, uid) return 2012 end\nreturn slurm.SUCCESS\n"
    )
    guard = LuaGuard(controller(tmp_path, SITE_FILE=f'"{own}"'), version)

    assert guard.submit(**job(name="bad", extra=STAMP)) == 2013
    assert guard.submit(**job(extra=STAMP, partition="cpu")) == 0, guard.said
    assert guard.modify({}) == 2012
    assert guard.lua.globals().asked is None  # its names stay its own


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sites_own_file_that_does_not_load_is_no_secret(tmp_path, version):
    own = tmp_path / "job_submit.site.lua"
    own.write_text("function (")

    with pytest.raises(Exception, match=r"job_submit\.site\.lua"):
        LuaGuard(controller(tmp_path, SITE_FILE=f'"{own}"'), version)


def test_the_controllers_guard_starts_no_process_and_opens_only_its_policy():
    text = (Path(__file__).parents[2] / "templates" / "slurm" / "job_submit.lua").read_text()
    code = re.sub(r"--[^\n]*", "", text)

    assert not re.search(r"\bos\.|popen|\brequire\s*\(|dofile", code)
    assert re.findall(r"io\.\w+\([^)]*\)", code) == ["io.open(POLICY_FILE)"]
    assert re.findall(r"loadfile\([^)]*\)", code) == [
        "loadfile(SITE_FILE)",
        'loadfile(SITE_FILE, "t", site)',
    ]


@pytest.mark.parametrize("way", ["file", "standard input"])
def test_a_script_longer_than_any_that_is_read_is_stamped_whole_and_let_in(
    guard, way, tmp_path, monkeypatch
):
    """A site may allow 512 MiB (max_script_size); a stamp of the part that was read would refuse the job."""
    from preflight.commands.guard_answer import answer

    script = SCRIPT + "# data\n" * 800_000
    (tmp_path / "job.sh").write_text(script)
    monkeypatch.setenv("PATH", "/nonexistent")  # no Slurm: the nodes are not known either
    said = {"partition": "a100", "constraint": "gpu_mem:80gb", "gres": "gpu:a100:8"}
    request = {
        "version": 1,
        "program": "sbatch",
        "options": {**said, "argv": [str(tmp_path / "job.sh")]},
    }
    if way == "standard input":
        request |= {"options": {**said, "argv": []}, "script": script}
    found = answer(json.dumps(request).encode(), {}, str(tmp_path))

    assert not found.is_refused
    assert found.stamp.startswith("preflight=1,unknown,")
    assert guard.submit(**job(script=script, extra=found.stamp)) == 0


def test_such_a_script_is_not_read_and_that_is_told():
    from preflight.slurm.guard import asked_of_nobody, judge_submission
    from preflight.slurm.job_script import Submission

    text = SCRIPT + "# data\n" * 800_000
    found = judge_submission(
        Submission("sbatch", (), options(*WORDS), "file", text), {}, asked_of_nobody()
    )

    assert (found.verdict, found.launches) == ("unknown", ())
    assert (
        found.problem == f"the script has {len(text):,} bytes, and no more than 4,194,304 are read"
    )
