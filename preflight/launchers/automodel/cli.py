"""NeMo Automodel's recipe for next-token training as a LaunchPlan: `automodel FILE`, its module and scripts under torchrun.

Source: cli/app.py, components/launcher/interactive.py and recipes/llm/train_ft.py of nemo-automodel 0.7.0.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.launch import LaunchCommand, LaunchPlan, Origin, ScriptFacts
from preflight.launchers.automodel import LAUNCHER, PROGRAMS, is_ours
from preflight.launchers.automodel.plan import DECIDES, read_recipe
from preflight.launchers.automodel.words import RANKS, AutomodelWords, read_words
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.framework_launch import note_placeholders, own_loop_plan
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.launcher_in_front import launcher_in_front
from preflight.launchers.unread import unread
from preflight.reading import Problems
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.program_names import program_name
from preflight.shell.starters.variables import num_visible_devices

NEWEST = "0.7.0"
OLDER = "0.3.0"
"""The last release whose `distributed` names a class."""
RECIPES = (
    "TrainFinetuneRecipeForNextTokenPrediction",
    "BenchmarkingRecipeForNextTokenPrediction",
)
"""The second trains as the first, on made-up rows."""
CLOUDS = ("skypilot", "nemo_run")
"""Sections that send the job elsewhere, with nodes and ranks of their own."""


def read_automodel(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a training of NeMo Automodel's; None where it is another command."""
    problems = Problems()
    part: LauncherPart | None = None
    first = 1
    if program_name(command.argv[0]) not in PROGRAMS:
        found = launcher_in_front(command, lambda index: is_ours(command.argv[index]))
        if found is None:
            return None
        part, notes = problems.take(found)
        problems.extend(notes)
        first = part.script_index + 1
    words = problems.take(read_words(command, first))
    recipe = words.given.get("recipe") or words.given.get("recipe._target_")
    name = "" if recipe is None else str(recipe.value).rpartition(".")[2]
    is_by_hand = first < len(command.argv) and "train_ft" in command.argv[first - 1]
    if recipe is None and not is_by_hand and "step_scheduler.local_batch_size" not in words.given:
        return None  # another program of that name
    if recipe is not None and name not in RECIPES:
        return unread(command, f"Automodel's {name} is not read", recipe.place.where)
    cloud = next((key for key in CLOUDS if any(k.startswith(f"{key}.") for k in words.given)), "")
    if cloud and part is None:
        message = f"the section {cloud} sends the job elsewhere, and is not read"
        return unread(command, message, words.document.path)
    library = FrameworkLibrary.of("NeMo Automodel", command, NEWEST, "nemo_automodel")
    keys = FrameworkKeys(library, dict(words.given))
    note_placeholders(keys, DECIDES)
    part = part or _started_part(command, keys, words)
    part = replace(
        part,
        name=LAUNCHER.name,
        file_index=words.file_index,
        overrides=keys.words,
        own=OLDER if "distributed._target_" in words.given else library.version,
    )
    read_recipe(keys, part)
    problems.extend(keys.problems)
    return own_loop_plan(
        command,
        part,
        keys,
        "plain_loop",
        library.label,
        problems,
        words.document.path,
        "transformers",
        ScriptFacts(is_of_library=True, is_text_only=True),
    )


def _started_part(
    command: LaunchCommand, keys: FrameworkKeys, words: AutomodelWords
) -> LauncherPart:
    """Return the ranks that the program starts by torchrun: as many as it is told, or as there are GPUs."""
    said = next((keys.count(name) for name in RANKS if name in words.given), None)
    origins = {}
    if said is None:
        count = num_visible_devices(command.env)
        said = keys.by_default(max(1, count))
        reason = f"no --nproc-per-node: a rank per GPU, and this machine shows {count or 'none'}"
        origins["world_size"] = Origin(said.place.where, True, reason)
        if not count:
            message = f"the number of ranks is not known: {reason}"
            keys.note("PF115", message, said, "--nproc-per-node N")
    return LauncherPart(
        name=LAUNCHER.name,
        first_option=1,
        script_index=1,
        ranks={
            "world_size": said,
            "num_nodes": keys.by_default(1),
        },
        mode="multi_gpu" if said.value > 1 else "single",
        mode_place=said.place,
        origins=origins,
    )
