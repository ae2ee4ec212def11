"""What a few commands print inside `$(...)`, known without running them: the host list, a path's parts, a count."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from preflight.shell.tree import CannotRead, Simple, shell_tree
from preflight.shell.values import Unknown, Variables, arithmetic, expand, text_of, unmarked

ADDRESS = "10.0.0.1"


def output_of(
    text: str, variables: Variables, nodes: Sequence[str], cwd: str, files: Mapping[str, str]
) -> str | None:
    """Return what a pipeline of simple commands prints; None where it is not known."""
    try:
        statements = shell_tree(text + "\n")
    except CannotRead:
        return None
    if len(statements) != 1 or len(statements[0].pipelines) != 1:
        return None
    printed: str | None = ""
    for command in statements[0].pipelines[0][1].commands:
        if not isinstance(command, Simple):
            return None
        words: list[str] = []
        try:
            for word in command.words:
                words += expand(word, variables)
            for redirection in command.redirections:
                if redirection.operator == "<<<":
                    printed = text_of(redirection.target, variables) + "\n"
                elif redirection.operator not in ("2>", "2>&", "2>>"):
                    return None
        except Unknown:
            return None
        if any(unmarked(word)[1] for word in words):
            return None
        printed = _printed(words, printed or "", variables, nodes, cwd, files)
        if printed is None:
            return None
    return printed


def _printed(
    words: Sequence[str],
    before: str,
    variables: Variables,
    nodes: Sequence[str],
    cwd: str,
    files: Mapping[str, str],
) -> str | None:
    if not words:
        return None
    name, rest = words[0], list(words[1:])
    plain = [word for word in rest if not word.startswith("-")]
    if name == "srun":
        at = next((i for i, word in enumerate(rest) if word == "hostname"), None)
        return None if at is None else _printed(rest[at:], "", variables, nodes, cwd, files)
    if name == "scontrol" and rest[:2] in (["show", "hostnames"], ["show", "hostname"]):
        listed = rest[2:3]
        own = listed in ([], [variables.text("SLURM_JOB_NODELIST")])
        return "\n".join(nodes if own else listed) + "\n"
    if name == "hostname":
        is_address = bool({"-i", "-I", "--ip-address"} & set(rest))
        return f"{ADDRESS if is_address else nodes[0]}\n"
    if name == "echo":
        end = "" if "-n" in rest else "\n"
        return " ".join(word for word in rest if word not in ("-n", "-e")) + end
    if name == "getent":
        return f"{ADDRESS} STREAM {rest[-1]}\n"
    if name == "nvidia-smi" and rest[:1] in (["-L"], ["--list-gpus"]):
        gpus = variables.text("SLURM_GPUS_ON_NODE") or "0"
        return (
            "".join(f"GPU {number}\n" for number in range(int(gpus))) if gpus.isdecimal() else None
        )
    if name == "expr" and rest and all(re.fullmatch(r"-?\d+|[-+*/%]", word) for word in rest):
        try:
            return f"{arithmetic(' '.join(rest), variables)}\n"
        except Unknown:
            return None
    if name == "pwd":
        return cwd + "\n"
    if name == "nproc":
        return (variables.text("SLURM_CPUS_ON_NODE") or "1") + "\n"
    if name in ("basename", "dirname") and plain:
        if name == "dirname":
            return (os.path.dirname(plain[0].rstrip("/")) or ".") + "\n"
        base = os.path.basename(plain[0].rstrip("/"))
        return (base.removesuffix(plain[1]) if plain[1:] and base != plain[1] else base) + "\n"
    if name == "which" and plain:
        return plain[0] + "\n"
    if name == "command" and rest[:1] == ["-v"]:
        return rest[1] + "\n"
    if name in ("realpath", "readlink") and plain:
        return os.path.realpath(os.path.join(cwd, plain[-1])) + "\n"
    if name == "seq" and all(word.lstrip("-").isdecimal() for word in rest) and rest:
        low = int(rest[0]) if len(rest) > 1 else 1
        return "".join(f"{number}\n" for number in range(low, min(int(rest[-1]), low + 10_000) + 1))
    if name == "cat" and plain:
        return _contents(plain, cwd, files)
    if name in ("head", "tail", "grep", "awk", "cut", "wc", "sort") and len(plain) > 1 - (
        name == "sort"
    ):
        text = _contents(plain[-1:], cwd, files)
        if text is not None:
            rest.remove(plain[-1])
            return _filtered(name, rest, text)
    return _filtered(name, rest, before)


def _contents(paths: Sequence[str], cwd: str, files: Mapping[str, str]) -> str | None:
    parts = []
    for path in paths:
        absolute = os.path.normpath(os.path.join(cwd, path))
        if absolute in files:
            parts.append(files[absolute])
            continue
        try:
            with open(absolute, encoding="utf-8") as file:
                parts.append(file.read(1 << 20))
        except (OSError, UnicodeDecodeError):
            return None
    return "".join(parts)


def _filtered(name: str, rest: Sequence[str], before: str) -> str | None:
    """Return what a filter makes of the text that comes in."""
    lines = before.splitlines()
    if name in ("head", "tail"):
        match = re.fullmatch(r"(?:-n)?\s*-?(\d+)|-n", " ".join(rest[:1]))
        digits = rest[1] if rest[:1] == ["-n"] and len(rest) > 1 else match[1] if match else "10"
        if not (digits or "").lstrip("-").isdecimal():
            return None
        number = abs(int(digits))
        kept = lines[:number] if name == "head" else lines[-number:]
        return "".join(line + "\n" for line in kept)
    if name == "tail" and rest[:1] == ["-c"] and len(rest) == 2 and rest[1].isdecimal():
        return before[-int(rest[1]) :]
    if name == "grep":
        return _matching(rest, lines)
    if name == "awk" and len(rest) == 1:
        match = re.fullmatch(r"\s*(NR==1)?\s*\{\s*print \$(\d+);?\s*\}\s*", rest[0])
        if match is None:
            return None
        number = int(match[2]) - 1
        rows = [line.split() for line in (lines[:1] if match[1] else lines)]
        return "".join((w[number] if number < len(w) else "") + "\n" for w in rows if number >= 0)
    if name == "wc" and len(rest) == 1:
        counts = {"-l": len(lines), "-w": len(before.split()), "-c": len(before)}
        return f"{counts[rest[0]]}\n" if rest[0] in counts else None
    if name == "tr" and len(rest) == 2:
        old, new = (word.replace("\\n", "\n").replace("\\t", "\t") for word in rest)
        if rest[0] == "-dc" and new == "0-9":
            return "".join(character for character in before if character.isdecimal())
        if rest[0] == "-d" and len(new) == 1:
            return before.replace(new, "")
        return before.replace(old, new) if len(old) == len(new) == 1 else None
    if name == "sort" and not rest:
        return "".join(line + "\n" for line in sorted(lines))
    if name == "uniq" and not rest:
        return "".join(line + "\n" for line in dict.fromkeys(lines))
    if name == "paste" and rest[:1] == ["-sd,"]:
        return ",".join(lines) + "\n"
    if name == "cut" and len(rest) == 2 and rest[0][:2] == "-d" and rest[1][:2] == "-f":
        field = rest[1][2:]
        if field.isdecimal() and len(rest[0]) == 3:
            return "".join(
                (line.split(rest[0][2]) + [""] * int(field))[int(field) - 1] + "\n"
                for line in lines
            )
    return None


def _matching(rest: Sequence[str], lines: Sequence[str]) -> str | None:
    """Return the lines that grep would keep, for a pattern that means the same to Python."""
    flags = [word for word in rest if word.startswith("-")]
    patterns = [word for word in rest if not word.startswith("-")]
    if len(patterns) != 1 or set(flags) - {"-v", "-E", "-i", "-F", "-w"}:
        return None
    pattern = re.escape(patterns[0]) if "-F" in flags else patterns[0]
    if "-F" not in flags and set(pattern) & set("\\()|{}+?"):
        return None
    try:
        found = re.compile(pattern, re.IGNORECASE if "-i" in flags else 0)
    except re.error:
        return None
    return "".join(line + "\n" for line in lines if bool(found.search(line)) is not ("-v" in flags))
