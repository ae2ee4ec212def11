"""A file is written whole or not at all, with the permissions that it should have, and no draft stays."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from preflight.commands.output import write_asked
from preflight.errors import BadInput
from preflight.whole_file import write_whole


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def mask():
    """Return a function that sets the umask for the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(
    ("data", "held"),
    [("é\r\n", "é\r\n".encode()), (b"\0\xff", b"\0\xff"), ("a\udcff", b"a\xff"), ("", b"")],
)
def test_bytes_and_text_are_written_as_they_are(data, held, tmp_path):
    write_whole(str(tmp_path / "f"), data)

    assert (tmp_path / "f").read_bytes() == held
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_is_left_to_the_umask(umask, mode, tmp_path, mask):
    mask(umask)
    write_whole(str(tmp_path / "f"), "a")

    assert mode_of(tmp_path / "f") == mode


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mask):
    (tmp_path / "f").write_text("before")
    (tmp_path / "f").chmod(0o640)
    mask(0o077)
    write_whole(str(tmp_path / "f"), "after")

    assert ((tmp_path / "f").read_text(), mode_of(tmp_path / "f")) == ("after", 0o640)


def test_a_mode_that_is_asked_for_is_given_whatever_the_umask(tmp_path, mask):
    mask(0o077)
    write_whole(str(tmp_path / "f"), "a", mode=0o755)

    assert mode_of(tmp_path / "f") == 0o755


def test_a_rename_that_fails_leaves_no_draft(tmp_path):
    (tmp_path / "f").mkdir()

    with pytest.raises(IsADirectoryError):
        write_whole(str(tmp_path / "f"), "a")
    assert os.listdir(tmp_path) == ["f"]


def test_whatever_stops_the_naming_the_old_file_stays_and_no_draft(tmp_path):
    (tmp_path / "f").write_text("before")

    def interrupted(draft: str, path: str) -> None:
        assert Path(draft).read_text() == "after"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(str(tmp_path / "f"), "after", give_name=interrupted)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"f": "before"}


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(str(tmp_path / "gone" / "f"), "a")


def test_the_longest_name_is_written(tmp_path):
    name = "é" * 127
    write_whole(str(tmp_path / name), "a")

    assert os.listdir(tmp_path) == [name]


def test_what_an_option_names_is_written_behind_a_link_and_a_failure_names_the_option(tmp_path):
    (tmp_path / "real.svg").write_text("before")
    (tmp_path / "latest.svg").symlink_to("real.svg")
    write_asked(str(tmp_path / "latest.svg"), "after", "--plot")

    assert (tmp_path / "latest.svg").is_symlink()
    assert (tmp_path / "real.svg").read_text() == "after"
    with pytest.raises(BadInput, match=r"cannot be written: No such file(?s:.)*--plot"):
        write_asked(str(tmp_path / "gone" / "a.svg"), "a", "--plot")
