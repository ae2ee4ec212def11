"""The options of the `deepspeed` launcher and the slots that it starts ranks on.

Source: parse_args, fetch_hostfile, parse_resource_filter and main of DeepSpeed 0.19.8
(deepspeed/launcher/runner.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from preflight.errors import BadInput, Problem, raise_if_any
from preflight.formats.load import launch_text
from preflight.launch import LaunchCommand
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import ParsedOptions
from preflight.shell.starters.option_table import options_of
from preflight.shell.starters.variables import num_visible_devices
from preflight.values import dataclass

DEFAULT_HOSTFILE = "/job/hostfile"
EXPORTED_PREFIXES = ("MLFLOW", "PYTHON", "MV2", "UCX", "NCCL")
"""Variables of the caller that ranks on several nodes get (EXPORT_ENVS, and NCCL of the CUDA accelerator)."""
ENVIRONMENT_FILE = ".deepspeed_env"
DEFAULT = Place("default", "", "deepspeed")

OPTIONS = options_of("deepspeed")

MOST_DEVICES = 1 << 16
"""Of a host; a rank is written out for each."""


@dataclass(frozen=True)
class Slots:
    """Which devices of which hosts get a rank."""

    hosts: Mapping[str, tuple[int, ...]]
    place: Place
    """What decided the number of ranks."""
    nodes_place: Place
    is_counted_here: bool = False
    """The GPUs of this machine were counted."""
    spans_nodes: bool = False
    """Started through pdsh, MPI or Slurm: the caller's variables stay behind."""
    is_unknown: bool = False
    """Nobody gave a number and this machine shows no GPU to count: one stands for any number of them."""

    @property
    def num_ranks(self) -> int:
        return sum(len(slots) for slots in self.hosts.values())


def read_slots(command: LaunchCommand, options: ParsedOptions) -> Slots:
    """Return the slots that the launcher takes; raise BadInput where it would refuse."""
    given = options.given
    path = str(options.value("hostfile", DEFAULT_HOSTFILE))
    pool = _hostfile(command, path)
    include, exclude = given.get("include"), given.get("exclude")
    num_nodes, num_gpus = options.value("num_nodes", -1), options.value("num_gpus", -1)
    visible = command.env.get("CUDA_VISIBLE_DEVICES", "")
    has_filter = include is not None or exclude is not None
    if pool is None and visible and not (has_filter or num_nodes > 1 or num_gpus > 0):
        include = Setting(f"localhost:{visible}", Place("env", "", "CUDA_VISIBLE_DEVICES"))
    if (num_nodes >= 0 or num_gpus >= 0) and has_filter:
        flag = include or exclude
        assert flag is not None
        both = f"{flag.place.where} and --num_nodes or --num_gpus cannot be combined"
        raise _refused(both, flag)
    if include is not None and exclude is not None:
        raise _refused("--include and --exclude cannot be combined", include)
    flag = include or exclude
    named = None if flag is None or not flag.value else _named(flag)
    if pool is None and not command.starts_here:
        elsewhere = _listed_elsewhere(options, named or {}, bool(include))
        if elsewhere is not None:
            return elsewhere
    is_counted = is_unknown = False
    place = nodes_place = given["hostfile"].place if "hostfile" in given else DEFAULT
    if pool is None:
        if num_nodes > 1:
            needs = f"--num_nodes {num_nodes} needs a hostfile, and there is none at {path}"
            raise _refused(needs, given["num_nodes"])
        count = _local_devices(command, include, num_gpus)
        is_unknown = count == 0
        pool, is_counted = {"localhost": count or 1}, True
    else:
        place = nodes_place = Place("yaml", path, "slots") if "hostfile" not in given else place
    if max(num_gpus, *pool.values(), 0) > MOST_DEVICES:
        counted = given.get("num_gpus") or Setting("", place)
        raise _refused(f"no host has more than {MOST_DEVICES:,} devices", counted)
    hosts = {host: tuple(range(count)) for host, count in pool.items()}
    if flag is not None and named is not None:
        hosts = _filtered(hosts, named, flag, include is not None)
        place = nodes_place = flag.place
        is_counted = is_counted and include is None
    if num_nodes > 0:
        hosts = dict(list(hosts.items())[:num_nodes])
        nodes_place = given["num_nodes"].place
        place = nodes_place
    if num_gpus > 0:
        hosts = {host: tuple(range(num_gpus)) for host in hosts}
        place, is_counted, is_unknown = given["num_gpus"].place, False, False
    if not hosts:
        raise _refused("no device is left to start a rank on", flag or Setting("", DEFAULT))
    spans = (len(hosts) > 1 or bool(options.value("force_multi"))) and not options.value("no_ssh")
    return Slots(hosts, place, nodes_place, is_counted, spans, is_unknown)


def _listed_elsewhere(
    options: ParsedOptions, named: Mapping[str, Sequence[int]], includes: bool
) -> Slots | None:
    """Return the slots of hosts that a hostfile on the machine of the launch lists; None where it needs none.

    Where it starts without such a file DeepSpeed refuses it, which is known of this machine alone.
    """
    num_nodes, num_gpus = options.value("num_nodes", -1), options.value("num_gpus", -1)
    if num_nodes > 1:
        place = options.given["num_nodes"].place
        each = tuple(range(max(1, num_gpus)))
        hosts = {f"host {number}": each for number in range(1, num_nodes + 1)}
        return Slots(hosts, place, place, spans_nodes=True, is_unknown=num_gpus < 1)
    others = [host for host in named if host != "localhost"]
    if not others:
        return None
    place = options.given["include" if includes else "exclude"].place
    hosts = {host: tuple(sorted(set(slots))) for host, slots in named.items()}
    if not includes or not all(hosts.values()):
        return Slots({others[0]: (0,)}, place, place, is_unknown=True)
    spans = len(hosts) > 1 and not options.value("no_ssh")
    return Slots(hosts, place, place, spans_nodes=spans)


def _refused(message: str, setting: Setting, fix: str = "") -> BadInput:
    return BadInput.one(message, setting.place.where, fix, "PF111")


def _hostfile(command: LaunchCommand, path: str) -> dict[str, int] | None:
    """Return host -> slots; None where there is no file. Raise BadInput with every line that is wrong."""
    if not command.exists(path):
        return None
    pool: dict[str, int] = {}
    problems: list[Problem] = []
    for number, line in enumerate(launch_text(command, path).splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = re.match(r"(\S+)\s+slots=(\d{1,9})\b", line)
        where = f"{path}:{number}"
        if match is None:
            problems.append(Problem(f"not a host: {line}", where, "NAME slots=N", "PF111"))
        elif match[1] in pool:
            problems.append(
                Problem(f"{match[1]} is listed twice", where, "one line per host", "PF111")
            )
        else:
            pool[match[1]] = int(match[2])
    if not pool and not problems:
        problems.append(Problem("the hostfile names no host", path, "NAME slots=N", "PF111"))
    raise_if_any(problems)
    return pool


def _local_devices(command: LaunchCommand, include: Setting | None, num_gpus: int) -> int:
    """Return how many devices this machine has for the launcher; what the command asks for where none is seen."""
    # The launcher forgets CUDA_VISIBLE_DEVICES before it counts.
    rest = {name: text for name, text in command.env.items() if name != "CUDA_VISIBLE_DEVICES"}
    count = num_visible_devices(rest)
    if count == 0 and num_gpus > 0:
        return num_gpus
    if count == 0 and include is not None:
        slots = re.findall(r"\d+", str(include.value).partition(":")[2])
        return max(map(int, slots), default=-1) + 1
    return count


def _named(flag: Setting) -> dict[str, list[int]]:
    """Return host -> the slots that a filter names, none for all of them."""
    named: dict[str, list[int]] = {}
    try:
        for node in str(flag.value).split("@"):
            host, colon, listed = node.partition(":")
            named.setdefault(host, [])
            if colon:
                named[host] += [int(slot) for slot in listed.split(",")]
    except ValueError as error:
        wrong = f"{flag.place.where} must be HOST:0,1@HOST, not {flag.value!r}"
        raise _refused(wrong, flag, "numbers behind the colon: localhost:0,1") from error
    return named


def _filtered(
    hosts: Mapping[str, tuple[int, ...]],
    named: Mapping[str, Sequence[int]],
    flag: Setting,
    is_include: bool,
) -> dict[str, tuple[int, ...]]:
    result = {} if is_include else dict(hosts)
    for host, slots in named.items():
        if host not in hosts:
            raise _refused(f"{host} is not in the hostfile", flag, f"one of {', '.join(hosts)}")
        missing = [slot for slot in slots if slot not in hosts[host]]
        if missing:
            raise _refused(f"{host} has no device {missing[0]}", flag)
        chosen = tuple(sorted(set(slots))) or hosts[host]
        if is_include:
            result[host] = chosen
        else:
            result[host] = tuple(slot for slot in hosts[host] if slot not in chosen)
    return {host: result[host] for host in hosts if result.get(host)}


def rank_variables(command: LaunchCommand, slots: Slots) -> dict[str, str]:
    """Return the variables that every rank has: the caller's, or on several nodes the few that are exported."""
    if not slots.spans_nodes:
        return dict(command.env)
    kept = {n: text for n, text in command.env.items() if n.startswith(EXPORTED_PREFIXES)}
    for folder in ("~", "."):
        path = f"{folder}/{command.env.get('DS_ENV_FILE', ENVIRONMENT_FILE)}"
        if command.exists(path):
            lines = launch_text(command, path).splitlines()
            kept.update((k, v) for k, e, v in (line.partition("=") for line in lines) if e)
    return kept
