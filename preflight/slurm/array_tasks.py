"""The tasks of a job array: one script, which may launch something else in each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from preflight.lazy_pattern import lazy_pattern
from preflight.slurm.judged_launch import JudgedLaunch

MOST_TASKS = 10_000
"""Of an array that are told apart; Slurm's own MaxArraySize is 1,001 where nobody changes it."""
TASKS_READ = 32
"""Of an array: all of a short one, and as many of a long one."""
_TASKS = lazy_pattern(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?")


def array_tasks(asked: str) -> tuple[int, ...]:
    """Return the tasks of `--array=0-15:4,20%2`, in order; none where the words are not understood."""
    tasks: dict[int, None] = {}
    for part in asked.partition("%")[0].split(","):
        found = _TASKS.fullmatch(part.strip())
        if found is None:
            return ()
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        tasks.update(dict.fromkeys(range(first, last + 1, step or 1)[:MOST_TASKS]))
    return tuple(tasks)[:MOST_TASKS]


def tasks_read(tasks: Sequence[int]) -> tuple[int, ...]:
    """Return the tasks whose launches are read: of a long array as many as `TASKS_READ` and the last, spread over it."""
    step = -(-len(tasks) // TASKS_READ)
    return tuple(dict.fromkeys((*tasks[::step], *tasks[-1:]))) if tasks else ()


def unread_words(tasks: Sequence[int]) -> str:
    """Return how many tasks of an array are not read, in words; empty where all are."""
    unread = len(tasks) - len(tasks_read(tasks))
    return f"{unread} of the {len(tasks)} tasks of the array were not read" if unread else ""


def of_tasks(
    first: tuple[JudgedLaunch, ...],
    tasks: Sequence[int],
    judged_of: Callable[[int], tuple[JudgedLaunch, ...]],
) -> tuple[JudgedLaunch, ...]:
    """Return the launches of an array's tasks: those of the first alone where all that are read come to the same."""
    read, problem = tasks_read(tasks), unread_words(tasks)
    kinds: dict[object, tuple[JudgedLaunch, ...]] = {_comes_to(first): first}
    for task in (task for task in read if task != tasks[0]):
        launches = judged_of(task)
        known = tuple(replace(one, task=task) for one in launches)
        kinds.setdefault(_comes_to(launches), known)
    found = [one for launches in kinds.values() for one in launches]
    if len(kinds) > 1 and problem:
        unread = next(task for task in tasks if task not in read)
        found.append(replace(first[0], judgement=None, problem=problem, refused_by=(), task=unread))
    return tuple(found)


def _comes_to(launches: tuple[JudgedLaunch, ...]) -> object:
    """Return the answers and the bytes of launches: two that differ in a seed or a folder come to the same."""
    return tuple(
        (one.launch.origin, one.component, one.fit, one.problem, one.refused_by, *_bytes(one))
        for one in launches
    )


def _bytes(one: JudgedLaunch) -> Iterator[tuple[int, int, int]]:
    for judged in () if one.judgement is None else one.judgement.by_device.values():
        made = judged.estimate
        if made is not None and made.peaks:
            yield (
                made.device_peak_bytes,
                made.allocated_peak_bytes,
                made.host_peak_bytes_per_node,
            )
