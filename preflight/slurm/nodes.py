"""The nodes that a job may get, and the GPUs it would have there: what a submission is judged for.

    inventory = read_inventory()
    found = candidates(options, inventory, site_map(env))
    judged = judge_candidates(found, answer_for)  # of a DeviceSpec

Every node that the options admit counts, busy and drained ones too: nobody knows which one a job gets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import Enum

from preflight.device import DeviceSpec
from preflight.files import read_text
from preflight.slurm.constraints import read_constraint
from preflight.slurm.gpu_memory import NO_MAP, GpuMemory, SiteMap, device_words, gpu_memory
from preflight.slurm.hostlist import host_list, host_names
from preflight.slurm.inventory import Inventory, Node
from preflight.slurm.options import SubmitOptions
from preflight.values import dataclass
from preflight.verdict import Answer

NEVER = ("FUTURE", "FUTR")
"""States of nodes that do not exist yet."""


@dataclass(frozen=True)
class GpuGroup:
    """GPUs of one type and memory, and the candidates that have them."""

    type: str
    """GRES type, lower case; empty where the site gave none."""
    memory: GpuMemory | None
    """None where nothing tells how much they have."""
    nodes: tuple[Node, ...]
    num_gpus_per_node: int
    """GPUs that the job would have on the node of these that gives it the fewest."""

    @property
    def words(self) -> str:
        """Say which nodes and what GPUs: `a100-01 (a100, 39.4 GiB)`."""
        names = host_list(node.name for node in self.nodes)
        if self.memory is None:
            return f"{names} ({self.type or 'GPUs of no type'}, memory not known)"
        low, high = (
            f"{size.capacity_bytes / (1 << 30):.1f}" for size in (self.memory.low, self.memory.high)
        )
        size = low if low == high else f"{low} to {high}"
        return f"{names} ({self.type or 'GPU'}, {size} GiB)"


@dataclass(frozen=True)
class Candidates:
    """What one component of a job may get."""

    groups: tuple[GpuGroup, ...]
    """Largest certain memory first; those of unknown memory last."""
    nodes: tuple[Node, ...]
    """Every node that the options admit, GPUs asked for or not."""
    assumed: tuple[str, ...] = ()
    """What nobody said and what is taken for it: `partition gpu, the default of the cluster`."""
    not_understood: tuple[str, ...] = ()
    """Options that could not be read and were left out, as written."""


def candidates(
    options: SubmitOptions, inventory: Inventory, site: SiteMap = NO_MAP, cwd: str = "."
) -> Candidates:
    """Return the nodes that may run a component of a job, by the GPUs it would have there."""
    assumed: list[str] = []
    unread: list[str] = []
    partitions = options.partitions
    if not partitions:
        default = inventory.default_partition
        if default is not None:
            partitions = (default,)
            assumed.append(f"partition {default}, the default of the cluster")
        else:
            assumed.append("any partition: none is named, and the cluster has no default")
    admits = _constraint(options, unread)
    wanted = _names(options.nodelist, options, "nodelist", cwd, unread)
    excluded = _names(options.exclude, options, "exclude", cwd, unread) or frozenset()
    is_whole = options.exclusive or any(
        inventory.partitions[name].is_exclusive
        for name in partitions
        if name in inventory.partitions
    )
    wanted_partitions = frozenset(partitions)
    chosen: list[Node] = []
    groups: dict[tuple[str, str], list[tuple[Node, int]]] = {}
    memories: dict[tuple[str, str], GpuMemory | None] = {}
    # A cluster has thousands of nodes, and few kinds of them.
    kinds: dict[tuple[object, ...], tuple[str, GpuMemory | None]] = {}
    for node in inventory.nodes:
        if node.state.upper().startswith(NEVER) or node.name in excluded:
            continue
        if partitions and not wanted_partitions.intersection(node.partitions):
            continue
        if not admits(node):
            continue
        # A job gets all nodes of its list, and others too where it wants more of them.
        if wanted and node.name not in wanted and len(wanted) >= options.num_nodes:
            continue
        gpus = gpus_on(options, node, is_whole)
        if gpus is None:
            continue
        chosen.append(node)
        for type_, count in gpus.items():
            kind = (type_, node.features, len(node.gpus))
            if kind not in kinds:
                memory = gpu_memory(type_, node.features, site, is_only_type=len(node.gpus) == 1)
                kinds[kind] = ("" if memory is None else repr((memory.low, memory.high)), memory)
            key = (type_, kinds[kind][0])
            memories[key] = kinds[kind][1]
            groups.setdefault(key, []).append((node, count))
    if options.gpus and options.min_nodes is None and options.ntasks is None:
        assumed.append("at least one GPU on a node: --gpus leaves their number to the scheduler")
    found = [
        GpuGroup(
            key[0],
            memories[key],
            tuple(node for node, _ in members),
            min(count for _, count in members),
        )
        for key, members in groups.items()
    ]
    found.sort(key=lambda group: -group.memory.low.capacity_bytes if group.memory else 1)
    return Candidates(tuple(found), tuple(chosen), tuple(assumed), tuple(unread))


def candidates_with(device: DeviceSpec, options: SubmitOptions) -> Candidates:
    """Return one node that has as many GPUs of a kind as a component of a job asks for, whatever cluster it is for."""
    asked = options.num_gpus_per_node or sum(gpu.count for gpu in options.requested_gpus)
    nodes = (Node("any-node"),)  # a word: job scripts cut lists of nodes at blanks
    if not options.wants_gpus:
        return Candidates((), nodes)
    memory = GpuMemory(device, device, "--device")
    return Candidates((GpuGroup(device.key or device.name, memory, nodes, asked or 1),), nodes)


def gpus_on(options: SubmitOptions, node: Node, is_whole: bool) -> dict[str, int] | None:
    """Return the GPUs by type that a job would have on a node; None where the node cannot give them.

    Where any type will do, one that could serve alone is as good as another.
    """
    there = {gpu.type: gpu.count for gpu in node.gpus}
    asked: dict[str, int] = {}
    for gpu in options.requested_gpus:
        asked[gpu.type.lower()] = asked.get(gpu.type.lower(), 0) + gpu.count
    if not asked:
        return there if is_whole else {}
    per_node = options.num_gpus_per_node
    if options.gpus and options.min_nodes is None:
        per_node = None  # as many nodes as it takes
    named = [type_ for type_ in asked if type_]
    if not named:
        least = per_node or 1
        if sum(there.values()) < least:
            return None
        alone = {type_: count for type_, count in there.items() if count >= least}
        able = alone or there
        return {type_: count if is_whole else min(count, least) for type_, count in able.items()}
    counts = {gpu.type.lower(): gpu.count for gpu in options.gpus_per_node}
    for type_ in named:
        if len(named) == 1:
            counts[type_] = per_node or 1
        if there.get(type_, 0) < counts.setdefault(type_, 1):
            return None
    if is_whole:
        return {type_: there[type_] for type_ in named}
    return {type_: counts[type_] for type_ in named}


def _constraint(options: SubmitOptions, unread: list[str]) -> Callable[[Node], bool]:
    if not options.constraint:
        return lambda node: True
    try:
        constraint = read_constraint(options.constraint)
    except ValueError:
        unread.append(f"--constraint={options.constraint}")
        return lambda node: True
    known: dict[tuple[str, ...], bool] = {}

    def admits(node: Node) -> bool:
        if node.features not in known:
            known[node.features] = constraint.admits(node.features, options.num_nodes)
        return known[node.features]

    return admits


def _names(
    text: str | None, options: SubmitOptions, field: str, cwd: str, unread: list[str]
) -> frozenset[str] | None:
    """Return the hosts of an option, which may name a file of them (a name with a slash)."""
    if not text:
        return None
    try:
        if "/" in text:
            text = ",".join(read_text(os.path.join(cwd, text), 1 << 20).split())
        return frozenset(host_names(text))
    except (OSError, ValueError):
        unread.append(options.origins.get(field, f"--{field}={text[:60]}"))
        return None


class Fit(Enum):
    """What is known of a launch on GPUs whose memory may be a range."""

    FITS = "fits"
    MAYBE = "may fit"
    """It fits the largest card that these may be, and not the smallest."""
    DOES_NOT_FIT = "does not fit"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class Judged:
    """Each group of candidates with its answer."""

    fits: tuple[tuple[GpuGroup, Fit], ...]

    def groups(self, *wanted: Fit) -> tuple[GpuGroup, ...]:
        """Return the groups with one of some answers."""
        return tuple(group for group, fit in self.fits if fit in wanted)

    @property
    def refuses(self) -> bool:
        """Whether a launch surely fits on none of the nodes that the job may get."""
        return bool(self.fits) and all(fit is Fit.DOES_NOT_FIT for _, fit in self.fits)

    @property
    def is_mixed(self) -> bool:
        """Whether it depends on the node: some candidates surely do not do, others may."""
        return bool(self.groups(Fit.DOES_NOT_FIT)) and not self.refuses


def judge_candidates(found: Candidates, answer_for: Callable[[DeviceSpec], Answer]) -> Judged:
    """Judge a launch on every group; `answer_for` is asked once for every size of a device."""
    answers: dict[str, Answer] = {}

    def answer(device: DeviceSpec) -> Answer:
        words = device_words(device)
        if words not in answers:
            answers[words] = answer_for(device)
        return answers[words]

    judged = []
    for group in found.groups:
        if group.memory is None:
            judged.append((group, Fit.UNKNOWN))
            continue
        low = answer(group.memory.low)
        high = low
        if low is Answer.DOES_NOT_FIT and group.memory.is_range:
            high = answer(group.memory.high)
        judged.append((group, fit_of(low, high)))
    return Judged(tuple(judged))


def fit_of(low: Answer, high: Answer) -> Fit:
    """Return what the answers for the smallest and the largest possible card say together."""
    if low in (Answer.FITS, Answer.TIGHT):
        return Fit.FITS
    if low is Answer.UNKNOWN:
        return Fit.UNKNOWN
    return Fit.DOES_NOT_FIT if high is Answer.DOES_NOT_FIT else Fit.MAYBE


def site_map_path(env: Mapping[str, str]) -> str | None:
    """Return the file in which a site says what its GPUs are: `$PREFLIGHT_SITE`, else beside slurm.conf."""
    named = env.get("PREFLIGHT_SITE")
    if named:
        return named
    conf = env.get("SLURM_CONF") or "/etc/slurm/slurm.conf"
    beside = os.path.join(os.path.dirname(conf), "preflight-site.yaml")
    return beside if os.path.isfile(beside) else None


def site_map(env: Mapping[str, str]) -> SiteMap:
    """Return what the site says of its GPUs; raise BadInput for a file with anything else in it."""
    path = site_map_path(env)
    if path is None:
        return NO_MAP
    from preflight.slurm.site_file import read_site_map

    return read_site_map(path)
