"""Confining this process for good: Landlock for files and programs, seccomp for everything else.

Source: Documentation/userspace-api/landlock.rst and seccomp_filter.rst of Linux 6.17; `<linux/landlock.h>`.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
READ = READ_FILE | READ_DIR
WRITE = WRITE_FILE | _REMOVE_AND_MAKE | _REFER | _TRUNCATE
_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP = 0b11
"""LANDLOCK_ACCESS_NET_BIND_TCP and CONNECT_TCP."""
_SCOPES = 0b11
"""LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and SIGNAL."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2

Rule = tuple[str, int]
"""A path, and what may be done with it and all below it."""


class NoLandlock(Exception):
    """This kernel has no Landlock, or it is switched off."""


def landlock_version() -> int:
    """Return the version of the kernel's Landlock; 0 without one."""
    try:
        return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))
    except OSError:
        return 0


def confine(rules: Iterable[Rule], program: bytes) -> None:
    """Confine this process and all that it starts; raise OSError or NoLandlock where that fails.

    Call it in a child that then becomes another program: there is no way back.
    """
    version = landlock_version()
    if version < 1:
        raise NoLandlock
    handled = EXECUTE | READ | WRITE
    handled &= ~((0 if version >= 2 else _REFER) | (0 if version >= 3 else _TRUNCATE))
    handled |= _IOCTL_DEV if version >= 5 else 0
    attributes = struct.pack(
        "=QQQ", handled, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0
    )
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    libc = _libc()
    ruleset = _called(libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0))
    for path, access in rules:
        _add(libc, ruleset, path, access & handled)
    _called(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _called(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    _filter(libc, program)


def _add(libc: ctypes.CDLL, ruleset: int, path: str, access: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no right
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            access &= _OF_A_FILE
        rule = struct.pack("=Qi", access, opened)
        _called(libc.syscall(_ADD_RULE, ruleset, 1, rule, 0))
    finally:
        os.close(opened)


def _filter(libc: ctypes.CDLL, program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ushort),
            ("steps", ctypes.c_char_p),
        ]

    whole = Program(len(program) // 8, program)
    _called(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(whole), 0, 0))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _called(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
