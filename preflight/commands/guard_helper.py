"""What the client's guard runs for a submission: `python -I -m preflight.commands.guard_helper [--warn-only] REQUEST`.

cli_filter.lua writes the request and reads the answer. Standard output is for it: `stamp=...`, or `refuse` with
exit code 3; standard error is for the user. Any other exit code is a failure of ours, and the job passes.
"""

from __future__ import annotations

import os
import sys

from preflight.printable import text_of
from preflight.streams import say

REFUSED = 3
FAILED = 70
TURN = 9
"""The descriptor whose lock is our turn in the user's queue (cli_filter.lua); it ends with us."""


def main(args: list[str]) -> int:
    """Answer one request; never raise, and never say `refuse` for a failure."""
    try:
        if args[-1:] == ["--version"]:
            import importlib

            from preflight.version import __version__

            importlib.import_module("preflight.commands.guard_answer")  # what a request needs
            say(f"preflight {__version__}\n", sys.stdout)
            return 0
        warn_only = args[:1] == ["--warn-only"]
        with open(args[-1], "rb") as file:
            request = file.read()
        from preflight.commands.guard_answer import answer

        found = answer(request, os.environ, os.getcwd(), warn_only)
    except BaseException as error:
        _say([f"preflight: {type(error).__name__}: {error}"])
        return FAILED
    _say(found.lines)
    if found.is_refused:
        say("refuse\n", sys.stdout)
        return REFUSED
    if found.stamp:
        say(f"stamp={found.stamp}\n", sys.stdout)
    return 0


def _say(lines: list[str] | tuple[str, ...]) -> None:
    if lines:
        say(text_of(lines) + "\n")


if __name__ == "__main__":
    import atexit
    import contextlib
    import gc

    with contextlib.suppress(OSError):  # nobody waited, and there is none
        os.set_inheritable(TURN, False)  # what we start, and may leave behind, does not hold it
    gc.disable()  # a process of a twentieth of a second ends before garbage matters
    atexit.register(gc.freeze)
    raise SystemExit(main(sys.argv[1:]))
