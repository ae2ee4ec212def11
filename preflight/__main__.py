"""Starts the command line: the `preflight` script, and `python -m preflight`."""

from __future__ import annotations


def main() -> int:
    """Run one command as this process; return its exit code."""
    # A process of a twentieth of a second ends before garbage matters. Collecting it, in the
    # imports, on the way and at the end once more, would take a sixth of that.
    import atexit
    import gc

    gc.disable()
    atexit.register(gc.freeze)
    from preflight.cli import main as run

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
