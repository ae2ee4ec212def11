"""What a repository says about its own launches: `[tool.preflight]` in pyproject.toml, or preflight.toml.

The file nearest above the folder of the launch counts, up to the top of the repository and as far
as every folder is the caller's alone (preflight/trust.py). Whatever the launch or preflight's own
options say beats it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from preflight.errors import BadInput, Problem, raise_if_any
from preflight.files import nearest_with, open_regular
from preflight.launch import ASKED, NESTED, PLAN_FIELDS, LaunchPlan
from preflight.near_names import nearest_fix
from preflight.reading import Problems, Reading
from preflight.trust import NotTrusted, folder_distrust, read_trusted
from preflight.values import dataclass

GIT = ".git"
OWN_FILE = "preflight.toml"
SHARED_FILE = "pyproject.toml"
TABLE = "tool.preflight"

NOT_SAID_HERE = ASKED
"""Plan fields that are not values of a launch, or have a key of their own."""

MOST_OF_SHARED = 1024**2
"""Bytes of a stranger's pyproject.toml that are looked at to tell whether it would have mattered."""

GUARDS = ("off", "warn", "enforce")


@dataclass(frozen=True)
class Repository:
    """The settings of one file, checked."""

    path: str = ""
    """Of the file; empty where there is none."""
    text: str = field(default="", repr=False, compare=False)
    device: str | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    """Plan field (`adapter.rank` for a nested one) -> the value to take where a launch says none."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """A flag of the repository's own scripts, without dashes, underscores for hyphens -> plan field."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """The keys of a policy file."""
    hooks: tuple[str, ...] = ()
    """Python files with hooks, absolute."""
    guard: str = "off"
    """off, warn or enforce: what an installed preflight does when a launcher is started without it."""
    left_alone: tuple[str, ...] = ()
    """Where a file has settings that are not obeyed: which, why, and what would change that."""

    def place(self, *keys: str) -> str:
        """Return `path:line` of a key, or of the nearest table above it that is found."""
        line = _line_of(self.text, keys, os.path.basename(self.path) == SHARED_FILE)
        shown = os.path.relpath(self.path) if self.path else ""
        if shown.startswith(".."):
            shown = self.path
        return f"{shown}:{line}" if line else shown


def find_repository(folder: str) -> Repository:
    """Return the settings that hold in a folder; an empty Repository where no file says any.

    A folder that is not the caller's alone ends the search: what lies in it or above is named, and
    not obeyed. Raises BadInput naming every wrong key of the file at once.
    """
    folder = os.path.abspath(folder)
    barred: NotTrusted | None = None
    while True:
        barred = barred or folder_distrust(folder)
        for name in (OWN_FILE, SHARED_FILE):
            path = os.path.join(folder, name)
            if not os.path.isfile(path):
                continue
            try:
                if barred is not None:
                    raise barred.of(path)
                text = _text_of(path)
            except NotTrusted as distrust:
                if name == OWN_FILE or _has_table(path):
                    return Repository(left_alone=(str(distrust),))
                continue
            if name == OWN_FILE or f"[{TABLE}" in text:
                return check_repository(text, path)
        parent = os.path.dirname(folder)
        if parent == folder or os.path.exists(os.path.join(folder, GIT)):
            return Repository()
        folder = parent


def is_in_repository(folder: str) -> bool:
    """Tell whether a folder, or one above it, is the top of a repository: git's, or one with settings."""
    return nearest_with(folder, GIT, OWN_FILE) is not None


def check_repository(text: str, path: str) -> Repository:
    """Check the text of one file, written or not; raise BadInput naming every wrong key at once."""
    try:
        whole = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise BadInput.one(f"not readable as TOML: {error}", path) from error
    is_shared = os.path.basename(path) == SHARED_FILE
    values = whole.get("tool", {}).get("preflight", {}) if is_shared else whole
    draft = Repository(path=path, text=text)
    if not isinstance(values, dict):
        raise BadInput.one(f"{TABLE} must be a table", draft.place())
    problems = Problems()
    for key in values:
        if key not in _READERS:
            fix = nearest_fix(key, tuple(_READERS)) or f"known: {', '.join(_READERS)}"
            problems.append(Problem(f"there is no key {key!r} here", draft.place(key), fix))
    read = {
        key: problems.take(reader(values[key], draft))
        for key, reader in _READERS.items()
        if key in values
    }
    raise_if_any(problems)
    return Repository(path=path, text=text, **read)


def _text_of(path: str) -> str:
    """Return a file's text, nothing where it cannot be read; raise NotTrusted, and BadInput for what is no text."""
    try:
        return read_trusted(path).decode("utf-8")
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise BadInput.one(str(error.strerror), path) from error
        return ""
    except UnicodeDecodeError as error:
        raise BadInput.of(path, "is not UTF-8 text") from error


def _has_table(path: str) -> bool:
    """Tell whether a file that is left alone has a table for us, so that most pyproject.toml need no word."""
    try:
        with open_regular(path) as file:
            return f"[{TABLE}".encode() in file.read(MOST_OF_SHARED)
    except OSError:
        return False


def _parsed(text: str) -> dict[str, Any]:
    import sys
    from importlib import import_module

    # tomllib came with Python 3.11; tomli is the same code for 3.10.
    toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    values: dict[str, Any] = toml.loads(text)
    return values


def _device(value: Any, file: Repository) -> Reading[str | None]:
    if isinstance(value, str) and value:
        return Reading(value)
    wrong = f"device must be text, not {value!r}"
    return Reading(None, (Problem(wrong, file.place("device")),))


def _guard(value: Any, file: Repository) -> Reading[Any]:
    if value in GUARDS:
        return Reading(value)
    wrong = f"guard must be one of {', '.join(GUARDS)}, not {value!r}"
    return Reading(value, (Problem(wrong, file.place("guard")),))


def _plan(value: Any, file: Repository) -> Reading[dict[str, Any]]:
    if not isinstance(value, dict):
        wrong = Problem("plan must be a table of plan fields", file.place("plan"))
        return Reading({}, (wrong,))
    problems = Problems()
    settings: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict) and name in (*NESTED, "versions"):
            settings.update({f"{name}.{inner}": each for inner, each in item.items()})
        else:
            settings[name] = item
    for name, item in settings.items():
        keys = ("plan", *name.split("."))
        if not _is_settable(name):
            problems.append(
                Problem(
                    f"there is no plan field {name!r}",
                    file.place(*keys),
                    nearest_fix(name, PLAN_FIELDS),
                )
            )
            continue
        try:
            LaunchPlan(world_size=1 << 30, num_nodes=1).with_edits({name: item})
        except BadInput as error:
            problems.extend(
                Problem(problem.message, file.place(*keys), problem.fix)
                for problem in error.problems
            )
    return Reading(settings, tuple(problems))


def _flags(value: Any, file: Repository) -> Reading[dict[str, str]]:
    from preflight.scripts.arguments.trainer_spellings import DECLARABLE

    if not isinstance(value, dict):
        wrong = Problem('flags must be a table of "flag" = "plan field"', file.place("flags"))
        return Reading({}, (wrong,))
    problems = Problems()
    flags: dict[str, str] = {}
    for flag, name in value.items():
        if not isinstance(name, str) or name not in DECLARABLE:
            problems.append(
                Problem(
                    f"a flag cannot stand for {name!r}",
                    file.place("flags", flag),
                    nearest_fix(str(name), tuple(DECLARABLE)) or f"one of {', '.join(DECLARABLE)}",
                )
            )
        else:
            flags[flag.lstrip("-").replace("-", "_")] = name
    return Reading(flags, tuple(problems))


def _policy(value: Any, file: Repository) -> Reading[dict[str, Any]]:
    from preflight.policy import policy_from_dict

    if not isinstance(value, dict):
        return Reading({}, (Problem("policy must be a table", file.place("policy")),))
    try:
        policy_from_dict(value, file.place("policy"))
    except BadInput as error:
        return Reading(value, error.problems)
    return Reading(value)


def _hooks(value: Any, file: Repository) -> Reading[tuple[str, ...]]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        wrong = Problem("hooks must be a list of Python files", file.place("hooks"))
        return Reading((), (wrong,))
    paths = tuple(os.path.join(os.path.dirname(file.path), item) for item in value)
    missing = (
        Problem(f"there is no file {item}", file.place("hooks"))
        for item, path in zip(value, paths, strict=True)
        if not os.path.isfile(path)
    )
    return Reading(paths, tuple(missing))


def _is_settable(name: str) -> bool:
    from dataclasses import fields

    outer, _, inner = name.partition(".")
    if outer not in PLAN_FIELDS or outer in NOT_SAID_HERE:
        return False
    if outer == "versions":
        return bool(inner)
    return not inner or (outer in NESTED and inner in {f.name for f in fields(NESTED[outer])})


_READERS: dict[str, Callable[[Any, Repository], Reading[Any]]] = {
    "device": _device,
    "plan": _plan,
    "flags": _flags,
    "policy": _policy,
    "hooks": _hooks,
    "guard": _guard,
}


def _line_of(text: str, keys: tuple[str, ...], is_shared: bool) -> int | None:
    """Return the line of a dotted key by looking for its table and its own name; TOML parsers keep none."""
    import re

    wanted = (*TABLE.split("."), *keys) if is_shared else keys
    table: tuple[str, ...] = ()
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line)
        named: tuple[str, ...] = ()
        if header:
            table = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            named = table
        else:
            entry = re.match(r"\s*(\"[^\"]*\"|'[^']*'|[A-Za-z0-9_.-]+)\s*=", line)
            if entry:
                raw = entry[1]
                own = (raw.strip("\"'"),) if raw[0] in "\"'" else tuple(raw.split("."))
                named = (*table, *own)
        if named and wanted[: len(named)] == named and (best is None or len(named) > best[0]):
            best = (len(named), number)
    return best[1] if best else None
