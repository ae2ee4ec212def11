"""What a wrapper does to a launch that preflight cannot see, or that decides the number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from preflight.errors import Problem
from preflight.shell.meaning.builtins import activates
from preflight.shell.starters.wrapper_options import CONTAINERS, ELSEWHERE

if TYPE_CHECKING:
    from preflight.shell.commands import ShellCommand

SUBMITTER = "submitter"
"""A Python script that starts what stands behind its `--`, here or elsewhere."""

BUILTINS = (
    "cd", "pushd", "export", "declare", "typeset", "unset", "set", "ulimit", "umask", "echo", "printf", "sleep",
    "true", ":", "mkdir", "date", "hostname", "nvidia-smi", "test", "[",
)  # fmt: skip
"""Commands in front of a launcher that change nothing that is read here, or whose change is followed."""


def notes_on(
    kind: str,
    given: Sequence[tuple[str, str]],
    argv: Sequence[str],
    start: int,
    before: Sequence[ShellCommand] = (),
    own: ShellCommand | None = None,
) -> Iterator[Problem]:
    """Yield what is not seen through one wrapper."""
    image = next((value for flag, value in given if flag == "--container-image"), None)
    if kind in CONTAINERS or image is not None:
        name = image if image is not None else argv[start - 1]
        yield Problem(
            f"the launch runs in the container {name}: files are read where its mounts have them, and those of this machine in place of the image's; its library versions are not known",
            "--container-image" if image is not None else kind,
            "put preflight in front of the launcher, inside the container",
            "PF130",
            "info",
        )
    elif kind in ELSEWHERE:
        yield Problem(
            f"{kind} starts it on other machines: their library versions and files are not seen, those of this folder are taken",
            kind,
            "",
            "PF130",
            "info",
        )
    elif kind == SUBMITTER:
        script = given[0][0]
        yield Problem(
            f"{script} starts what stands behind --: what it sets for it, and on how many nodes, is not seen",
            script,
            "put preflight in front of the launcher, behind the --",
            "PF130",
            "info",
        )
    for command in before:
        words = command.argv
        if words and words[0] not in BUILTINS and not activates(words):
            yield Problem(
                f"`{shortened(words, 50)}` runs in front of the launcher, and what it changes is not seen",
                "bash -c",
                "put preflight in front of the launcher, inside the quotes",
                "PF131",
                "info",
            )
    if own is not None and own.unknown:
        names = ", ".join(own.unknown)
        yield Problem(
            f"{names} is not known here: only the shell that runs the command can fill it in",
            "bash -c",
            "set it in the shell that runs preflight",
            "PF131",
            "info",
        )


def rank_environment(given: Sequence[tuple[str, str]], env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which srun tells its tasks how many they are, as far as options and job say."""

    def number(*names: str) -> int | None:
        for flag, value in reversed(given):
            if flag in names:
                first = value.partition("-")[0]
                return int(first) if first.isdecimal() else None
        return None

    def of_job(name: str) -> int | None:
        text = env.get(name, "")
        return int(text) if text.isdecimal() else None

    nodes = number("-N", "--nodes") or of_job("SLURM_NNODES")
    per_node = number("--ntasks-per-node")
    tasks = number("-n", "--ntasks")
    if tasks is None and per_node is not None and nodes is not None:
        tasks = per_node * nodes
    if tasks is None:
        tasks = of_job("SLURM_NTASKS") if per_node is None else per_node
    if tasks is None:
        tasks = nodes or 1
    values = {"SLURM_NTASKS": str(tasks), "SLURM_STEP_NUM_TASKS": str(tasks)}
    if nodes is not None:
        values["SLURM_NNODES"] = str(nodes)
    return values


def shortened(words: Sequence[str], most: int) -> str:
    """Return words as one text of at most so many characters."""
    text = " ".join(words)
    return text if len(text) <= most else text[: most - 3] + "..."
