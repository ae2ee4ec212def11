"""Checks launches one after the other in this process, as the command line does, and keeps what each was answered."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from preflight.cli import main as preflight

from .extraction import Launch

OBJECTS_BETWEEN_COLLECTIONS = 8_000
"""Trees of scripts are many objects: collected as often as by default they would take a seventh of a sweep."""


class Answered(NamedTuple):
    """What `check` said of one launch."""

    launch: Launch
    exit_code: int
    answer: dict[str, Any]
    """The JSON document; empty where there was none."""
    stderr: str
    seconds: float

    @property
    def outcome(self) -> str:
        """The verdict, or the exit code where there is none."""
        verdict = self.answer.get("verdict")
        if self.exit_code in (0, 1) and verdict is not None:
            return str(verdict["answer"] if isinstance(verdict, dict) else verdict)
        return f"exit {self.exit_code}"

    @property
    def launcher(self) -> str:
        """The launcher that was read, else the first word of the command."""
        launcher = self.answer.get("plan", {}).get("launcher")
        return str(launcher or os.path.basename(self.launch.argv[0]))

    @property
    def errors(self) -> list[dict[str, Any]]:
        """What is called an error, in its findings or as the reason why there is no answer."""
        found = [
            *self.answer.get("error", {}).get("problems", []),
            *self.answer.get("findings", []),
        ]
        return [problem for problem in found if problem.get("severity", "error") == "error"]


def answers_to(
    launches: Iterable[Launch], device: str, options: Iterable[str] = ()
) -> Iterator[Answered]:
    """Yield what `check` says of each launch, started where its files are, with its own variables alone."""
    kept = dict(os.environ)
    plain: dict[str, str] = {name: kept[name] for name in ("PATH", "HOME", "LANG") if name in kept}
    thresholds = gc.get_threshold()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *thresholds[1:])
    said = ("check", "--format", "json", "--device", device, *options, "--")
    try:
        for launch in launches:
            os.chdir(launch.folder)
            os.environ.clear()
            os.environ.update(plain | {"HF_HUB_OFFLINE": "1"} | launch.env)
            out, err = io.StringIO(), io.StringIO()
            start = time.perf_counter()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = preflight([*said, *launch.argv])
            text = out.getvalue()
            answer = json.loads(text) if text.startswith("{") else {}
            yield Answered(launch, code, answer, err.getvalue(), time.perf_counter() - start)
    finally:
        gc.set_threshold(*thresholds)
        os.environ.clear()
        os.environ.update(kept)
