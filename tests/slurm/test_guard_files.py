"""The guard put in place and taken away: nothing of a site is lost, and at no moment is a file missing or broken."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from json_schemas import problems

from preflight.cli import main
from preflight.slurm import lua_syntax
from preflight.slurm.guard_files import PARTS, replace_file, state
from preflight.slurm.lua_syntax import NoLua, syntax_problem
from preflight.slurm.stamping import option_for

SITE = {
    "client": "function slurm_cli_pre_submit(o, off) return slurm.SUCCESS end -- ours\n",
    "controller": "function slurm_job_submit(d, p, uid) return slurm.SUCCESS end -- ours\n",
}


def told(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["slurm", *words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("part", PARTS)
def test_what_was_installed_loads_and_goes_away_again(tmp_path, capsys, part):
    path = tmp_path / PARTS[part].file
    installed = told(capsys, "install", f"--{part}", str(tmp_path))
    text = path.read_text()
    found = state(part, str(tmp_path))
    (tmp_path / "slurm.conf").write_text("ClusterName=x\n")
    removed = told(capsys, "uninstall", f"--{part}", str(tmp_path))

    assert installed[0] == removed[0] == 0
    assert "next: " + PARTS[part].setting in installed[1]
    assert found.is_ours and found.problem == ""
    assert "@" not in text.split("local LAUNCHES")[0]
    assert not path.exists()


@pytest.mark.parametrize("part", PARTS)
def test_a_file_that_slurm_asks_for_stays_and_lets_all_pass(tmp_path, capsys, part):
    setting = f"{PARTS[part].setting.upper()} = {PARTS[part].value},other # x\n"
    (tmp_path / "slurm.conf").write_text(setting)
    told(capsys, "install", f"--{part}", str(tmp_path))
    code, out, _ = told(capsys, "uninstall", f"--{part}", str(tmp_path))
    found = state(part, str(tmp_path))

    assert code == 0 and "lets everything pass" in out
    assert (found.is_there, found.is_ours, found.is_switched_on) == (True, False, True)
    assert syntax_problem((tmp_path / PARTS[part].file).read_text()) is None
    assert told(capsys, "install", f"--{part}", str(tmp_path))[0] == 0


@pytest.mark.parametrize("part", PARTS)
def test_a_sites_own_file_is_refused_and_kept(tmp_path, capsys, part):
    path = tmp_path / PARTS[part].file
    path.write_text(SITE[part])
    code, _, err = told(capsys, "install", f"--{part}", str(tmp_path))
    uninstalled = told(capsys, "uninstall", f"--{part}", str(tmp_path))

    assert code == uninstalled[0] == 2
    assert "the site's own" in err and "--chain" in err
    assert path.read_text() == SITE[part]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("part", PARTS)
def test_a_sites_own_file_can_be_chained_and_comes_back_as_it_was(tmp_path, capsys, part):
    path = tmp_path / PARTS[part].file
    kept = path.with_suffix("").with_suffix(".site.lua")
    path.write_text(SITE[part])
    path.chmod(0o640)
    first = told(capsys, "install", f"--{part}", str(tmp_path), "--chain")
    again = told(capsys, "install", f"--{part}", str(tmp_path))
    chained = state(part, str(tmp_path))
    kept_text = kept.read_text()
    back = told(capsys, "uninstall", f"--{part}", str(tmp_path))

    assert first[0] == again[0] == back[0] == 0
    assert chained.is_chained and kept_text == SITE[part]
    assert str(kept) in path.read_text() or path.read_text() == SITE[part]
    assert path.read_text() == SITE[part] and not kept.exists()


def test_a_sites_own_file_that_does_not_compile_is_not_chained(tmp_path, capsys):
    path = tmp_path / "job_submit.lua"
    path.write_text("function (")
    code, _, err = told(capsys, "install", "--controller", str(tmp_path), "--chain")

    assert code == 2 and "does not compile" in err
    assert [p.name for p in tmp_path.iterdir()] == ["job_submit.lua"]


def test_without_lua_nothing_is_written(tmp_path, capsys, monkeypatch):
    def ask(text: str) -> None:
        raise NoLua("none")

    for name in ("_ask_luac", "_ask_lupa", "_ask_library"):
        monkeypatch.setattr(lua_syntax, name, ask)
    code, _, err = told(capsys, "install", "--controller", str(tmp_path))

    assert code == 2 and "lupa" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ask", ["_ask_lupa", "_ask_library"])
@pytest.mark.parametrize(("text", "is_good"), [("return 1\n", True), ("function (", False)])
def test_each_reader_of_lua_tells_good_from_bad(cluster_of_session, ask, text, is_good):
    """The cluster is asked for because Slurm's packages bring the Lua library."""
    assert (getattr(lua_syntax, ask)(text) is None) is is_good


def test_luac_is_asked_where_it_is_there(tmp_path, monkeypatch):
    fake = tmp_path / "luac5.1"
    fake.write_text("#!/bin/sh\ngrep -q good || { echo 'luac: stdin:1: bad' >&2; exit 1; }\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert syntax_problem("good") is None
    assert syntax_problem("bad") == "luac: stdin:1: bad"


def test_the_policy_is_warn_at_first_and_stays_what_it_is(tmp_path, capsys):
    path = tmp_path / "preflight.policy"
    words = ("install", "--controller", str(tmp_path))
    read = []
    for more in ((), ("--policy", "require"), (), ("--policy", "off")):
        told(capsys, *words, *more)
        read.append(path.read_text())

    assert read == ["warn\n", "require\n", "require\n", "off\n"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("install",), "which half"),
        (("install", "--client", "DIR/missing"), "there is no folder"),
        (("install", "--client", "DIR", "--timeout", "0"), "--timeout"),
        (("install", "--client", "DIR", "--python", "/nonexistent"), "cannot run the check"),
        (("instal",), "no word"),
        (("--format", "json"), "needs a word"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(tmp_path, capsys, words, complaint):
    code, out, err = told(capsys, *(word.replace("DIR", str(tmp_path)) for word in words))

    assert code == 2
    assert complaint in err + out
    assert list(tmp_path.iterdir()) == []


def test_status_tells_a_file_that_slurm_would_stumble_over(tmp_path, capsys):
    def status() -> tuple[int, dict]:
        code, out, _ = told(capsys, "status", "--dir", str(tmp_path), "--format", "json")
        return code, json.loads(out)

    empty = status()
    told(capsys, "install", "--client", str(tmp_path), "--controller", str(tmp_path))
    whole = status()
    (tmp_path / "job_submit.lua").write_text("-- preflight: x\nfunction (")
    broken = status()
    (tmp_path / "job_submit.lua").unlink()
    (tmp_path / "slurm.conf").write_text("JobSubmitPlugins=job_submit/lua\n")
    missing = status()

    for _, said in (empty, whole, broken, missing):
        assert problems("slurm-status.json", said) == []
    assert [code for code, _ in (empty, whole, broken, missing)] == [0, 0, 1, 1]
    assert whole[1]["helper"]["problem"] == ""
    assert broken[1]["parts"][1]["problem"]
    assert missing[1]["parts"][1] == {
        **missing[1]["parts"][1],
        "is_there": False,
        "is_switched_on": True,
    }


def test_a_sites_own_file_that_changed_unseen_is_told(tmp_path, capsys):
    (tmp_path / "job_submit.lua").write_text(SITE["controller"])
    told(capsys, "install", "--controller", str(tmp_path), "--chain")
    whole = told(capsys, "status", "--dir", str(tmp_path))
    later = (tmp_path / "job_submit.lua").stat().st_mtime + 10
    os.utime(tmp_path / "job_submit.site.lua", (later, later))
    stale = told(capsys, "status", "--dir", str(tmp_path))

    assert (whole[0], stale[0]) == (0, 1)
    assert "has not seen that" in stale[1]


@pytest.mark.parametrize(
    ("facts", "option"),
    [
        ({}, "extra"),
        ({"SLURM_VERSION": "24.11.5"}, "extra"),
        ({"SLURM_VERSION": "22.05.9"}, "comment"),
        (
            {"SLURM_VERSION": "24.11.5", "SchedulerParameters": "bf_max=3,extra_constraints"},
            "comment",
        ),
    ],
)
def test_the_stamp_stands_where_slurm_leaves_it_alone(facts, option):
    assert option_for(facts) == option


def test_a_helper_that_is_gone_shows_in_the_status(tmp_path, capsys):
    told(capsys, "install", "--client", str(tmp_path))
    path = tmp_path / "cli_filter.lua"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(
        "".join(
            'local HELPER = "/nonexistent/python -I"\n' if "local HELPER" in line else line
            for line in lines
        )
    )
    code, out, _ = told(capsys, "status", "--dir", str(tmp_path))

    assert code == 1
    assert "helper      fails: " in out and "/nonexistent/python" in out


def test_a_file_is_replaced_whole_with_a_time_that_slurmctld_sees(tmp_path):
    path = tmp_path / "x.lua"
    replace_file(str(path), "one")
    before = int(path.stat().st_mtime)
    replace_file(str(path), "two")

    assert path.read_text() == "two"
    assert int(path.stat().st_mtime) > before
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in Path(tmp_path).iterdir()] == ["x.lua"]


@pytest.mark.parametrize(
    "name", ["cli_filter.lua", "job_submit.lua", "preflight.policy", "slurm.conf"]
)
def test_a_pipe_in_the_folder_of_slurm_hangs_nothing(tmp_path, capsys, name):
    os.mkfifo(tmp_path / name)

    for words in (
        ("status", "--dir", str(tmp_path)),
        ("install", "--client", str(tmp_path), "--controller", str(tmp_path)),
        ("uninstall", "--client", str(tmp_path), "--controller", str(tmp_path)),
    ):
        code, _, err = told(capsys, *words)
        assert code in (0, 1, 2) and "bug" not in err, (words, err)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_a_file_of_bytes_that_are_no_text_is_said_not_to_load(tmp_path, capsys):
    (tmp_path / "cli_filter.lua").write_bytes(b"\xff\xfe(\0(\0")
    code, out, err = told(capsys, "status", "--dir", str(tmp_path))

    assert code == 1 and "it does not load" in " ".join(out.split()), err
