"""Which program a command line calls, whatever its path, and what a Python interpreter is told to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.values import NamedTuple

TRAINS_NOTHING = frozenset(
    {
        "build", "compileall", "ensurepip", "http.server", "ipykernel", "json.tool", "jupyter", "jupyterlab",
        "nltk.downloader", "notebook", "pip", "pytest", "ray", "sglang.launch_server", "site", "spacy", "tarfile",
        "timeit", "torch.utils.collect_env", "unittest", "uv", "venv", "virtualenv",
        "vllm.entrypoints.openai.api_server", "zipfile",
    }
)  # fmt: skip
"""Modules that `python -m` is told to run and that train nothing."""


SUBMITTERS: Mapping[str, tuple[str, ...]] = {
    "sky": ("launch", "exec", "jobs"),
    "dstack": ("apply",),
    "kubectl": ("apply", "create", "replace"),
    "oc": ("apply", "create", "replace"),
    "argo": ("submit",),
}
"""Program -> its subcommands that start what a file says."""


class Called(NamedTuple):
    """What a command line starts in the end: a program, or a module or script through Python."""

    name: str
    """Program name without folder; the dotted module of `python -m`; the script's path as given."""
    position: int
    """argv index of the word that names it."""
    first_argument: int
    """argv index behind it."""
    kind: str
    """program, module or script."""


def program_name(path: str) -> str:
    """Return a program's name without folder and `.exe`."""
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    return name[:-4] if name.endswith(".exe") else name


def hands_on(argv: Sequence[str]) -> bool:
    """Tell whether a command has something else start what a file says."""
    name, subcommand = program_name(argv[0]), next(iter(argv[1:]), "")
    is_compose = name == "docker" and subcommand == "compose"
    return name == "make" or is_compose or subcommand in SUBMITTERS.get(name, ())


def is_python(word: str) -> bool:
    """Tell whether a word names a Python interpreter: python, python3, python3.11."""
    name = program_name(word)
    rest = name[6:] if name.startswith("python") else name[4:] if name.startswith("pypy") else "-"
    return all(character.isdecimal() or character == "." for character in rest)


def called(argv: Sequence[str]) -> Called | None:
    """Return what a command line starts; None for nothing, `python -c` and an interactive Python."""
    if not argv:
        return None
    if not is_python(argv[0]):
        return Called(program_name(argv[0]), 0, 1, "program")
    index = 1
    while index < len(argv):
        word = argv[index]
        if word in ("-W", "-X", "--check-hash-based-pycs"):
            index += 2
        elif word.startswith("--"):
            index += 1
        elif word.startswith("-") and len(word) > 1:
            letters = word[1:]
            if "c" in letters.partition("m")[0]:
                return None
            if "m" in letters:
                # `-m module`, `-um module`, `-mmodule`
                module = letters.partition("m")[2]
                if module:
                    return Called(module, index, index + 1, "module")
                if index + 1 < len(argv):
                    return Called(argv[index + 1], index + 1, index + 2, "module")
                return None
            index += 1
        elif word == "-":
            return None
        else:
            return Called(word, index, index + 1, "script")
    return None
