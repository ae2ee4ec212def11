"""`python train.py` as a LaunchPlan: one process, unless variables around it say that it is one rank of several.

Source: PartialState of accelerate 1.15.0 (accelerate/state.py) and TrainingArguments._setup_devices of
transformers 5.24.0: a process group is made where LOCAL_RANK is set; else every visible GPU is one
process's, and Trainer wraps the model in nn.DataParallel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from preflight.engines.data_parallel import data_parallel
from preflight.errors import Problem
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.accelerate.environment_notes import environment_notes
from preflight.launchers.script import make_plan
from preflight.launchers.script_arguments import (
    read_script_arguments,
    read_script_engine,
    with_ranks,
)
from preflight.lazy_pattern import lazy_pattern
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart, caller_environment
from preflight.shell.starters.program_names import TRAINS_NOTHING, called
from preflight.shell.starters.variables import num_visible_devices
from preflight.trainers.arguments import TrainerArguments

_STARTS_RANKS = lazy_pattern(
    r"WORLD_SIZE[\"']\s*\]\s*=[^=]|setdefault\(\s*[\"']WORLD_SIZE|\bspawn\(|\bnotebook_launcher\(|\bray\."
)
"""Code that starts ranks, or gives them their number."""


def read_python(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a script or module that Python starts directly; None where it is another command."""
    what = called(command.argv)
    if what is None or what.kind == "program" or what.name in TRAINS_NOTHING:
        return None
    problems = Problems()
    place = Place("argv", "", "python", index=0)
    is_rank = command.env.get("LOCAL_RANK", "-1") != "-1"
    part = python_part(command, place, 1, what.position)
    ranked = command if _starts_ranks(command, part) else with_ranks(command, part, problems)
    trainer = problems.take(read_script_arguments(ranked, part.script_index))
    if not is_rank:
        part = problems.take(_with_own_ranks(part, trainer))
    engine = problems.take(read_script_engine(command, part, trainer, problems))
    if not is_rank:
        problems.extend(_copies(command))
        variables = {name: str(setting.value) for name, setting in trainer.environment.items()}
        visible = num_visible_devices({**command.env, **variables})
        problems.extend(data_parallel(trainer, visible, "python"))
    problems.extend(environment_notes(part.env, str(engine.fields["engine"].value)))
    return make_plan(command, part, trainer, engine, problems)


def _starts_ranks(command: LaunchCommand, part: LauncherPart) -> bool:
    """Tell whether a script may start ranks, or say what they find in WORLD_SIZE, or is not here to tell."""
    file = command.script_file(command.argv[part.script_index])
    try:
        return _STARTS_RANKS.search(command.read_text(file)) is not None
    except (OSError, ValueError):
        return True


def _with_own_ranks(part: LauncherPart, trainer: TrainerArguments) -> Reading[LauncherPart]:
    """Return the ranks that a script starts itself (torch.multiprocessing.spawn, accelerate's notebook_launcher)."""
    own = trainer.engine
    if own is None or own.spawns is None:
        return Reading(part)
    if own.num_ranks is not None and own.num_ranks.value > 0:
        ranks = {**part.ranks, "world_size": Setting(own.num_ranks.value, own.num_ranks.place)}
        return Reading(replace(part, ranks=ranks, mode="multi_gpu", mode_place=own.spawns))
    nobody = Problem(
        f"{own.spawns.document} starts its ranks itself, and how many is known only when it runs",
        own.spawns.where,
        "--set world_size=N",
        "PF115",
        "warning",
    )
    return Reading(replace(part, mode="multi_gpu", mode_place=own.spawns), (nobody,))


def python_part(
    command: LaunchCommand, place: Place, first_option: int, script_index: int
) -> LauncherPart:
    """Return what the environment says of a process that nobody launched: alone, or one rank of several."""
    is_rank = command.env.get("LOCAL_RANK", "-1") != "-1"
    return LauncherPart(
        name="python",
        first_option=first_option,
        script_index=script_index,
        ranks=_ranks(command.env, is_rank, place),
        mode="multi_gpu" if is_rank else "single",
        mode_place=place,
        env=caller_environment(command.env),
    )


def _ranks(env: Mapping[str, str], is_rank: bool, place: Place) -> dict[str, Setting]:
    one = Setting(1, place)
    if not is_rank:
        return {"world_size": one, "num_nodes": one}
    world, nodes = _count(env, "WORLD_SIZE") or one, _count(env, "SLURM_NNODES")
    per_node = _count(env, "LOCAL_WORLD_SIZE")
    if nodes is None and per_node is not None:
        nodes = Setting(-(-world.value // per_node.value), per_node.place)
    return {
        "world_size": world,
        "num_nodes": nodes if nodes is not None and nodes.value <= world.value else one,
    }


def _count(env: Mapping[str, str], name: str) -> Setting | None:
    text = env.get(name, "")
    return Setting(int(text), Place("env", "", name)) if text.isdecimal() and int(text) else None


def _copies(command: LaunchCommand) -> Iterator[Problem]:
    """Say where srun starts the script several times, and nothing tells the copies of each other."""
    tasks = command.env.get("SLURM_STEP_NUM_TASKS", "1")
    if not tasks.isdecimal() or int(tasks) < 2:
        return
    yield Problem(
        f"srun starts {tasks} processes without RANK and LOCAL_RANK: each trains on its own, unless the script reads Slurm's variables itself",
        "srun",
        "one task per node and torchrun in it, or export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS in each task",
        "PF135",
        "warning",
    )
