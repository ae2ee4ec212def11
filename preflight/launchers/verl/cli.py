"""verl's trainers as a LaunchPlan: `python -m verl.trainer.main_ppo` and its SFT trainers under torchrun.

Source: trainer/main_ppo.py, trainer/fsdp_sft_trainer.py, trainer/sft_trainer.py and trainer/config of verl 0.2 to 0.9.1.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.framework_launch import framework_plan
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.launcher_in_front import launcher_in_front
from preflight.launchers.unread import unread
from preflight.launchers.verl import TRAINERS, says_verls_keys
from preflight.launchers.verl.easy_r1 import in_verls_words, read_rest
from preflight.launchers.verl.keys import ROWS_OF_ALL
from preflight.launchers.verl.own_keys import read_own_workers
from preflight.launchers.verl.own_main import OwnMain, own_main
from preflight.launchers.verl.ppo import ACTOR_STRATEGIES, read_ppo
from preflight.launchers.verl.sft import read_sft
from preflight.launchers.verl.words import read_words
from preflight.launchers.verl.workers import counts_tokens
from preflight.plan_choices import OPEN_VALUES
from preflight.reading import Problems
from preflight.setting import Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.values import dataclass

NEWEST = "0.9.1"
LAST_WITH = {"verl.trainer.fsdp_sft_trainer": "0.7.1"}
"""Module -> the newest release that has it, where that is an older one."""
MEGATRON = ("megatron", "mcore")
OWN_CONFIG = {
    "ppo": "ppo_trainer", "sft": "sft_trainer", "engine": "sft_trainer_engine", "fork": "",
}  # fmt: skip
"""What a module trains -> the name of its own configuration."""
STRATEGIES = (*ACTOR_STRATEGIES, "engine", "engine.strategy")
"""Keys that say whose workers train."""


@dataclass(frozen=True)
class VerlOwn:
    """What the writer needs to know of a launch."""

    trainer: str
    """Whose configuration it reads, as TRAINERS has it."""
    version: str
    has_only: frozenset[str] | None
    """Keys that the configuration has, where it is not verl's own."""
    counts_tokens: bool
    """Whether a number of tokens fills a micro batch."""
    rows_of_all: int
    """Over how many ranks the rows of an update are divided, where their number is of all; else 0."""


def read_verl(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a training command of verl's; None where it is another command."""
    main: OwnMain | None = None

    def is_ours(index: int) -> bool:
        nonlocal main
        if command.argv[index] in TRAINERS:
            return True
        main = own_main(command, index) if says_verls_keys(command) else None
        return main is not None

    found = launcher_in_front(command, is_ours)
    if found is None:
        return None
    problems = Problems()
    part, notes = problems.take(found)
    module = command.argv[part.script_index]
    kind = TRAINERS.get(module, "ppo")
    words = problems.take(read_words(command, part.script_index + 1, OWN_CONFIG[kind], main))
    said = [name for name in STRATEGIES if name in words.given]
    megatron = next((name for name in said if words.given[name].value == "megatron"), "")
    if megatron or any(name in words.config_name for name in MEGATRON):
        where = megatron or "--config-name"
        message = "verl's Megatron workers are not read: preflight does not price Megatron-Core"
        return unread(command, message, where)
    library = FrameworkLibrary.of("verl", command, LAST_WITH.get(module, NEWEST))
    keys = FrameworkKeys(library, dict(words.given))
    if kind == "fork":
        keys.given = in_verls_words(command, words.given)
    if kind in ("ppo", "fork"):
        part = _ray_ranks(part, keys)
        read_ppo(keys, int(part.ranks["world_size"].value))
        if kind == "fork":
            read_rest(keys, command, words.given)
        else:
            read_own_workers(keys, command.cwd)
    else:
        read_sft(keys, part, kind == "engine")
    problems.extend(keys.problems)
    trainer = replace(keys.finish(words.document), trainer="plain_loop")
    of_all = keys.count(ROWS_OF_ALL) if kind == "ppo" else None
    ranks = 0 if of_all is None else int(part.ranks["world_size"].value)
    own = VerlOwn(kind, library.version, words.has_only, counts_tokens(keys, kind), ranks)
    part = replace(part, name="verl", has_engine_options=False, overrides=keys.words, own=own)
    problems.extend(notes)
    return framework_plan(command, part, trainer, keys, False, problems, spreads_model=True)


def _ray_ranks(part: LauncherPart, keys: FrameworkKeys) -> LauncherPart:
    """Return the ranks that Ray places: one on every GPU of the pool that the config counts."""
    default = keys.library.default_place
    nodes = keys.count("trainer.nnodes") or Setting(1, default)
    per_node = keys.count("trainer.n_gpus_per_node") or Setting(8, default)
    place = per_node.place if per_node.place.kind != "default" else nodes.place
    origins = {}
    if place.kind == "default":
        origins["world_size"] = Origin(default.where, True, "no trainer.n_gpus_per_node")
    names = ("trainer.n_gpus_per_node", "trainer.nnodes")
    unknown = next(filter(keys.is_unknown, names), "")
    if unknown:
        where, reason = keys.given[unknown].place.where, "another program fills it in"
        origins["world_size"] = Origin(where, True, reason, OPEN_VALUES["world_size"])
    return replace(
        part,
        ranks={"world_size": Setting(nodes.value * per_node.value, place), "num_nodes": nodes},
        mode="multi_gpu",
        mode_place=place,
        origins=origins,
    )
