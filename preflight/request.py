"""What the caller asked beside the command, and what it and the repository say about a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from preflight.errors import Problem
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.open_values import degrees_of
from preflight.plan_choices import ENGINES
from preflight.plan_parts import SET_ORIGIN, LibraryVersion
from preflight.policy import Policy
from preflight.repository.settings import OWN_FILE, SHARED_FILE, Repository
from preflight.values import dataclass

if TYPE_CHECKING:
    from preflight.datasets.lengths import RowLengths
    from preflight.devices.prices import Price


@dataclass(frozen=True)
class Request:
    """What the caller asked beside the command: device, overrides, policy, dataset."""

    device: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`--set FIELD=VALUE`, parsed: values that the files do not say."""
    policy: Policy = field(default_factory=Policy)
    lengths: RowLengths | None = None
    """How long the rows of `--dataset` are."""
    repository: Repository = field(default_factory=Repository)
    """What the repository says where the launch says nothing."""
    num_alternatives: int = 0
    """Next best answers to look for beside the best one."""
    prices: Mapping[str, Price] | None = None
    """Dollars per GPU and hour in place of the listed ones, by key of the GPU table."""
    use_headroom: bool = False
    """Whether a launch that fits is made faster with the memory it leaves: `fix --use-headroom`."""
    finds_room: bool = False
    """Whether the largest micro batch and the longest rows are looked for where it fits: what people read."""
    copies_script: bool = False
    """Whether a copy of the training script may hold what only the script can say: `fix`, which starts nothing."""
    on_this_node: bool = False
    """Whether the ranks start here: `--here`, `--device auto`, or `run` without a named device."""
    is_online: bool = False
    """Whether the config of a model that is not here may be downloaded: `--online`."""
    device_origin: str = "--device"
    """Who named the device."""


DATASET_ORIGIN = "--dataset "


def is_override(origin: Origin) -> bool:
    """Tell whether a value comes from preflight's own options or settings, not from the launch."""
    where = origin.where
    return (
        where == SET_ORIGIN
        or where.startswith(DATASET_ORIGIN)
        or where.partition(":")[0].endswith((OWN_FILE, SHARED_FILE))
    )


def with_said_versions(command: LaunchCommand, request: Request) -> LaunchCommand:
    """Return the command with the versions that the caller and the repository say, which its readers ask for."""
    said = versions_of(request.repository)
    for name, value in request.settings.items():
        outer, _, library = name.partition(".")
        if outer == "versions":
            named = {library: value} if library else value
            if not isinstance(named, Mapping):
                continue  # refused by name where the plan is edited
            said.update({n: LibraryVersion(str(v), Origin(SET_ORIGIN)) for n, v in named.items()})
    return replace(command, versions={**command.versions, **said}) if said else command


def versions_of(repository: Repository) -> dict[str, LibraryVersion]:
    """Return the versions that a repository's settings say its launches have."""
    return {
        name.partition(".")[2]: LibraryVersion(
            str(value), Origin(repository.place("plan", *name.split(".")))
        )
        for name, value in repository.plan.items()
        if name.startswith("versions.")
    }


def with_request(plan: LaunchPlan, request: Request) -> LaunchPlan:
    """Return the plan with the repository's values where it has none, and the caller's overrides."""
    plan = _with_repository(plan, request.repository)
    if request.on_this_node and not (plan.command is not None and plan.command.is_submitted):
        plan = replace(plan, on_this_node=True)
    settings = {n: v for n, v in request.settings.items() if not _was_read(n, plan)}
    for name in settings:
        # Before the edit: a value that cannot be is reported where it was given.
        plan = plan.with_origin(name.partition(".")[0], Origin(SET_ORIGIN))
    plan = plan.with_edits({**_following(plan, settings), **settings})
    plan = replace(plan, notices=(*_still_asked(plan, settings),))
    if request.device is not None:
        plan = replace(plan, device=request.device).with_origin(
            "device", Origin(request.device_origin)
        )
    return plan


def _still_asked(plan: LaunchPlan, settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is said of a launch, without what only asks for a value that the caller gave."""
    for notice in plan.notices:
        if notice.unpriced or not any(f"--set {name}=" in notice.fix for name in settings):
            yield notice


def _was_read(name: str, plan: LaunchPlan) -> bool:
    """Tell whether a value was asked for by the plan's reader already: versions decide what a launch means."""
    return name.partition(".")[0] == "versions" and plan.command is not None


def _following(plan: LaunchPlan, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the degrees that follow from an engine or a number of ranks that somebody sets without them."""
    names = ("engine", "world_size")
    if not any(name in settings and settings[name] != getattr(plan, name) for name in names):
        return {}
    engine, ranks = (settings.get(name, getattr(plan, name)) for name in names)
    if not isinstance(ranks, int) or engine not in ENGINES:
        return {}  # said as bad input by the edit itself
    divided = plan.ranks_per_sample
    is_whole = plan.engine == engine and plan.shard_degree not in (1, plan.world_size)
    return {} if divided > 1 or is_whole else degrees_of(engine, ranks)


def _with_repository(plan: LaunchPlan, repository: Repository) -> LaunchPlan:
    for name, value in repository.plan.items():
        if _was_read(name, plan):
            continue
        outer, _, inner = name.partition(".")
        origin = plan.origins.get(outer)
        is_said = origin is not None and not origin.assumed and not is_override(origin)
        if is_said or (inner and getattr(plan, outer) is not None and origin is None):
            continue
        plan = plan.with_edits({name: value})
        plan = plan.with_origin(outer, Origin(repository.place("plan", *name.split("."))))
    if plan.device is None and repository.device is not None:
        plan = replace(plan, device=repository.device)
        plan = plan.with_origin("device", Origin(repository.place("device")))
    return plan
