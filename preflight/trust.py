"""Whose files are obeyed: those of the caller and of root, where nobody else may write them.

    text = read_trusted(path)      # raises NotTrusted, or OSError where there is no such file

Code and settings are taken from such files only, as git does with repositories of other users. A file is opened in
the folder that was looked at and read through the descriptor that was looked at, so that nobody can put another in
its place in between. Little is imported: every launcher process of an environment with preflight comes by here.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

VARIABLE = "PREFLIGHT_TRUST"
"""Folders, separated as in PATH, whose files are obeyed whoever may write them, those of folders below among them."""
MOST_BYTES = 1024**2
"""Of a file with code or settings; a hundredth of it is usual, and TOML takes a second to read as many."""
MOST_LINKS = 8
ROOT = 0
ACCESS_LIST = "system.posix_acl_access"

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotTrusted(Exception):
    """A file that is there and is left alone, because somebody else may have a hand in it."""

    def __init__(self, path: str, reason: str, folder: str) -> None:
        self.path, self.reason, self.folder = path, reason, folder
        super().__init__(path, reason)

    def __str__(self) -> str:
        """Return what is left alone, why, and what would change that."""
        own_list = list_path().replace(os.path.expanduser("~"), "~", 1)
        return (
            f"{self.path} is left alone: {self.reason};"
            f" {VARIABLE}={self.folder}, or a line {self.folder} in {own_list}, trusts it"
        )

    def of(self, path: str) -> NotTrusted:
        """Return the same about another file, which stands where this was found."""
        return NotTrusted(path, self.reason, self.folder)


def why_not(status: os.stat_result, path: str) -> str:
    """Return why a file or folder is not the caller's or root's alone; nothing where it is.

    Being root is no exception: to root, what a user owns is a stranger's, whoever called sudo.
    """
    if status.st_uid not in (os.geteuid(), ROOT):
        return f"{path} belongs to {_user_name(status.st_uid)}"
    if stat.S_ISLNK(status.st_mode):
        return ""  # a link's mode says nothing; who made it decides where it leads
    if status.st_mode & stat.S_IWOTH:
        return f"everybody may write {path}"
    if status.st_mode & stat.S_IWGRP and not _has_group_of_its_own(status, path):
        return f"all of group {_group_name(status.st_gid)} may write {path}"
    return ""


def folder_distrust(folder: str) -> NotTrusted | None:
    """Return why no file of a folder is obeyed; None where its files may be, or it is not there."""
    try:
        reason = why_not(os.stat(folder), folder)
    except OSError:
        return None
    return NotTrusted(folder, reason, folder) if reason and not is_named(folder) else None


def make_folder(folder: str) -> None:
    """Make a folder that the caller alone may write, or find it so; raise NotTrusted, or OSError.

    One of the caller's that others may write, as a umask of 002 makes it, is closed to them.
    """
    os.makedirs(folder, 0o755, exist_ok=True)
    status = os.stat(folder)
    if status.st_uid == os.geteuid() and why_not(status, folder) and not is_named(folder):
        os.chmod(folder, stat.S_IMODE(status.st_mode) & ~0o022)
    distrust = folder_distrust(folder)
    if distrust is not None:
        raise distrust


def read_trusted(path: str) -> bytes:
    """Return what a file holds; raise as open_trusted does, and OSError for one that is too long."""
    with open(open_trusted(path), "rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        if num_bytes > MOST_BYTES:
            raise OSError(errno.EFBIG, f"has {num_bytes:,} bytes, {MOST_BYTES:,} at most", path)
        return file.read(MOST_BYTES)


def open_trusted(path: str) -> int:
    """Return a descriptor that reads a regular file; links are followed through folders that are trusted too.

    Raises NotTrusted where the file, its folder, or a link to it is not the caller's or root's
    alone, and OSError where there is no regular file.
    """
    return _opened(path, is_named)


def is_named(folder: str) -> bool:
    """Tell whether the caller trusts a folder or one above it, by PREFLIGHT_TRUST or the list in the own settings."""
    real = os.path.realpath(folder)
    for words in (*os.environ.get(VARIABLE, "").split(os.pathsep), *_listed()):
        trusted = os.path.expanduser(words)
        if os.path.isabs(trusted):
            trusted = os.path.realpath(trusted)
            if os.path.commonpath((real, trusted)) == trusted:
                return True
    return False


def list_path() -> str:
    """Return the file in which a user lists folders to trust, one a line."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "preflight", "trust")


def _listed() -> list[str]:
    try:
        with open(_opened(list_path(), lambda folder: False), "rb") as file:
            lines = os.fsdecode(file.read(MOST_BYTES)).splitlines()
    except (OSError, NotTrusted):
        return []  # most have none; one that others may write trusts nobody
    return [line.strip() for line in lines]


def _opened(path: str, is_excepted: Callable[[str], bool]) -> int:
    at = os.path.abspath(path)
    for _ in range(MOST_LINKS):
        folder, name = os.path.split(at)
        place = os.open(folder, _FOLDER)
        try:
            status = os.stat(name, dir_fd=place, follow_symlinks=False)
            is_link = stat.S_ISLNK(status.st_mode)
            if not is_link and not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "is no regular file", path)
            reason = why_not(os.fstat(place), folder) or why_not(status, at)
            if reason and not is_excepted(folder):
                raise NotTrusted(path, reason, folder)
            if not is_link:
                return _same(os.open(name, _FILE, dir_fd=place), status, path)
            at = os.path.join(folder, os.readlink(name, dir_fd=place))
        finally:
            os.close(place)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _same(file: int, status: os.stat_result, path: str) -> int:
    """Return a descriptor if it is of the file that was looked at, with its rights of then."""
    now = os.fstat(file)
    if (now.st_dev, now.st_ino, now.st_uid, now.st_mode) == (
        status.st_dev,
        status.st_ino,
        status.st_uid,
        status.st_mode,
    ):
        return file
    os.close(file)
    raise OSError(errno.ESTALE, "changed while it was opened", path)


def _has_group_of_its_own(status: os.stat_result, path: str) -> bool:
    """Tell whether only the owner is in the group that may write: distributions with umask 002 give each user one.

    It has the owner's name, is the owner's first group and lists nobody else. With an access list,
    the bits of the group stand for everybody on it.
    """
    import grp
    import pwd

    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    is_own = group.gr_name == owner.pw_name and group.gr_gid == owner.pw_gid
    if not is_own or set(group.gr_mem) - {owner.pw_name}:
        return False
    try:
        os.getxattr(path, ACCESS_LIST)
    except (OSError, AttributeError):
        return True  # no list, or a system without any
    return False


def _user_name(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _group_name(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
