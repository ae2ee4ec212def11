"""What is submitted: a script file, `--wrap`, standard input or a command, with the options that go with it.

Source of how `#SBATCH` lines are read: src/sbatch/opt.c of Slurm 24.11, `_opt_batch_script` and
`_get_argument`: they end at the first line that is neither empty nor a comment, words are cut at blanks
outside quotes, and `#` ends a line.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence

from preflight.files import read_bytes
from preflight.slurm.option_words import OptionWord, split_words
from preflight.slurm.options import SubmitOptions, submit_options
from preflight.slurm.scripted_launch import relative_name
from preflight.slurm.stamp import wrapped_script
from preflight.values import dataclass

MOST_BYTES = 4 << 20
"""Of a batch script that is read: Slurm's own limit where a site says none (max_script_size, slurm.conf(5))."""
MOST_OF_SLURM = 512 << 20
"""Of a batch script that a site can let through (slurm.conf(5)): as much is stamped, so that the stamp is the whole's."""
STANDARD_INPUT = "standard input"


@dataclass(frozen=True)
class Submission:
    """One call of sbatch, srun or salloc, and the text that it would run."""

    program: str
    words: tuple[str, ...]
    """Its arguments, as given."""
    options: SubmitOptions
    kind: str
    """`file`, `wrap`, `standard input`, `command`, or `nothing` where there is no text to read."""
    text: str
    name: str = ""
    """What its lines are called: `job.sh`, `--wrap`."""
    arguments: tuple[str, ...] = ()
    """`$1` and on of the script."""
    first_rest: int = 0
    """Index in `words` of the script or the command."""
    cwd: str = "."
    """The folder that the job starts in."""


def read_submission(
    program: str,
    words: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    standard_input: str | None = None,
) -> Submission:
    """Return what a call submits; raise OSError where its script cannot be read.

    `standard_input` is the text of sbatch's standard input, where somebody has read it.
    """
    split = split_words(words, program)
    options = submit_options(words, env, program=program)
    folder = _folder(cwd, options)
    if program != "sbatch":
        line = [program, *words] if program == "srun" else list(split.rest)
        kind = "command" if split.rest else "nothing"
        text = f"#!/bin/bash\n{shlex.join(line)}\n" if split.rest else ""
        return Submission(program, tuple(words), options, kind, text, program, (), split.first_rest, folder)  # fmt: skip
    if options.wrap is not None:
        kind, text, name, arguments = "wrap", wrapped_script(options.wrap), "--wrap", split.rest
    elif split.rest:
        kind, name, arguments = "file", split.rest[0], split.rest[1:]
        path = _script_path(name, folder, cwd, env)
        text, name = _text_of(path), relative_name(path, cwd)
    elif standard_input is not None:
        kind, text, name, arguments = STANDARD_INPUT, standard_input, STANDARD_INPUT, ()
    else:
        kind, text, name, arguments = "nothing", "", "", ()
    options = submit_options(words, env, script_options(text, name), program)
    return Submission(program, tuple(words), options, kind, text, name, arguments, split.first_rest, _folder(cwd, options))  # fmt: skip


def script_options(text: str, name: str) -> tuple[tuple[OptionWord, ...], ...]:
    """Return the options of a script's `#SBATCH` lines, component by component."""
    components: list[list[OptionWord]] = [[]]
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#SBATCH"):
            words = directive_words(line[len("#SBATCH") :])
            if words[:1] in (["hetjob"], ["packjob"]):
                components.append([])
                words = words[1:]
            split = split_words(words, "sbatch", f"{name}:{number}", is_script=True)
            components[-1].extend(word for part in split.components for word in part)
        elif line.strip() and not line.startswith("#"):
            break
    return tuple(tuple(component) for component in components)


def directive_words(line: str) -> list[str]:
    """Return the words of a `#SBATCH` line, as sbatch cuts them; nothing is expanded."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    characters = iter(line)
    for character in characters:
        if quote:
            if character == quote:
                quote = ""
            elif character == "\\" and quote == '"':
                (word := word or []).append(next(characters, ""))
            else:
                (word := word or []).append(character)
        elif character in "\"'":
            quote, word = character, word or []
        elif character == "\\":
            (word := word or []).append(next(characters, ""))
        elif character.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
        elif character == "#" and word is None:
            break
        else:
            (word := word or []).append(character)
    if word is not None:
        words.append("".join(word))
    return words


def interpreter_of(text: str) -> str:
    """Return the name of a script's interpreter: `bash`, `python3`; empty without a `#!` line."""
    first = text.partition("\n")[0]
    if not first.startswith("#!"):
        return ""
    words = first[2:].split()
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return os.path.basename(words[0]) if words else ""


def _folder(cwd: str, options: SubmitOptions) -> str:
    return os.path.normpath(os.path.join(cwd, options.chdir or ""))


def _script_path(name: str, folder: str, cwd: str, env: Mapping[str, str]) -> str:
    """Return where sbatch finds a script: in the job's folder, or on the path for a plain name."""
    for start in (folder, cwd):
        path = os.path.join(start, name)
        if os.path.exists(path):
            return path
    import shutil

    on_path = None if "/" in name else shutil.which(name, os.R_OK, env.get("PATH", ""))
    return on_path or os.path.join(folder, name)


def _text_of(path: str) -> str:
    return read_bytes(path, MOST_OF_SLURM).decode("utf-8", "surrogateescape")
