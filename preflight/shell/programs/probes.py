"""What a job asks of its machine and gets told: hosts, addresses, GPUs, users, paths, counts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from preflight.shell.grammar.arithmetic import NoNumber
from preflight.shell.grammar.patterns import NoPattern, regex
from preflight.shell.grammar.text import (
    EMPTY,
    Text,
    Unknown,
    all_known,
    joined,
    known,
    text_of_parts,
)
from preflight.shell.meaning.state import State

ADDRESS = "10.0.0.1"
"""Stands for the address of the first node, which only the job knows."""
MOST_NUMBERS = 10_000


def hostname(words: list[Text], state: State) -> Text | None:
    is_address = {word.known for word in words} & {"-i", "-I", "--ip-address", "--all-ip-addresses"}
    nodes = state.world.nodes
    if not nodes:
        return None
    return known(f"{ADDRESS if is_address else nodes[0]}\n")


def scontrol(words: list[Text], state: State) -> Text | None:
    """`scontrol show hostnames`: the job's nodes, or the one host that is named."""
    asked = [word.known for word in words if not (word.known or "").startswith("-")]
    if asked[:1] != ["show"] or asked[1:2] not in (["hostnames"], ["hostname"]):
        return None
    if not state.world.nodes:
        return None
    listed = asked[2] if len(asked) > 2 else state.known("SLURM_JOB_NODELIST")
    if listed is None:
        return None
    if listed in (state.known("SLURM_JOB_NODELIST"), state.known("SLURM_NODELIST")):
        return known("".join(f"{node}\n" for node in state.world.nodes))
    return None if "[" in listed else known(listed.replace(",", "\n") + "\n")


def getent(words: list[Text], state: State) -> Text | None:
    if state.world.is_partial or not words or words[0].known not in ("hosts", "ahosts", "ahostsv4"):
        return None
    return known(f"{ADDRESS} STREAM ") + words[-1] + known("\n")


def gpus(words: list[Text], state: State) -> Text | None:
    """`nvidia-smi`: a line for each GPU of the job, known where the question is its number."""
    number = state.known("SLURM_GPUS_ON_NODE") or ("0" if _is_of_job(state) else "")
    options = all_known(words) or []
    if not number.isdecimal() or len(number) > 4:
        return None
    if {"-L", "--list-gpus"} & set(options):
        lines = [f"GPU {i}: NVIDIA (UUID: GPU-{i})" for i in range(int(number))]
        return known("".join(f"{line}\n" for line in lines))
    asked = next((word for word in options if word.startswith("--query-gpu=")), "")
    if not asked or not any("noheader" in word for word in options):
        return None
    parts: list[str | Unknown] = []
    for index in range(int(number)):
        if asked == "--query-gpu=index":
            parts.append(f"{index}\n")
        elif asked == "--query-gpu=count":
            parts.append(f"{number}\n")
        else:
            parts += [Unknown("nvidia-smi", is_line=True), "\n"]
    return text_of_parts(parts)


def _is_of_job(state: State) -> bool:
    """Tell whether what a job was given is known: outside of one the answer is another machine's than the one that asks."""
    return not state.world.is_partial and state.get("SLURM_JOB_ID") is not None


def nproc(words: list[Text], state: State) -> Text | None:
    number = state.known("SLURM_CPUS_ON_NODE") or ("1" if _is_of_job(state) else "")
    return known(f"{number}\n") if number else None


def whoami(words: list[Text], state: State) -> Text | None:
    return state.text("USER") + known("\n") if state.text("USER") != EMPTY else None


def identity(words: list[Text], state: State) -> Text | None:
    flags = "".join(word.known or "" for word in words).replace("-", "")
    if set(flags) == {"u", "n"}:
        return whoami(words, state)
    return None


def _plain(words: list[Text]) -> list[str] | None:
    """Return the words behind a `--`; None where one is an option, or not known."""
    known_words = all_known(words) or []
    plain = known_words[1:] if known_words[:1] == ["--"] else known_words
    return None if not plain or any(word.startswith("-") for word in plain) else plain


def basename(words: list[Text], state: State) -> Text | None:
    options = _plain(words)
    if options is None:
        return None
    base = os.path.basename(options[0].rstrip("/")) or options[0][:1]
    if len(options) > 1 and base != options[1]:
        base = base.removesuffix(options[1])
    return known(base + "\n")


def dirname(words: list[Text], state: State) -> Text | None:
    options = _plain(words)
    if options is None:
        return None
    folders = (os.path.dirname(word.rstrip("/")) or ("/" if word[:1] == "/" else ".") for word in options)  # fmt: skip
    return known("".join(f"{folder.rstrip('/') or '/'}\n" for folder in folders))


def realpath(words: list[Text], state: State) -> Text | None:
    paths = [word for word in words if not (word.known or "").startswith("-")]
    path = state.path(paths[-1]) if paths else None
    if path is None:
        return None
    return known((os.path.realpath(path) if state.world.files.opens else path) + "\n")


def which(words: list[Text], state: State) -> Text | None:
    """A program keeps its name: where it lies is for the compute node to say."""
    names = [word for word in words if not (word.known or "").startswith("-")]
    return joined([name + known("\n") for name in names], "") if names else None


def typed(words: list[Text], state: State) -> Text | None:
    return which(words, state) if words and words[0].known in ("-P", "-p") else None


def printenv(words: list[Text], state: State) -> Text | None:
    name = words[0].known if len(words) == 1 else None
    if name is None or name not in state.exported:
        return None
    return state.text(name) + known("\n")


def seq(words: list[Text], state: State) -> Text | None:
    options = all_known(words)
    separator, width = "\n", False
    while options and options[0][:1] == "-" and not options[0][1:2].isdigit():
        word = options.pop(0)
        if word == "-w":
            width = True
        elif word == "-s" and options:
            separator = options.pop(0)
        elif word.startswith("-s"):
            separator = word[2:]
        else:
            return None
    if not options or len(options) > 3 or not all(re.fullmatch(r"-?\d{1,12}", one) for one in options):  # fmt: skip
        return None
    numbers = [int(word) for word in options]
    low = numbers[0] if len(numbers) > 1 else 1
    step = numbers[1] if len(numbers) == 3 else 1
    if not step or abs(numbers[-1] - low) // abs(step) > MOST_NUMBERS:
        return None
    found = range(low, numbers[-1] + (1 if step > 0 else -1), step)
    size = max((len(str(number)) for number in found), default=0) if width else 0
    return known(separator.join(f"{number:0{size}d}" for number in found) + "\n") if found else EMPTY  # fmt: skip


def expr(words: list[Text], state: State) -> Text | None:
    options = all_known(words)
    if not options:
        return None
    try:
        if len(options) == 3 and options[1] == ":":
            match = regex("^" + options[2].removeprefix("^"), False).search(options[0], state.world.steps)  # fmt: skip
            if match is None:
                return None
            start, end = match.groups[0] or (0, 0) if match.groups else (0, 0)
            return known((options[0][start:end] if match.groups else str(match.end)) + "\n")
        if all(re.fullmatch(r"-?\d+|[-+*/%()<>=]|[<>!]=|[&|]", word) for word in options):
            number = state.number(known(" ".join("==" if word == "=" else word for word in options)))  # fmt: skip
            return None if number is None else known(f"{number}\n")
    except (NoNumber, NoPattern):
        pass
    return None


def listing(words: list[Text], state: State) -> Text | None:
    """`ls`: names in order; in any other order, or with more about each, they are not known."""
    options = all_known(words)
    if options is None:
        return None
    flags = "".join(word[1:] for word in options if word.startswith("-"))
    paths = [word for word in options if not word.startswith("-")]
    if set(flags) - set("1d"):
        return None
    files, found = state.world.files, []
    for path in paths or ["."]:
        absolute = state.path(known(path))
        if absolute is None or not files.exists(absolute):
            return None
        if files.is_folder(absolute) and "d" not in flags:
            if len(paths) > 1:
                return None
            found += files.matching(absolute, "*", state.world.steps)
        else:
            found.append(path)
    return known("".join(f"{name}\n" for name in found))


PROBES: dict[str, Callable[[list[Text], State], Text | None]] = {
    "hostname": hostname,
    "scontrol": scontrol,
    "getent": getent,
    "nvidia-smi": gpus,
    "nproc": nproc,
    "whoami": whoami,
    "id": identity,
    "basename": basename,
    "dirname": dirname,
    "realpath": realpath,
    "readlink": realpath,
    "which": which,
    "type": typed,
    "printenv": printenv,
    "seq": seq,
    "expr": expr,
    "ls": listing,
}
"""Program -> what it prints for its words; None: not known."""
