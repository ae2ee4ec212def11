"""Starts the command line: the `preflight` script, and `python -m preflight`."""

from __future__ import annotations


def start() -> None:
    """Run one command as this process, and leave at once: the kernel takes back what a process holds sooner than Python
    takes it apart, which is a sixteenth of a check.

    Functions for the end are called, threads that still run are waited for, and whoever watches sees the end.
    """
    code = main()
    import atexit
    import os
    import sys

    threading = sys.modules.get("threading")
    is_alone = threading is None or threading.active_count() == 1
    if not is_alone or sys.getprofile() is not None or sys.gettrace() is not None:
        raise SystemExit(code)
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more
            continue
    os._exit(code)


def main() -> int:
    """Run one command as this process; return its exit code."""
    # A process of a twentieth of a second ends before garbage matters. Collecting it, in the
    # imports, on the way and at the end once more, would take a sixth of that.
    import atexit
    import gc

    gc.disable()
    atexit.register(gc.freeze)
    leave_out_working_folder()
    from preflight.cli import main as run

    return run()


def leave_out_working_folder() -> None:
    """Take the folder of the launch off `sys.path`, where preflight does not lie in it.

    `python -m` puts it in front, an empty entry of PYTHONPATH means it, and a `yaml.py` there would run.
    """
    import os
    import sys

    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # deleted, and what is relative to it is nowhere
        sys.path[:] = filter(os.path.isabs, sys.path)
        return
    if here != home:
        sys.path[:] = [path for path in sys.path if path and os.path.realpath(path) != here]


if __name__ == "__main__":
    start()
