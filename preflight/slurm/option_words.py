"""The words of sbatch, srun and salloc cut into options and the rest, as their getopt_long does it.

Sources: `--help` and the manual pages of Slurm 24.11 (November 2026), and pyxis 0.20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.shell.starters.wrapper_options import OPTIONS
from preflight.values import dataclass

SHORT = {
    "A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "F": "nodefile", "G": "gpus",
    "H": "hold", "I": "immediate", "J": "job-name", "K": "kill-on-bad-exit", "L": "licenses", "M": "clusters",
    "N": "nodes", "O": "overcommit", "Q": "quiet", "S": "core-spec", "T": "threads", "V": "version", "W": "wait",
    "X": "disable-status", "Z": "no-allocate", "E": "preserve-env", "a": "array", "b": "begin", "c": "cpus-per-task",
    "d": "dependency", "e": "error", "h": "help", "i": "input", "k": "no-kill", "l": "label", "m": "distribution",
    "n": "ntasks", "o": "output", "p": "partition", "q": "qos", "r": "relative", "s": "oversubscribe", "t": "time",
    "u": "unbuffered", "v": "verbose", "w": "nodelist", "x": "exclude",
}  # fmt: skip
"""One-letter option -> its long name."""

VALUES = frozenset(
    name[2:] for name in OPTIONS["srun"].values if name.startswith("--")
) | frozenset(
    ["array", "batch", "nodefile", "segment", "wrap", "wckey", "container-mount-home-from"]
)
"""Long options that take the next word unless `=` gives the value."""
OPTIONAL = frozenset(
    [
        "compress", "exclusive", "get-user-env", "immediate", "kill-command", "kill-on-bad-exit", "nice", "no-kill",
        "oom-kill-step", "propagate", "pty", "resv-ports", "send-libs", "x11",
    ]
)  # fmt: skip
"""Long options whose value, if any, must be glued on."""
FLAGS = frozenset(
    name[2:] for name in OPTIONS["srun"].flags if name.startswith("--") and len(name) > 3
) | frozenset(
    [
        "autocomplete",
        "bell",
        "contiguous",
        "help",
        "hold",
        "ignore-pbs",
        "no-bell",
        "no-requeue",
        "no-shell",
        "overcommit",
        "parsable",
        "quiet",
        "reboot",
        "requeue",
        "spread-job",
        "test-only",
        "usage",
        "use-min-nodes",
        "verbose",
        "version",
    ]
)
ONLY_BATCH_FLAGS = frozenset({"wait"})
"""Options of sbatch without a value that take one in srun."""


@dataclass(frozen=True)
class OptionWord:
    """One option as it was written."""

    name: str
    """Long name without dashes."""
    value: str | None
    where: str
    """`--gpus-per-node=8`, `SBATCH_GRES`, `job.sh:4`."""
    is_known: bool = True


@dataclass(frozen=True)
class SplitWords:
    """A command line of sbatch, srun or salloc, component by component of a heterogeneous job."""

    components: tuple[tuple[OptionWord, ...], ...]
    rest: tuple[str, ...]
    """The script or program, and its arguments."""
    first_rest: int
    """Index of the first word of `rest` in the command line."""


def split_words(
    words: Sequence[str], program: str = "sbatch", where: str = "", is_script: bool = False
) -> SplitWords:
    """Cut a command line into options and the rest; `where` stands for the word where it is given.

    In a `#SBATCH` line there is no rest: what is no option is skipped, as sbatch does.
    """
    components: list[list[OptionWord]] = [[]]
    index = 0
    while index < len(words):
        word = words[index]
        if word == ":":
            components.append([])
            index += 1
            continue
        if word == "--":
            index += 1
            break
        if not word.startswith("-") or word == "-":
            if is_script:
                index += 1
                continue
            break
        found, used = _options_of(words, index, program, where)
        components[-1].extend(found)
        index += used
    return SplitWords(
        tuple(tuple(component) for component in components), tuple(words[index:]), index
    )


def _options_of(
    words: Sequence[str], index: int, program: str, where: str
) -> tuple[list[OptionWord], int]:
    """Return the options of one word, and how many words they take."""
    word = words[index]
    following = words[index + 1] if index + 1 < len(words) else None
    if word.startswith("--"):
        given, equals, value = word[2:].partition("=")
        name = _whole_name(given)
        place = where or word
        if name is None:
            return [OptionWord(given, value if equals else None, place, is_known=False)], 1
        if equals or not _takes_value(name, program):
            return [OptionWord(name, value if equals else None, place)], 1
        return [OptionWord(name, following, where or f"{word} {following or ''}".strip())], 2
    found: list[OptionWord] = []
    letters = word[1:]
    while letters:
        name = SHORT.get(letters[0])
        place = where or word
        if name is None:
            return [*found, OptionWord(letters, None, place, is_known=False)], 1
        rest = letters[1:]
        if name in OPTIONAL:
            return [*found, OptionWord(name, rest or None, place)], 1
        if _takes_value(name, program):
            if rest:
                return [*found, OptionWord(name, rest, place)], 1
            return [*found, OptionWord(name, following, where or f"{word} {following or ''}")], 2
        found.append(OptionWord(name, None, place))
        letters = rest
    return found, 1


def _takes_value(name: str, program: str) -> bool:
    if program == "sbatch" and name in ONLY_BATCH_FLAGS:
        return False
    return name in VALUES


def _whole_name(given: str) -> str | None:
    """Return the option that a name stands for: itself, or the only one that it begins."""
    every = VALUES | OPTIONAL | FLAGS
    if given in every:
        return given
    near = [name for name in every if name.startswith(given)]
    return near[0] if given and len(near) == 1 else None


INPUT_VARIABLES = {
    "ACCOUNT": "account", "ARRAY_INX": "array", "CONSTRAINT": "constraint", "CPUS_PER_GPU": "cpus-per-gpu",
    "EXCLUSIVE": "exclusive", "EXPORT": "export", "GPUS": "gpus", "GPUS_PER_NODE": "gpus-per-node",
    "GPUS_PER_SOCKET": "gpus-per-socket", "GPUS_PER_TASK": "gpus-per-task", "GRES": "gres", "JOB_NAME": "job-name",
    "MEM_PER_CPU": "mem-per-cpu", "MEM_PER_GPU": "mem-per-gpu", "MEM_PER_NODE": "mem", "PARTITION": "partition",
    "QOS": "qos", "RESERVATION": "reservation", "TIMELIMIT": "time", "TRES_PER_TASK": "tres-per-task",
}  # fmt: skip
"""Environment variable without its prefix -> the option that it stands for (manual pages, INPUT ENVIRONMENT VARIABLES)."""
OF_SRUN_ALONE = {
    "CPUS_PER_TASK": "cpus-per-task",
    "EXPORT_ENV": "export",
    "JOB_NUM_NODES": "nodes",
    "NNODES": "nodes",
    "NTASKS": "ntasks",
    "NTASKS_PER_NODE": "ntasks-per-node",
    "REMOTE_CWD": "chdir",
}
PREFIXES = {"sbatch": "SBATCH_", "srun": "SLURM_", "salloc": "SALLOC_"}


def options_of_environment(env: Mapping[str, str], program: str) -> tuple[OptionWord, ...]:
    """Return the options that a program takes from its environment."""
    prefix = PREFIXES[program]
    known = {**INPUT_VARIABLES, **(OF_SRUN_ALONE if program == "srun" else {})}
    return tuple(
        OptionWord(name, env[prefix + variable], prefix + variable)
        for variable, name in known.items()
        if prefix + variable in env
    )
