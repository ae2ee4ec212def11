"""Copies of a rewrite are written whole or not at all."""

from __future__ import annotations

import os

import pytest

from preflight.errors import BadInput
from preflight.rewrite import Rewrite, RewrittenFile, save_rewrite


def rewrite_of(folder, **texts):
    files = tuple(
        RewrittenFile(f"{name}.yaml", str(folder / ".preflight" / f"{name}.yaml"), "a: 1\r\n", text)
        for name, text in texts.items()
    )
    return Rewrite(("accelerate", "launch"), files)


def test_copies_are_written_with_their_line_ends_beside_a_gitignore(tmp_path):
    save_rewrite(rewrite_of(tmp_path, f="a: 2\r\n", g="é: 1\n"))

    assert (tmp_path / ".preflight/f.yaml").read_bytes() == b"a: 2\r\n"
    assert (tmp_path / ".preflight/g.yaml").read_bytes() == "é: 1\n".encode()
    assert (tmp_path / ".preflight/.gitignore").read_text() == "*\n"
    assert sorted(os.listdir(tmp_path / ".preflight")) == [".gitignore", "f.yaml", "g.yaml"]


def test_a_copy_can_be_read_by_whom_the_umask_allows(tmp_path):
    mask = os.umask(0o027)
    try:
        save_rewrite(rewrite_of(tmp_path, f="a: 2\n"))
    finally:
        os.umask(mask)

    assert (tmp_path / ".preflight/f.yaml").stat().st_mode & 0o777 == 0o640


def test_a_rewrite_without_files_leaves_nothing(tmp_path):
    save_rewrite(rewrite_of(tmp_path))

    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_is_there_already_is_put_in_place_again(tmp_path):
    save_rewrite(rewrite_of(tmp_path, f="a: 2\n"))
    save_rewrite(rewrite_of(tmp_path, f="a: 2\n"))

    assert (tmp_path / ".preflight/f.yaml").read_text() == "a: 2\n"
    assert sorted(os.listdir(tmp_path / ".preflight")) == [".gitignore", "f.yaml"]


def test_a_copy_of_another_launch_is_not_taken_from_under_it(tmp_path):
    """The writer picks a free name; only a launch written at the same moment can be in the way."""
    save_rewrite(rewrite_of(tmp_path, f="a: 2\n"))

    with pytest.raises(BadInput, match="another launch just now"):
        save_rewrite(rewrite_of(tmp_path, f="a: 3\n"))
    assert (tmp_path / ".preflight/f.yaml").read_text() == "a: 2\n"
    assert sorted(os.listdir(tmp_path / ".preflight")) == [".gitignore", "f.yaml"]


def test_a_linked_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".preflight").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(BadInput, match="symbolic link"):
        save_rewrite(rewrite_of(tmp_path, f="a: 2\n"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / ".preflight").write_text("a file in the way")

    with pytest.raises(BadInput, match=r"cannot write(?s:.)*move it away"):
        save_rewrite(rewrite_of(tmp_path, f="a: 2\n"))


def test_a_copy_that_cannot_be_put_in_place_leaves_no_half(tmp_path):
    (tmp_path / ".preflight" / "f.yaml").mkdir(parents=True)

    with pytest.raises(BadInput, match="cannot write"):
        save_rewrite(rewrite_of(tmp_path, f="a: 2\n"))
    assert os.listdir(tmp_path / ".preflight") == ["f.yaml"]
