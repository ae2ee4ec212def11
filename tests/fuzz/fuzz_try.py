"""Gives one fuzzed call to preflight's own `main` and says what is wrong with how it answered."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from fuzz_seeds import Seed
from reference_loop import loop_seconds

from preflight.cli import main

MOST_LOOPS = 90
"""What one call may take, in runs of the reference loop: three seconds where that was chosen, and the slowest hostile
input takes a third of it."""
SUSPECT_SECONDS = 0.2
"""Less than this is quick on any machine, and the loop is not run beside it."""
HANG_SECONDS = 120
"""By the clock: nobody waits for something that never comes, and a busy machine may take ten times as long."""
MEMORY_BYTES = 6 * 1024**3
GOOD_CODES = (0, 1, 2)


class Hangs(BaseException):
    """Raised from the alarm, past every `except Exception`."""


@dataclass(frozen=True)
class Failure:
    """A call that ended in a way that no input may cause."""

    kind: str
    """exception, exit code, slow, hang, touched, no message, no JSON."""
    about: str
    seed: Seed


def limit_memory() -> None:
    """Let this process fail instead of the machine."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def allowed_seconds(most_loops: int = MOST_LOOPS) -> float:
    """Return the seconds of this process that one call may take on this machine, as busy as it is now."""
    return loop_seconds() * most_loops


def tried(seed: Seed, folder: Path, most_loops: int = MOST_LOOPS) -> Failure | None:
    """Make the files in an empty folder, call preflight there, and return what went wrong."""
    words = [*seed.own, *(("--", *seed.launch) if seed.launch else ())]
    with contextlib.suppress(OSError, ValueError):
        _write(seed, folder)
    before = _state(folder)
    call = _called(words, folder, seed)
    failure = call.failure
    if failure is None and call.code not in GOOD_CODES:
        failure = ("exit code", f"{call.code}: {call.err[-500:]} {_traced(words, folder, seed)}")
    suspect = failure is None and call.seconds > SUSPECT_SECONDS
    if suspect and call.seconds > allowed_seconds(most_loops):
        # What is slow by itself is slow again; what an import or a neighbour cost once is not.
        spent, allowed = _called(words, folder, seed).seconds, allowed_seconds(most_loops)
        if spent > allowed:
            failure = ("slow", f"{spent:.1f} s, and {allowed:.1f} s are allowed")
    if (
        failure is None
        and call.code == 2
        and "preflight: " not in call.err
        and '"problems"' not in call.out
    ):
        failure = ("no message", call.err[-300:])
    if failure is None and call.code in (0, 1) and _asks_for_json(seed):
        failure = _json_failure(call.out)
    touched = _touched(before, _state(folder), seed)
    if failure is None and touched:
        failure = ("touched", ", ".join(touched))
    return None if failure is None else Failure(*failure, seed)


@dataclass(frozen=True)
class Call:
    """How preflight answered."""

    code: int | None
    out: str
    err: str
    seconds: float
    """Of this process; what others on the machine do counts only as far as it slows everybody."""
    failure: tuple[str, str] | None
    """Kind and text, where there is no answer."""


def _called(words: list[str], folder: Path, seed: Seed) -> Call:
    """Call preflight once in the folder."""
    out, err = io.StringIO(), io.StringIO()
    started = time.process_time()
    code: int | None = None
    failure: tuple[str, str] | None = None
    with _inside(folder, seed), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with _alarm():
                code = main(words)
        except Hangs as error:
            failure = ("hang", _last_frame(error))
        except BaseException as error:
            failure = ("exception", f"{type(error).__name__}: {error} {_last_frame(error)}")
    spent = time.process_time() - started
    return Call(code, out.getvalue(), err.getvalue(), spent, failure)


def _traced(words: list[str], folder: Path, seed: Seed) -> str:
    """Return where in preflight the same call fails."""
    err = io.StringIO()
    traced = replace(seed, env={**seed.env, "PREFLIGHT_TRACE": "1"})
    with (
        _inside(folder, traced),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(err),
    ):
        main(words)
    first = err.getvalue().partition("The above exception was the direct cause")[0]
    frames = re.findall(r'File ".*?/((?:preflight|hooks)/[^"]*)", line (\d+), in (\w+)', first)
    inner = [frame for frame in frames if "plugins.py" not in frame[0]]
    return " < ".join(f"{path}:{line} {name}" for path, line, name in reversed(inner[-3:]))


def _asks_for_json(seed: Seed) -> bool:
    own = seed.own[: seed.own.index("--")] if "--" in seed.own else seed.own
    wants = any(pair == ("--format", "json") for pair in pairwise(own))
    return wants and not {"--help", "-h", "--version"} & set(own)


def _json_failure(text: str) -> tuple[str, str] | None:
    try:
        json.loads(text)
    except ValueError as error:
        return ("no JSON", f"{error}: {text[:200]!r}")
    return None


def _write(seed: Seed, folder: Path) -> None:
    for name, data in seed.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every file and folder with its size and time of change."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def _touched(
    before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]], seed: Seed
) -> list[str]:
    names = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    if seed.own[:1] == ("fix",):  # which writes its copies there, and nothing else
        names = {name for name in names if name.split("/")[0] != ".preflight"}
    return sorted(names)


@contextlib.contextmanager
def _inside(folder: Path, seed: Seed) -> Iterator[None]:
    was, env = os.getcwd(), dict(os.environ)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "HOME": str(folder / "home"), "COLUMNS": "100"})
    for name, value in seed.env.items():
        with contextlib.suppress(ValueError):
            os.environ[name] = value
    try:
        yield
    finally:
        os.chdir(was)
        os.environ.clear()
        os.environ.update(env)


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hangs

    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def _last_frame(error: BaseException) -> str:
    import traceback

    frames = [f for f in traceback.extract_tb(error.__traceback__) if "preflight" in f.filename]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames[-3:])


def fresh(folder: Path) -> Path:
    """Return the folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / ".git").mkdir()  # the top of the repository: nothing above it is read
    return folder
