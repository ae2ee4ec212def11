"""What starts LLaMA-Factory's ranks: its own command, which calls torchrun, or a launcher in front of its script.

Source: launch in launcher.py of LLaMA-Factory 0.9.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from preflight.errors import Problem
from preflight.launch import LaunchCommand, LaunchPlan, Origin, RankFacts
from preflight.launchers.launcher_in_front import Front, launcher_in_front
from preflight.launchers.llamafactory.keys import is_enabled
from preflight.launchers.python.plan import python_part
from preflight.launchers.unread import unread
from preflight.plan_choices import OPEN_VALUES
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.program_names import program_name
from preflight.shell.starters.variables import num_visible_devices

SCRIPT_MODULES = ("llamafactory.launcher", "llamafactory.train.tuner")
ALLOCATOR = "PYTORCH_CUDA_ALLOC_CONF"
DEFAULT = Place("default", "", "LLaMA-Factory")


OTHER_PROGRAMS = {
    "USE_V1": "the arguments of its new version are others",
    "USE_MCA": "Megatron's trainer takes other arguments",
    "USE_RAY": "Ray places the workers",
}
"""Variable that makes the command another program -> why its launch is not read."""


def unread_program(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a launch that is not LLaMA-Factory's own trainer on ranks of its own; None where it is."""
    for variable, about in OTHER_PROGRAMS.items():
        if is_enabled(command.env, variable):
            message = f"preflight does not read LLaMA-Factory under {variable}: {about}"
            return unread(command, message, f"${variable}")
    return None


def cli_part(command: LaunchCommand, first: int) -> Reading[LauncherPart]:
    """Return how many ranks the command starts: torchrun's where it is forced or sees several GPUs, else one."""
    env, count = command.env, num_visible_devices(command.env)
    is_forced = is_enabled(env, "FORCE_TORCHRUN")
    if not is_forced and (count < 2 or is_enabled(env, "USE_KT")):
        part = python_part(command, Place("argv", "", command.argv[0], index=0), first, first)
        if count == 0 and "CUDA_VISIBLE_DEVICES" not in env:
            open_ranks = _open_ranks("without FORCE_TORCHRUN it starts a rank per GPU")
            part = replace(part, origins={"world_size": open_ranks})
        return Reading(replace(part, name="llamafactory"))
    problems = Problems()
    nodes = problems.take(_count(command, "NNODES"))
    if "MIN_NNODES" in env and "MAX_NNODES" in env and "RDZV_ID" in env:
        nodes = problems.take(_count(command, "MIN_NNODES"))
    ranks = problems.take(_count(command, "NPROC_PER_NODE"))
    origins = {}
    if ranks is None:
        ranks = Setting(count, Place("env", "", "CUDA_VISIBLE_DEVICES"))
        if "CUDA_VISIBLE_DEVICES" not in env:
            ranks = Setting(count, DEFAULT)
            reason = f"no NPROC_PER_NODE: it starts a rank per GPU, and this machine shows {count}"
            origins["world_size"] = Origin(DEFAULT.where, True, reason)
    if ranks.value < 1:
        problems.append(
            Problem(
                "the number of ranks is not known: no NPROC_PER_NODE, and this machine shows no GPU to count",
                "$FORCE_TORCHRUN",
                "NPROC_PER_NODE=N, or --set world_size=N before the `--`",
                "PF115",
                "warning",
            )
        )
        ranks = Setting(1, ranks.place)
        if "world_size" in origins:
            origins["world_size"] = _open_ranks("it starts a rank per GPU")
    nodes = nodes or Setting(1, DEFAULT)
    if nodes.value > 1 and env.get("MASTER_ADDR", "127.0.0.1") in ("127.0.0.1", "localhost"):
        message = "several nodes, but no MASTER_ADDR: the nodes cannot find each other"
        fix = "MASTER_ADDR=HOST of the first node"
        problems.append(Problem(message, nodes.place.where, fix, "PF109", "warning"))
    part = replace(
        python_part(command, DEFAULT, first, first),
        name="llamafactory",
        ranks={"world_size": Setting(nodes.value * ranks.value, ranks.place), "num_nodes": nodes},
        mode="multi_gpu",
        mode_place=Place("argv", "", command.argv[0], index=0),
        variables=_variables(command),
        origins=origins,
        rank_facts=RankFacts(
            main_address=_variable(env, "MASTER_ADDR"),
            meeting_port=_variable(env, "MASTER_PORT"),
            other_port="another $MASTER_PORT, the same on every node",
        ),
    )
    return Reading(part, tuple(problems))


def _open_ranks(law: str) -> Origin:
    reason = f"{law}, and this machine shows none: one is taken"
    return Origin(str(DEFAULT.where), True, reason, OPEN_VALUES["world_size"])


def _count(command: LaunchCommand, name: str) -> Reading[Setting | None]:
    text = command.env.get(name)
    if text is None:
        return Reading(None)
    if not text.isdigit() or int(text) < 1:
        message = f"${name} must be a whole number from 1, not {text!r}"
        return Reading(Setting(1, DEFAULT), (Problem(message, f"${name}", id="PF111"),))
    return Reading(Setting(int(text), Place("env", "", name)))


def _variable(env: Mapping[str, str], name: str) -> Setting | None:
    return Setting(env[name], Place("env", "", name)) if name in env else None


def _variables(command: LaunchCommand) -> dict[str, str] | None:
    """Return the ranks' variables where the command writes over the caller's; None where it does not."""
    if not is_enabled(command.env, "OPTIM_TORCH", "1"):
        return None
    return {**command.env, ALLOCATOR: "expandable_segments:True"}


def front(command: LaunchCommand) -> Reading[Front] | None:
    """Return what accelerate, torchrun, deepspeed or python decides in front of LLaMA-Factory's script."""
    return launcher_in_front(command, lambda index: is_script(command, index))


def is_script(command: LaunchCommand, index: int) -> bool:
    """Tell whether an argv word is LLaMA-Factory's training script: its module, or a file that calls it."""
    word = command.argv[index]
    if word in SCRIPT_MODULES:
        return True
    if not word.endswith(".py"):
        return False
    if command.exists(word):
        text = command.readable_text(word)
        return "llamafactory" in text and "run_exp" in text
    return "llamafactory" in word and program_name(word) == "launcher.py"
