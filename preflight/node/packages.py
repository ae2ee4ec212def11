"""Packages and build tools of a Python environment that decide what a launch can use, found without importing them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from preflight.files import open_regular, read_bytes
from preflight.values import dataclass

PACKAGES = (
    "torch",
    "accelerate",
    "transformers",
    "trl",
    "peft",
    "deepspeed",
    "bitsandbytes",
    "flash_attn",
    "flash_attn_3",
    "liger_kernel",
    "triton",
    "kernels",
    "datasets",
    "safetensors",
    "huggingface_hub",
    "ninja",
)
"""Import names; a distribution's folder has the same name with `_` for `-`."""


@dataclass(frozen=True)
class BuildTools:
    """What compiles an extension when it is first used."""

    cuda_home: str | None
    """$CUDA_HOME or $CUDA_PATH, else the folder above nvcc, else /usr/local/cuda: as torch looks for it."""
    nvcc: str | None
    ninja: str | None


def folders_of(interpreter: str) -> tuple[str, ...]:
    """Return the site-packages of another interpreter by its place; empty where they cannot be told."""
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(interpreter)))
    if os.path.realpath(prefix) == os.path.realpath(sys.prefix):
        return tuple(sys.path)
    try:
        text = read_bytes(os.path.join(prefix, "pyvenv.cfg"), 1 << 20).decode("utf-8", "replace")
        settings = text.replace(" ", "").lower()
        if "include-system-site-packages=true" in settings:
            return ()
    except OSError:
        pass  # not a virtual environment: conda, or a system Python
    found = []
    for library in ("lib", "lib64"):
        try:
            names = sorted(os.listdir(os.path.join(prefix, library)))
        except OSError:
            continue
        for name in names:
            folder = os.path.join(prefix, library, name, "site-packages")
            if name.startswith("python3") and os.path.isdir(folder):
                found.append(folder)
    # Two versions below one prefix: which of them it is, the interpreter alone knows.
    return tuple(found) if len({os.path.realpath(folder) for folder in found}) == 1 else ()


def interpreter_of(program: str, search_path: str) -> str | None:
    """Return the Python that runs a program: itself, or the one of its first line."""
    path = program if os.sep in program else find_program(program, search_path)
    if path is None:
        return None
    if os.path.basename(path).startswith(("python", "pypy")):
        return path
    try:
        with open_regular(path) as file:
            first = file.readline(512)
    except OSError:
        return None
    words = first[2:].decode("utf-8", "replace").split() if first.startswith(b"#!") else []
    if not words:
        return None
    if os.path.basename(words[0]) == "env" and len(words) > 1:
        return find_program(words[1], search_path)
    return words[0] if os.path.basename(words[0]).startswith(("python", "pypy")) else None


def find_program(name: str, search_path: str) -> str | None:
    """Return a program's path; a plain look, because shutil costs more than it finds."""
    for folder in search_path.split(os.pathsep):
        path = os.path.join(folder, name)
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def versions_in(folders: Sequence[str], names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return import name -> version of what is installed in some folders; the first folder wins.

    Reads the names of `*.dist-info` and `*.egg-info`: importlib.metadata opens every folder's files.
    """
    found: dict[str, str] = {}
    for folder in folders:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in entries:
            stem, dot, kind = entry.rpartition(".")
            if kind not in ("dist-info", "egg-info") or not dot:
                continue
            name, _, version = stem.partition("-")
            name = name.lower().replace("-", "_").replace(".", "_")
            if name in names and name not in found and version:
                found[name] = version.partition("-")[0]
    return found


def build_tools(env: Mapping[str, str], root: str = "/") -> BuildTools:
    """Return the CUDA toolkit and ninja that an extension would be built with."""
    search_path = env.get("PATH", "")
    nvcc = find_program("nvcc", search_path)
    home = env.get("CUDA_HOME") or env.get("CUDA_PATH")
    if not home and nvcc is not None:
        home = os.path.dirname(os.path.dirname(nvcc))
    if not home and os.path.isdir(os.path.join(root, "usr/local/cuda")):
        home = os.path.join(root, "usr/local/cuda")
    return BuildTools(home or None, nvcc, find_program("ninja", search_path))
