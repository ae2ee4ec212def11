"""What the rest of preflight needs to know of a launcher: the one type that every folder here fills in.

`launchers/NAME/__init__.py` holds the value LAUNCHER, made of plain facts, so that asking all launchers for
their programs costs nothing; what reads and writes a command is named, and imported when a command is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from preflight.errors import BadInput, Problem
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite
from preflight.shell.starters.program_names import called, program_name
from preflight.values import dataclass, replace

ReadLaunch = Callable[[LaunchCommand], LaunchPlan | None]
"""Returns the plan of a command; None where a closer look shows that it is another launcher's."""
WriteLaunch = Callable[[LaunchPlan, LaunchPlan], Rewrite | None]
"""Returns the launch that gives the second plan; None where a change cannot be said."""


@dataclass(frozen=True)
class Launcher:
    """One launcher; everything but name and reader says how it differs from one that only starts ranks."""

    name: str
    """The plan's `launcher`, and the name of the folder; its plugin is `read_NAME`."""
    reader: str
    """`module:function` of its ReadLaunch."""
    writer: str = ""
    """`module:function` of its WriteLaunch; without one, nothing is written back."""

    # How it is called

    programs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    """Behind `python -m`."""
    subcommands: tuple[str, ...] = ()
    """Those that train; a launcher without any starts a script."""
    without_subcommand: tuple[str, ...] = ()
    """Programs and modules among its own that start a script all the same: `accelerate-launch`."""
    trains_nothing: tuple[str, ...] = ()
    """Subcommands that are known to train nothing; what is in neither list may train."""
    in_texts: str = ""
    """A pattern that finds its commands in a text, where its programs' names alone are words of any text."""
    recognises: Callable[[LaunchCommand], bool] | None = None
    """Tells cheaply whether a command may be its own, where programs and modules do not."""
    guarded_by: str = ""
    """The door of embedded/guard_doors.py that its process passes: `rendezvous` or `startup`."""

    # How it starts ranks

    ranks_per_node_flag: str = ""
    """Says how many ranks a node has; without it, the launcher is told the ranks of all nodes."""
    gives_one_thread: bool = False
    """Sets OMP_NUM_THREADS=1 for its ranks where nobody sets it."""
    reaches_other_nodes: bool = False
    """Starts the ranks of the other nodes too, over ssh."""

    # What its ranks run

    trainer: str | None = None
    """The plan's trainer where its ranks run a training loop of its own; what that needs is in formulas/user_loop.py."""
    evaluates_micro_batch: bool = False
    """Evaluates rows of the micro batch that it trains, and has no number of its own for them."""
    packs_base: bool = False
    """Packs a quantized base itself: NF4 that pretends to be the compute dtype on every engine, norms left in it."""
    loads_as_checkpoint: bool = False
    """Loads a frozen base in the checkpoint's own dtype, whatever it is."""
    shards_int8_base: bool = False
    """Teaches FSDP2 about an 8-bit base, which nobody else can shard."""
    offloads_activations: str = "as_trainer"
    """What may keep saved layer inputs in host memory: `as_trainer`, `full_training` (no adapter) or `nothing`."""
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Remedy -> how its users ask for it, where that is no argument of transformers or accelerate."""

    # What else is made for it

    template_engines: tuple[str, ...] = ()
    """Engines that the files of `preflight init` can say for it."""

    def first_argument(self, argv: Sequence[str]) -> int | None:
        """Return the argv index behind its program or module, of the subcommand where it takes one.

        None where another program is called, and for a subcommand that does not train.
        """
        what = called(argv)
        if what is None:
            return None
        name = what.name if what.kind == "module" else program_name(what.name)
        if name not in (self.modules if what.kind == "module" else self.programs):
            return None
        first = what.first_argument
        if not self.subcommands or name in self.without_subcommand:
            return first
        return first if first < len(argv) and argv[first] in self.subcommands else None

    def frozen_base_dtype(self, dtype: str) -> str:
        """Return the dtype that a frozen base is loaded in where `dtype` is asked for; "auto" is the checkpoint's own."""
        return "auto" if self.loads_as_checkpoint else dtype

    def may_own(self, command: LaunchCommand) -> bool:
        """Tell whether its reader is to look at a command."""
        if self.recognises is not None:
            return self.recognises(command)
        return self.first_argument(command.argv) is not None

    def read(self, command: LaunchCommand) -> LaunchPlan | None:
        """Return the plan of a command; None where it is another launcher's."""
        read: ReadLaunch | None = _function(self.reader) if self.may_own(command) else None
        if read is None:
            return None
        try:
            plan = read(command)
        except BadInput as error:
            raise BadInput(*_as_far_as_read(error.problems, command)) from error
        if plan is None:
            return None
        notices = _as_far_as_read(plan.notices, command)
        return plan if notices is plan.notices else replace(plan, notices=notices)

    def write(self, before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
        """Return the launch that gives the plan `after`; None where another launcher read `before`, or no word says a change."""
        if before.launcher != self.name:
            return None
        write: WriteLaunch = _function(self.writer)
        return write(before, after)


def _as_far_as_read(problems: tuple[Problem, ...], command: LaunchCommand) -> tuple[Problem, ...]:
    if not any(each.refused_by for each in problems):
        return problems
    from preflight.libraries.newer import as_far_as_read  # most launches have none

    return as_far_as_read(problems, command)


def _function(name: str) -> Any:
    from importlib import import_module

    module, _, function = name.partition(":")
    return getattr(import_module(module), function)
