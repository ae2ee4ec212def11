"""Slurm's commands run beside ours: started, left to themselves, and listened to until a deadline.

The standard library's subprocess would do, and takes a tenth of a guard's whole time to import.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping, Sequence

F_SETPIPE_SZ = 1031
"""<linux/fcntl.h>; so that a command need not wait for us to read what it says."""
PIPE_BYTES = 1 << 20
"""What any user may ask for (/proc/sys/fs/pipe-max-size)."""


class Running:
    """A command that was started; nothing is known of one that could not be."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._pid, self._reader = 0, -1
        reader, writer = os.pipe()
        try:
            import fcntl

            fcntl.fcntl(reader, F_SETPIPE_SZ, PIPE_BYTES)
        except (ImportError, OSError):
            pass  # the usual size does, only slower
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writer, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        try:
            self._pid = os.posix_spawnp(
                words[0], [*words], os.environ if env is None else env, file_actions=actions
            )
            self._reader = reader
        except OSError:
            os.close(reader)
        finally:
            os.close(writer)

    def answer(self, deadline: float) -> str:
        """Return what a command says; nothing where it fails or is not done at a time of `time.monotonic`."""
        if not self._pid:
            return ""
        parts: list[bytes] = []
        is_done = False
        try:
            while not is_done:
                left = max(0.1, deadline - time.monotonic())
                if not select.select([self._reader], [], [], left)[0]:
                    os.kill(self._pid, signal.SIGKILL)
                    break
                parts.append(os.read(self._reader, PIPE_BYTES))
                is_done = not parts[-1]
        finally:
            os.close(self._reader)
            _, status = os.waitpid(self._pid, 0)
            self._pid = 0
        if not is_done or os.waitstatus_to_exitcode(status) != 0:
            return ""
        return b"".join(parts).decode("utf-8", "replace")
