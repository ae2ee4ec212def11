"""A job script read from its text: followed to its end, and what it launches written down."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from preflight.shell.grammar.parser import parse
from preflight.shell.grammar.syntax import CannotRead
from preflight.shell.grammar.text import TooManySteps, known, not_known
from preflight.shell.meaning.files import Files
from preflight.shell.meaning.running import OUTPUT, Leave
from preflight.shell.meaning.state import World, state_of
from preflight.shell.reader import Reader
from preflight.slurm.script_launches import LaunchFinder
from preflight.slurm.scripted_launch import ScriptReading


def read_script(
    text: str,
    name: str,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: str = ".",
    nodes: Sequence[str] = ("node-1",),
    called: str | None = None,
) -> ScriptReading:
    """Return what a script launches, from its text; a reading without launches says why.

    `called` is the path by which a shell is given it, its `$0`; of a job it is that of Slurm's copy, which nobody knows.
    """
    try:
        tree = parse(known(text))
    except CannotRead as error:
        return ScriptReading("nothing", reasons=(f"{name}: not read beyond {error}",))
    reasons: tuple[str, ...] = ()
    for goes_on in (False, True):
        # The second time past every `exit`: a folder that is missing here may be there for the job.
        world = World(Files(opens=True), nodes=nodes)
        own = not_known("$0") if called is None else known(called)
        state = state_of(world, env or {}, arguments, os.path.abspath(cwd), own)
        finder = LaunchFinder(name)
        reader = Reader(state, finder.start, goes_on)
        try:
            reader.follow(tree)
        except Leave:
            pass
        except TooManySteps:
            reasons = (f"{name}: more steps than are followed",)
        except (CannotRead, RecursionError) as error:
            reasons = (f"{name}: not read beyond {error}",)
        if finder.launches or reasons:
            break
    launches = tuple(finder.launches)
    if not launches and not reasons:
        reasons = ("the text names no launcher that preflight knows",)
    how = "static" if launches else "nothing"
    return ScriptReading(how, launches, _texts(world.files), reasons)


def _texts(files: Files) -> dict[str, str]:
    """Return the texts that the script writes, with what is not known in them as it is written."""
    return {
        path: text.shown
        for path, text in files.written.items()
        if path not in files.pipes and OUTPUT not in text.parts
    }
