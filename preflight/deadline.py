"""Code of somebody else under a clock: it answers in time, or we go on without it.

It runs in a thread of its own, because that is the one thing that works in whatever thread of whatever process asks: an
alarm needs the main thread, and is lost on code that swallows exceptions or waits in C.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Answer = TypeVar("Answer")


class TimeUp(Exception):
    """The code gave no answer in time."""


def call_within(seconds: float, function: Callable[[], Answer]) -> Answer:
    """Return what a function returns, or raise what it raises; raise TimeUp where it does neither in time.

    It is asked to end then, which a loop of Python does; whoever waits in C is left behind, and ends with the process.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(function())
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=work, daemon=True, name="preflight plugin")
    worker.start()
    worker.join(seconds)
    if answers:
        return answers[0]
    if errors:
        raise errors[0]
    _end(worker)
    raise TimeUp


def _end(worker: threading.Thread) -> None:
    with suppress(ImportError):  # a Python built without ctypes
        import ctypes

        number = ctypes.c_ulong(worker.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(SystemExit))
