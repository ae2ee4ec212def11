"""Programs that start the launcher: peeled off before a reader is asked, and put back around what it rewrote.

`srun numactl -N 0 bash -c 'cd run && torchrun train.py'` is three layers. Each knows the command inside
it, with the variables and the folder that it gives it, and how other words are put in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from preflight.errors import BadInput
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.shell.starters.layers import Layer
from preflight.shell.starters.program_names import Called, called, is_python, program_name
from preflight.shell.starters.shell_layers import eval_layers, shell_layers
from preflight.shell.starters.wrapper_notes import SUBMITTER, notes_on, rank_environment, shortened
from preflight.shell.starters.wrapper_options import (
    CONTAINERS,
    ELSEWHERE,
    OPTIONS,
    PYTHON_PROGRAMS,
    SAME_AS,
    SHELLS,
    WrapperOptions,
)
from preflight.shell.starters.wrapper_places import (
    Given,
    card_elsewhere,
    container_environment,
    container_folder,
    mounts_of,
    option,
    variables_elsewhere,
)

MAX_LAYERS = 12
NODE_FLAGS = ("--num_nodes", "--num-nodes", "--nodes", "--nnodes", "--replicas")
"""How scripts that submit a command are told of nodes."""
CONTROLS = ("&&", "||", ";", "|", "&")
"""Words between commands that a submitting script hands to a shell elsewhere."""


Read = Callable[[LaunchCommand], "LaunchPlan | None"]


def read_behind(command: LaunchCommand, read: Read) -> LaunchPlan | None:
    """Return the plan of the launcher behind a command's wrappers, which the plan then holds; None without one.

    Raises BadInput where preflight cannot tell what is started, or where two launchers are.
    """
    found = _found(command, read, ())
    if len(found) > 1:
        # `python prepare.py && torchrun train.py` starts one job that matters here.
        launchers = [plan for plan in found if plan.launcher != "python"]
        if len(launchers) != 1:
            names = " and ".join(shortened(plan.wrapping[-1].inner.argv, 60) for plan in found)
            raise BadInput.one(
                f"the command starts more than one launch: {names}",
                shortened(command.argv[:2], 60),
                "check each of them on its own",
                "PF131",
            )
        found = launchers
    if not found:
        return None
    plan = found[0]
    for layer in plan.wrapping:
        plan = _on_nodes(plan, layer) if layer.kind == SUBMITTER else plan
        if layer.device is not None and plan.device is None:
            plan = replace(plan, device=layer.device).with_origin("device", Origin("--flavor"))
    notices = tuple(notice for layer in plan.wrapping for notice in layer.notices)
    return replace(plan, notices=(*plan.notices, *notices))


def _on_nodes(plan: LaunchPlan, layer: Layer) -> LaunchPlan:
    """Return the plan with its ranks open where the script that submits it was given several nodes."""
    own = layer.command.argv[: layer.start - 1]
    for index, word in enumerate(own):
        flag, equals, value = word.partition("=")
        count = value if equals else "".join(own[index + 1 : index + 2])
        if flag not in NODE_FLAGS or not count.isdecimal() or int(count) <= plan.num_nodes:
            continue
        more = plan.world_size * int(count) // plan.num_nodes
        reason = f"{flag} {count} may start it on every node, with other numbers of ranks"
        origin = Origin(flag, True, reason, (plan.world_size, more))
        return plan.with_origin("world_size", origin)
    return plan


def _found(command: LaunchCommand, read: Read, around: tuple[Layer, ...]) -> list[LaunchPlan]:
    plans: list[LaunchPlan] = []
    if len(around) >= MAX_LAYERS:
        return plans
    for layer in unwrapped(command):
        layers = (*around, layer)
        try:
            plan = read(layer.inner)
        except BadInput as error:
            # What is not seen through a wrapper may be what the reader missed.
            unseen = (notice for item in layers for notice in item.notices)
            raise BadInput(*error.problems, *unseen) from error
        if plan is not None:
            plans.append(replace(plan, wrapping=layers))
        else:
            plans.extend(_found(layer.inner, read, layers))
    return plans


def unwrapped(command: LaunchCommand) -> list[Layer]:
    """Return the wrapper of a command with what it starts: none, one, or one per command of a shell's list."""
    argv = command.argv
    if not argv:
        return []
    name, first = program_name(argv[0]), 1
    if name in SHELLS:
        return shell_layers(command, name)
    if name == "eval" and len(argv) > 1:
        return eval_layers(command)
    python = called(argv) if is_python(name) else None
    if python is not None and python.kind == "module" and python.name in PYTHON_PROGRAMS:
        name, first = python.name, python.first_argument
    elif python is not None:
        return _submitted(command, python)
    for num_words in (4, 3, 2):
        words = " ".join((name, *argv[first : first + num_words - 1]))
        words = SAME_AS.get(words, words)
        if words in OPTIONS:
            name, first = words, first + num_words - 1
            break
    name = SAME_AS.get(name, name)
    if name not in OPTIONS:
        return []
    given, start = _own_options(argv, first, name, OPTIONS[name])
    if start is None:
        return []
    layer = _layer(command, name, given, start)
    return [] if layer is None or not layer.inner.argv else [layer]


def _own_options(
    argv: Sequence[str], first: int, name: str, options: WrapperOptions
) -> tuple[Given, int | None]:
    """Return the wrapper's own options and where the inner command starts."""
    given: Given = []
    index = first
    while index < len(argv):
        word = argv[index]
        if word == "--":
            index += 1
            break
        if not word.startswith("-") or (len(word) == 1 and word not in options.flags):
            break
        flag, equals, value = word.partition("=")
        index += 1
        if word in options.flags or flag in options.flags:
            given.append((flag, value))
        elif word in options.values or (
            options.values_by_default and word.startswith("--") and not equals
        ):
            given.append((word, argv[index] if index < len(argv) else ""))
            index += 1
        elif equals and word.startswith("--"):
            given.append((flag, value))
        elif not word.startswith("--") and word[:2] in options.values:
            given.append((word[:2], word[2:].removeprefix("=")))  # -n4
        elif not word.startswith("--") and (
            word[:2] in options.flags or (name == "nice" and word[1:].isdecimal())
        ):
            given.append((word[:2], word[2:]))
        elif options.flags_by_default and word.startswith("--"):
            given.append((word, ""))
        else:
            raise BadInput.one(
                f"{name} {word}: preflight does not know this option, and cannot tell where the command starts",
                word,
                f"write {word}=VALUE, or put -- in front of the command"
                if word.startswith("--")
                else "put preflight in front of the launcher instead",
                "PF131",
            )
    index += options.num_positionals
    return given, index if index < len(argv) else None


def _layer(command: LaunchCommand, name: str, given: Given, start: int) -> Layer | None:
    argv, env, cwd = command.argv, dict(command.env), command.cwd
    assigned: set[str] = set()
    passes_env = True
    added: tuple[str, ...] = ()
    flags = {flag for flag, _ in given}
    if name in ("env", "sudo"):
        if {"-i", "--ignore-environment", "-"} & flags:
            env, passes_env = {}, False
        if name == "sudo" and not {"-E", "--preserve-env"} & flags:
            env, passes_env = {}, False  # env_reset, which every distribution's sudoers sets
        for flag, value in given:
            if flag in ("-u", "--unset"):
                env.pop(value, None)
                assigned.add(value)
        while start < len(argv) and "=" in argv[start]:
            variable, _, value = argv[start].partition("=")
            env[variable] = value
            assigned.add(variable)
            start += 1
        cwd = _folder(command, option(given, "-C" if name == "env" else "-D", "--chdir"))
    elif name == "srun":
        if "--multi-prog" in flags:
            raise BadInput.one(
                "srun --multi-prog starts what its file says, which is not read",
                "--multi-prog",
                "check the command of the file on its own",
                "PF131",
            )
        export = option(given, "--export")
        if export is not None:
            items = export.split(",")
            passes_env = "ALL" in items
            for item in items:
                variable, equals, value = item.partition("=")
                if equals:
                    env[variable] = value
                    assigned.add(variable)
        env.update(rank_environment(given, command.env))
        cwd = _folder(command, option(given, "-D", "--chdir"))
    elif name in CONTAINERS:
        env, passes_env = container_environment(name, given, command.env), False
        if name == "apptainer exec":
            passes_env = not {"-e", "--cleanenv", "-C", "--containall"} & flags
    elif name in ELSEWHERE:
        env, passes_env = variables_elsewhere(name, given, command.env), False
        cwd = _folder(command, option(given, "--working-dir"))
        if name == "hf jobs uv run":
            added = ("python",)
    elif name in ("uv run", "uvx"):
        cwd = _folder(command, option(given, "--directory"))
        if {"-m", "--module"} & flags:
            added = ("python", "-m")
        elif name == "uv run" and (argv[start].endswith(".py") or {"-s", "--script"} & flags):
            added = ("python",)
    elif name == "conda run":
        cwd = _folder(command, option(given, "--cwd"))
    elif name.partition(" ")[0] in PYTHON_PROGRAMS:
        added = ("python", "-m") if {"-m", "--module"} & flags else ("python",)
    is_parted = name == "debugpy-run" and argv[start + 1 : start + 2] == ("--",)
    separator = start + 1 if is_parted else None
    words = [word for index, word in enumerate(argv) if index >= start and index != separator]
    from preflight.shell.starters.wrapper_environments import said_versions, with_environment

    is_contained = name in CONTAINERS or "--container-image" in flags
    mounts, sees_copies = command.mounts, None
    if is_contained:
        mounts = {**mounts, **mounts_of(name, given, command)}
        there = replace(command, cwd=cwd, mounts=mounts)
        cwd, sees_copies = container_folder(name, given, there)
    inner = replace(
        command,
        argv=(*added, *words),
        env=with_environment(name, given, command, env),
        cwd=cwd,
        mounts=mounts,
        versions={**command.versions, **said_versions(name, given)},
        in_container=command.in_container or is_contained or name in ELSEWHERE,
        is_submitted=command.is_submitted or name in ELSEWHERE,
    )
    layer = Layer(
        name,
        command,
        inner,
        start,
        added,
        separator=separator,
        assigned=frozenset(assigned),
        passes_env=passes_env,
        sees_copies=sees_copies,
        device=card_elsewhere(given) if name in ELSEWHERE else None,
    )
    return replace(layer, notices=tuple(notes_on(name, given, argv, start)))


def _submitted(command: LaunchCommand, python: Called) -> list[Layer]:
    """Return a layer per command behind the `--` of a script that submits it: `python submit.py --gpus 8 -- torchrun ...`."""
    argv = command.argv
    if "--" not in argv[python.first_argument :]:
        return []
    layers: list[Layer] = []
    start = argv.index("--", python.first_argument) + 1
    for index in range(start, len(argv) + 1):
        if index < len(argv) and argv[index] not in CONTROLS:
            continue
        if start < index:
            inner = replace(command, argv=argv[start:index], in_container=True, is_submitted=True)
            notices = tuple(notes_on(SUBMITTER, [(python.name, "")], argv, start))
            layers.append(
                Layer(
                    SUBMITTER, command, inner, start, end=index, passes_env=False, notices=notices
                )
            )
        start = index + 1
    return layers


def _folder(command: LaunchCommand, path: str | None) -> str:
    return command.cwd if path is None else command.resolve(path)
