"""`tune run` as a LaunchPlan: torchrun's options, the recipe, its config and the words that beat it.

Source: Run of torchtune 0.6.1 (torchtune/_cli/run.py): the recipe starts under torchrun as soon as one word stands
before its name (line 132), alone otherwise; without --rdzv-endpoint torchrun gets --standalone (line 90).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from typing import Any

from preflight.errors import BadInput, Problem, raise_if_any
from preflight.formats.document import with_text_keys
from preflight.formats.load import load_yaml, read_document, read_text_file
from preflight.launch import LaunchCommand, LaunchPlan, ScriptFacts
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.framework_launch import note_placeholders, own_loop_plan
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.torchrun.plan import parse_torchrun, torchrun_part
from preflight.launchers.torchtune import LAUNCHER
from preflight.launchers.torchtune.config import TuneConfig, TuneRecipe, resolved, with_words
from preflight.launchers.torchtune.engine import read_engine
from preflight.launchers.torchtune.model import trains_on_words
from preflight.launchers.torchtune.plan import read_plan
from preflight.launchers.torchtune.table import (
    TABLE_VERSION,
    builders,
    config_names,
    config_path,
    config_values,
    installed_config,
    recipes,
)
from preflight.libraries.resolve import libraries_of
from preflight.near_names import nearest_fix
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart, caller_environment
from preflight.versions.boundary import release

NO_TRAINING = (
    "generate",
    "dev/generate_v2",
    "dev/generate_v2_distributed",
    "eleuther_eval",
    "quantize",
)
SLIP = 0.9
"""How alike two names are that differ by a slip of the pen: a sibling's sizes are no hint."""
DECIDES = {
    "batch_size": "micro_batch_size",
    "tokenizer.max_seq_len": "seq_len",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "dtype": "load_dtype",
}


def read_torchtune(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a `tune run` that trains; None where it is another command."""
    first = LAUNCHER.first_argument(command.argv)
    if first is None:
        return None
    options = parse_torchrun(command, first + 1)
    raise_if_any(options.problems)
    at = options.script_index
    recipe = command.argv[at]
    if recipe in NO_TRAINING:
        return None
    is_alone = at == first + 1
    launched = Reading(_alone(command, at)) if is_alone else torchrun_part(command, options)
    part = replace(launched.value, name="torchtune", script_index=at)
    known = recipes().get(recipe)
    num_nodes, world_size = part.ranks["num_nodes"], part.ranks["world_size"]
    never_meet = num_nodes.value > 1 and "rdzv_endpoint" not in options.given
    # Where tune adds --standalone, that is the reason, and not what torchrun was told.
    problems = Problems(p for p in launched.problems if not (never_meet and p.id == "PF109"))
    problems.extend(_check_ranks(recipe, known, is_alone, command))
    if never_meet:
        problems.append(_standalone(num_nodes))
    as_written = problems.take(read_config(command, at, recipe))
    config = resolved(as_written, command)
    library = FrameworkLibrary.of("torchtune", command, TABLE_VERSION)
    keys = FrameworkKeys(library, config.settings())
    reads = tuple(known["reads"]) if known is not None else ()
    own = in_checkout(command, f"recipes/{recipe}.py")
    if reads and own is not None:
        # The checkout's recipe may read more than the release's.
        reads = tuple(dict.fromkeys((*reads, *re.findall(r"\w+", command.read_text(own)))))
    checkpoints = str(keys.value("checkpointer.checkpoint_dir", ""))

    @cache
    def builder(name: str) -> Mapping[str, Any] | None:
        return builder_of(command, name, checkpoints)

    read_plan(keys, recipe, reads, _pointed_at(as_written), builder)
    distributed = not is_alone and (known is None or known["distributed"])
    read_engine(keys, recipe, int(world_size.value), world_size.place, distributed)
    note_placeholders(keys, DECIDES)
    problems.extend(keys.problems)
    ran = TuneRecipe(recipe, config.values)
    part = replace(part, overrides=dict(config.overrides), own=ran)
    path = None if config.document is None else config.document.path
    script = ScriptFacts(is_text_only=trains_on_words(keys))
    return own_loop_plan(
        command, part, keys, "torchtune", "tune run", problems, path, script=script
    )


def _alone(command: LaunchCommand, at: int) -> LauncherPart:
    place = Place("argv", "", command.argv[at], index=at)
    return LauncherPart(
        name="torchtune",
        first_option=at,
        script_index=at,
        ranks={"world_size": Setting(1, place), "num_nodes": Setting(1, place)},
        mode="single",
        mode_place=place,
        env=caller_environment(command.env),
    )


def _standalone(num_nodes: Setting) -> Problem:
    return Problem(
        "several nodes, but no --rdzv-endpoint: tune adds --standalone, and the nodes never meet",
        num_nodes.place.where,
        "--rdzv-backend c10d --rdzv-endpoint HOST:PORT of the first node",
        "PF109",
        "warning",
    )


def _check_ranks(
    recipe: str, known: Mapping[str, Any] | None, is_alone: bool, command: LaunchCommand
) -> Iterator[Problem]:
    """Say what the recipe refuses: ranks it cannot use, or none where it needs them."""
    if known is None:
        if "/" not in recipe and "." not in recipe:
            near = nearest_fix(recipe, tuple(recipes()))
            if near and in_checkout(command, f"recipes/{recipe}.py") is None:
                message = f"there is no recipe {recipe} in torchtune {TABLE_VERSION}"
                yield Problem(message, recipe, near, "PF111")
        return
    if not known["distributed"] and not is_alone:
        other = recipe.replace("single_device", "distributed")
        fix = f"tune run --nproc_per_node N {other}" if other in recipes() else "no options"
        message = f"{recipe} does not run distributed: tune refuses torchrun's options"
        yield Problem(message, recipe, fix, "PF111")
    needs = known["distributed"] and is_alone and "WORLD_SIZE" not in command.env
    if needs:
        message = f"{recipe} needs torchrun's variables, and without an option tune starts one plain process"
        yield Problem(message, recipe, f"tune run --nproc_per_node 1 {recipe}", "PF111")


def read_config(command: LaunchCommand, at: int, recipe: str) -> Reading[TuneConfig]:
    """Return the config that `--config` names, with the other words behind the recipe over it."""
    words = list(enumerate(command.argv))[at + 1 :]
    position = next((i for i, (_, word) in enumerate(words) if word == "--config"), None)
    if position is None or position + 1 >= len(words):
        joined = any(word.startswith("--config=") for _, word in words)
        raise BadInput.one(
            "tune looks for the word --config and finds none",
            recipe,
            "--config NAME with a space" if joined else "--config NAME_OR_FILE",
            "PF111",
        )
    name = words[position + 1][1]
    loaded = _load(command, name, recipe)
    words = words[:position] + words[position + 2 :]
    with_own = with_words(loaded.value, words)
    return Reading(with_own.value, (*loaded.problems, *with_own.problems))


def _load(command: LaunchCommand, name: str, recipe: str) -> Reading[TuneConfig]:
    """Return a config by its name or path: of the installed torchtune, of the checkout here, of the table, or a file."""
    path = config_path(name, recipe)
    file = None if path is None else installed_config(path)
    if file is not None:
        document = load_yaml(read_text_file(file), file)
        return Reading(TuneConfig(with_text_keys(document.value), document, name))
    own = in_checkout(command, f"recipes/configs/{path or name + '.yaml'}")
    if own is None and path is not None:
        origin = f"torchtune {TABLE_VERSION}: {name}"
        return Reading(TuneConfig(config_values(path), None, origin))
    if own is None and not command.exists(name):
        return Reading(TuneConfig({}, None, name), (_no_config(command, name, recipe),))
    document = read_document(command, own or name, "yaml", "--config")
    return Reading(TuneConfig(with_text_keys(document.value), document, name))


def _no_config(command: LaunchCommand, name: str, recipe: str) -> Problem:
    """Return what is to be said of a config that nobody here has: a mistake only of a release that is known."""
    near = get_close_matches(name, config_names(recipe), n=1, cutoff=SLIP)
    is_file = name.endswith((".yaml", ".yml"))
    is_here = in_checkout(command, "recipes/__init__.py") is not None
    if not near and not is_file and not is_here and not _is_table_release(command):
        return Problem.left_out(
            f"{name} is no config of torchtune {TABLE_VERSION}; the release of the launch may have it",
            "--config",
            f"the config {name}",
            "either",
            "give its file: tune cp NAME FILE makes one",
            "PF111",
        )
    return Problem(
        f"{name} is neither a file here nor a config of torchtune {TABLE_VERSION}",
        "--config",
        f"did you mean {near[0]}" if near else "tune ls lists the configs of a recipe",
        "PF111",
    )


def _is_table_release(command: LaunchCommand) -> bool:
    libraries = libraries_of(command)
    return (
        libraries.is_known("torchtune")
        and release(libraries.version("torchtune"))[:2] == release(TABLE_VERSION)[:2]
    )


def _pointed_at(config: TuneConfig) -> set[str]:
    """Return the keys that others name: `${key.below}`."""
    raw = " ".join(str(setting.value) for setting in config.settings().values())
    return {name.partition(".")[0] for name in re.findall(r"\$\{([\w.]+)\}", raw)}


MOST_FOLDERS = 6
"""Above the folder of the launch, in which a checkout may begin."""
MODELS = "torchtune.models."


def in_checkout(command: LaunchCommand, path: str) -> str | None:
    """Return a file of the checkout, from the folder of the launch; None where that is in none, or has no such file."""
    above = ""
    for _ in range(MOST_FOLDERS):
        if command.exists(os.path.join(above, "torchtune", "__init__.py")):
            found = os.path.join(above, path)
            return found if command.exists(found) else None
        above = os.path.join(above, "..")
    return None


def builder_of(command: LaunchCommand, name: str, checkpoint_dir: str) -> Mapping[str, Any] | None:
    """Return a builder as the checkout has it, else as the table has it; None where neither knows it.

    `name` is a `_component_`, and `checkpoint_dir` is what the config loads: its last part names the model of a builder
    whose sizes are not written out.
    """
    known = builders().get(name)
    package, _, short = name.removeprefix(MODELS).partition(".")
    path = in_checkout(command, f"torchtune/models/{package}/_model_builders.py")
    if path is None or not name.startswith(MODELS) or "." in short:
        return known
    from preflight.launchers.torchtune.builders import builders_in, model_of

    try:
        own = builders_in(command.read_text(path), f"{MODELS}{package}.", builders()).get(name)
    except (OSError, ValueError, SyntaxError):
        return known
    if own is None:
        return known
    folder = checkpoint_dir.rstrip("/").rsplit("/", 1)[-1]
    model = (known or own).get("model") or model_of(name, own.get("sizes", {}), folder)
    return {**own, "model": model} if model else own
