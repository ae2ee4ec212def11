"""Files of a repository that pin libraries, each read as text: nothing in them is run."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import lru_cache

from preflight.files import readable_text
from preflight.lazy_pattern import lazy_pattern
from preflight.libraries.distributions import normalized
from preflight.libraries.requirement import LIBRARIES, Specifier, requirement, specifier
from preflight.values import NamedTuple
from preflight.versions.boundary import release

MOST_INCLUDES = 5
"""Requirements files that stand in one another by `-r`."""


class Pin(NamedTuple):
    """What one line allows of a library."""

    library: str
    specifier: Specifier
    path: str
    line: int


Read = Callable[[str, str], Iterator[Pin]]


def pins_of(path: str, kind: int) -> tuple[Pin, ...]:
    """Return what a file of a kind pins, in its order; nothing where it cannot be read."""
    return _pins(path, kind, _state(path))


def _state(path: str) -> tuple[int, int]:
    """Return what tells one state of a file from the next, so that what was read of it need not be read again."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=128)
def _pins(path: str, kind: int, state: tuple[int, int]) -> tuple[Pin, ...]:
    return tuple(_KINDS[kind][1](path, readable_text(path)))


@lru_cache(maxsize=1 << 12)
def kind_of(name: str, folder: str = "") -> int | None:
    """Return the kind of a file by its name, 0 for what counts most; None for one that pins nothing."""
    if name.endswith(".txt") and _FOR_OTHERS.search(name):
        return None
    for kind, (patterns, _) in enumerate(_KINDS):
        if any(_is_like(name, pattern) for pattern in patterns):
            return kind
    return PARTS if folder == "requirements" and name.endswith(".txt") else None


def _is_like(name: str, pattern: str) -> bool:
    # fnmatch makes an expression of every pattern, and most names begin otherwise
    return name.startswith(pattern.partition("*")[0]) and fnmatchcase(name, pattern)


def own_version(folder: str) -> Pin | None:
    """Return the version of the library whose own repository a folder is; None where it is none of ours."""
    for name in ("pyproject.toml", "setup.py", "setup.cfg"):
        path = os.path.join(folder, name)
        library = _own_name(path, _state(path))
        if library is not None:
            return _own_version(folder, path, library)
    return None


@lru_cache(maxsize=128)
def _own_name(path: str, state: tuple[int, int]) -> str | None:
    text, is_python = readable_text(path), path.endswith(".py")
    found = re.search(
        (r"\b" if is_python else "^") + r"name\s*=\s*[\"']?([\w.-]+)(\(\))?", text, re.M
    )
    names = [found[1]] if found is not None else []
    if is_python and found is not None and found[2]:  # setup(name=of_package())
        returned = re.search(rf"def {found[1]}\(.*?\breturn ([^\n]*)", text, re.S)
        names = re.findall(r"[\"']([\w.-]+)", returned[1]) if returned is not None else []
    return next((each for each in map(normalized, names) if each in LIBRARIES), None)


_VERSION_LINE = lazy_pattern(
    r"\s*(?:(?:version|__version__|VERSION)\s*=\s*)?[\"']?(\d+\.\d+(?:\.[\w.+]+)?)[\"']?,?\s*(?:#.*)?$"
)


def _own_version(folder: str, path: str, library: str) -> Pin | None:
    """Read a version that stands on a line of its own, where libraries keep theirs."""
    packages = [os.path.join(folder, package) for package in (f"src/{library}", library)]
    files = ("__init__.py", "version.py", "VERSION", os.path.join("version", "version"))
    sources = [path, *(os.path.join(package, file) for package in packages for file in files)]
    for source in (*sources, os.path.join(folder, "VERSION"), os.path.join(folder, "version.txt")):
        for number, line in _of_itself(source, readable_text(source)):
            version = _VERSION_LINE.match(line)
            pin = specifier(f"=={version[1]}") if version is not None else None
            if pin is not None and pin.exact is not None and any(release(pin.exact)):
                return Pin(library, pin, source, number)
    return None


def _of_itself(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers; of a pyproject.toml those of the tables that are of its own package."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        table = header[1] if header is not None else table
        if not path.endswith(".toml") or table in ("project", "tool.poetry"):
            yield number, line


def _lock(path: str, text: str) -> Iterator[Pin]:
    """Read `[[package]]` tables: uv.lock, poetry.lock, pdm.lock, pylock.toml."""
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            name = name if line.startswith("[package.") else ""
        elif line.startswith("name = "):
            name = normalized(line[7:].strip().strip('"'))
        elif line.startswith("version = ") and name in LIBRARIES:
            pin = specifier("==" + line[10:].strip().strip('"'))
            if pin is not None:
                yield Pin(name, pin, path, number)


def _json_lock(path: str, text: str) -> Iterator[Pin]:
    """Read Pipfile.lock: the first `version` below a library's name."""
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        key = re.match(r'\s*"([\w.-]+)"\s*:\s*\{', line)
        version = re.match(r'\s*"version"\s*:\s*"([^"]+)"', line)
        if key is not None:
            name = normalized(key[1])
        elif version is not None and name in LIBRARIES:
            pin = specifier(version[1])
            if pin is not None:
                yield Pin(name, pin, path, number)


def _requirements(path: str, text: str, depth: int = 0) -> Iterator[Pin]:
    """Read requirements and constraints, and the files that they name by -r and -c."""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        other = re.match(r"(?:-r|-c|--requirement|--constraint)[ =]?\s*(\S+)", line)
        if other is not None and depth < MOST_INCLUDES:
            included = os.path.normpath(os.path.join(os.path.dirname(path), other[1]))
            yield from _requirements(included, readable_text(included), depth + 1)
            continue
        line = re.sub(r"^(?:-e|--editable)[ =]\s*|\s+--\S.*$|\\$", "", line)
        yield from _said(path, number, line)


def _said(path: str, number: int, text: str) -> Iterator[Pin]:
    found = requirement(text)
    if found is not None:
        yield Pin(found.library, found.specifier, path, number)


_STRING = lazy_pattern(r'"([^"\n]*)"|\'([^\'\n]*)\'')
_HEADER = lazy_pattern(r"\s*\[+\s*([^\]]+?)\s*\]+\s*(?:#.*)?$")
_TABLES = lazy_pattern(
    r"project(\.|$)|dependency-groups|tool\.(uv|pdm|hatch|rye|setuptools)\b|tool\.(poetry|pixi)\b"
)


def _pyproject(path: str, text: str) -> Iterator[Pin]:
    """Read requirement strings of [project] and of tools' tables, and poetry's and pixi's `name = version`."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header is not None:
            table = header[1].replace('"', "")
            continue
        if not _TABLES.match(table):
            continue
        key = re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=\s*(.*)$", line)
        if re.match(r"tool\.(poetry|pixi)\b.*dependencies$", table) and key is not None:
            version = re.match(r"[\"']([^\"']*)|.*version\s*=\s*[\"']([^\"']*)", key[2])
            if version is not None:
                pin = (version[1] or version[2] or "").strip()
                spaced = pin if pin[:1] in "<>=!~^" else f"=={pin}"
                yield from _said(path, number, key[1] + (spaced if pin not in ("", "*") else ""))
            continue
        if key is not None and key[1] in ("name", "version", "description", "readme"):
            continue
        for match in _STRING.finditer(line):
            yield from _said(path, number, match[1] if match[1] is not None else match[2])


def _setup_py(path: str, text: str) -> Iterator[Pin]:
    """Read every string of setup.py that is a requirement, wherever it stands: lists of them are put together in many ways."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    for node in sorted(texts, key=lambda node: node.lineno):
        if isinstance(node.value, str) and len(node.value) < 200:
            yield from _said(path, node.lineno, node.value)


def _setup_cfg(path: str, text: str) -> Iterator[Pin]:
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            table = line.strip("[] \t")
        elif table.startswith("options"):
            yield from _said(path, number, re.sub(r"^\w+\s*=\s*", "", line))


def _conda(path: str, text: str) -> Iterator[Pin]:
    if not re.search(r"^dependencies\s*:", text, re.M):
        return
    for number, line in enumerate(text.splitlines(), 1):
        item = re.match(r"\s*-\s*(.+)$", line)
        if item is not None and not item[1].endswith(":"):
            yield from _said(path, number, item[1])


_INSTALLS = lazy_pattern(
    r"\b(?:pip3?|uv|conda|mamba|micromamba)\b.*\b(?:install|add)\b|\bpip\b.*\binstall\b", re.S
)


def _dockerfile(path: str, text: str) -> Iterator[Pin]:
    """Read the requirements of lines that install, and PyTorch's own images."""
    lines = text.splitlines()
    start = 0
    while start < len(lines):
        end = start
        while end + 1 < len(lines) and lines[end].rstrip().endswith("\\"):
            end += 1
        image = re.match(r"\s*FROM\s+(?:\S*/)?pytorch/pytorch:(\d+\.\d+(?:\.\d+)?)", lines[start])
        if image is not None:
            yield from _said(path, start + 1, f"torch=={image[1]}")
        elif _INSTALLS.search("\n".join(lines[start : end + 1])):
            for number in range(start, end + 1):
                for word in re.split(r"[\s;&|`]+", lines[number].rstrip("\\")):
                    if "$" not in word and re.search(r"[=<>~@]|://", word):
                        yield from _said(path, number + 1, word)
        start = end + 1


_BOUNDS = lazy_pattern(rf"\b(?:{'|'.join(LIBRARIES)})[\[\]\w,]*\s*[=<>~]=")


def _readme(path: str, text: str) -> Iterator[Pin]:
    """Read what a README tells to install; most bound no library of ours, and are left at a glance."""
    if _BOUNDS.search(text) is not None:
        yield from _dockerfile(path, text)


_FOR_OTHERS = lazy_pattern(r"(?:^|[-_.])(?:dev|test|tests|doc|docs|lint|style|npu|hpu|mac|macos|cpu|ci|quality)(?:[-_.]|$)")  # fmt: skip
"""Requirements of those who do not train on GPUs, by the name of the file."""

_KINDS: tuple[tuple[tuple[str, ...], Read], ...] = (
    (("uv.lock", "poetry.lock", "pdm.lock", "pylock*.toml"), _lock),
    (("Pipfile.lock",), _json_lock),
    (("requirements.txt",), _requirements),
    (("pyproject.toml",), _pyproject),
    (("setup.py",), _setup_py),
    (("setup.cfg",), _setup_cfg),
    (("environment*.y*ml", "env*.y*ml", "conda*.y*ml"), _conda),
    (("Dockerfile*", "*.dockerfile", "*.Dockerfile"), _dockerfile),
    (("requirements*.txt", "*requirements.txt", "constraints*.txt"), _requirements),
    (("README.md", "readme.md", "Readme.md"), _readme),
)
"""Names of files -> what reads them, from those whose pins count most to those that count least."""
PARTS = len(_KINDS) - 2
"""The kind of requirements that are a part of a repository's own: for one of its features, or one of its systems. What a
README tells to install comes after them; both say nothing where another file speaks of the library."""
