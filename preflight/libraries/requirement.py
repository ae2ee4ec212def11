"""One requirement as people write it, and what it allows: `trl[peft]>=0.12,<1; python_version > "3.9"`, an URL, conda's.

A pin is `==0.12.0`, `>=4.46,<5`, `~=0.18.0`, or poetry's and conda's own way to write one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.libraries.distributions import normalized
from preflight.values import NamedTuple, dataclass
from preflight.versions.boundary import Version, release

_CLAUSE = lazy_pattern(r"(===|==|~=|!=|<=|>=|<|>|=|\^|~)?\s*v?([0-9*][\w.*+!-]*)")


class Clause(NamedTuple):
    """One comparison of a pin."""

    operator: str
    """==, !=, <=, >=, < or >; `=*` for all that begins so, and `!*` for all that does not."""
    version: str


@dataclass(frozen=True)
class Specifier:
    """The releases that one pin allows: those that every clause of it does."""

    clauses: tuple[Clause, ...] = ()

    @property
    def exact(self) -> str | None:
        """The one release that is allowed; None where there may be more."""
        found = (clause.version for clause in self.clauses if clause.operator == "==")
        return next(found, None)

    def allows(self, version: str) -> bool:
        """Tell whether a release is allowed, by its first three numbers."""
        return all(_holds(clause, release(version)) for clause in self.clauses)

    def __str__(self) -> str:
        return ",".join(
            f"{'==' if operator == '=*' else '!=' if operator == '!*' else operator}{version}"
            + (".*" if operator in ("=*", "!*") else "")
            for operator, version in self.clauses
        )


def specifier(text: str) -> Specifier | None:
    """Return what a pin allows; None where it is written in no way that is known.

    A version without an operator is exact, as poetry takes it; `^` and `~` are poetry's, a single `=` is conda's.
    """
    text = text.strip().strip("()")
    if "|" in text:
        return None  # one of several: poetry's and conda's `or`
    clauses: list[Clause] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _CLAUSE.fullmatch(part)
        if match is None:
            return None
        clauses += _clauses(match[1] or "==", match[2])
    return Specifier(tuple(clauses))


def _clauses(operator: str, version: str) -> Iterator[Clause]:
    if version == "*":
        return
    numbers = _numbers(version)
    if version.endswith(".*") or operator == "=":
        whole = operator == "=" and len(numbers) > 2 and not version.endswith("*")
        kind = "!*" if operator == "!=" else "==" if whole else "=*"
        yield Clause(kind, version.removesuffix(".*").removesuffix("*"))
    elif operator == "===":
        yield Clause("==", version)
    elif operator == "~=":
        yield Clause(">=", version)
        yield Clause("=*", ".".join(map(str, numbers[:-1] or numbers)))
    elif operator in ("^", "~"):
        yield Clause(">=", version)
        kept = 1 if operator == "^" else 2
        if operator == "^":
            # Poetry keeps the first number that is not zero.
            kept += next((i for i, number in enumerate(numbers) if number), len(numbers) - 1)
        yield Clause("=*", ".".join(map(str, numbers[:kept])))
    else:
        yield Clause(operator, version)


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _holds(clause: Clause, version: Version) -> bool:
    wanted, operator = release(clause.version), clause.operator
    if operator in ("=*", "!*"):
        numbers = _numbers(clause.version)[:3]
        return (version[: len(numbers)] == numbers) is (operator == "=*")
    return {
        "==": version == wanted,
        "!=": version != wanted,
        "<=": version <= wanted,
        ">=": version >= wanted,
        "<": version < wanted,
        ">": version > wanted,
    }[operator]


LIBRARIES = (
    "accelerate",
    "axolotl",
    "bitsandbytes",
    "deepspeed",
    "litgpt",
    "llamafactory",
    "ms_swift",
    "openrlhf",
    "peft",
    "prime_rl",
    "torch",
    "torchao",
    "torchtitan",
    "torchtune",
    "transformers",
    "trl",
    "verl",
)
"""Libraries whose version decides something that preflight knows of, by import name."""
OTHER_NAMES = {"pytorch": "torch"}
"""What conda calls a library -> its import name."""
ANY = Specifier()

_REQUIREMENT = lazy_pattern(
    r"(?:[\w-]+::)?([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*"
    r"(?:@\s*(?P<url>\S+)|(?P<pin>\(?[=<>!~^]=?=?[^;#]*))?\s*(?:;(?P<marker>[^#]*))?(?:\s#.*)?"
)
_URL = lazy_pattern(r"(?:git\+)?(?:https?|ssh|git|file)://\S+")
_NOT_LINUX = lazy_pattern(
    r"""(?:sys_platform|platform_system|os_name)\s*==\s*["'](?!linux|Linux|posix)|["'](?:darwin|win32|Darwin|Windows)["']\s*=="""
    r"""|(?:sys_platform|platform_system)\s*!=\s*["'][Ll]inux|\bextra\s*==|platform_machine\s*==\s*["'](?:arm|aarch)"""
)
"""Markers of another system than those that train: what stands behind them is for laptops."""


class Requirement(NamedTuple):
    """A library that is asked for, and what is allowed of it."""

    library: str
    specifier: Specifier


def requirement(text: str) -> Requirement | None:
    """Return a requirement of one of our libraries; None for anything else, and what is for other systems alone."""
    text = text.strip().strip(",").strip("\"'")
    if _URL.match(text):
        return _of_url(text, "")
    match = _REQUIREMENT.fullmatch(text)
    if match is None or _NOT_LINUX.search(match["marker"] or ""):
        return None
    name = normalized(match[1])
    name = OTHER_NAMES.get(name, name)
    if name not in LIBRARIES:
        return None
    if match["url"]:
        return _of_url(match["url"], name)
    pin = specifier(_without_build(match["pin"] or ""))
    return Requirement(name, ANY if pin is None else pin)


def _without_build(pin: str) -> str:
    """Return a pin without what conda writes behind the version: `=2.1.0=py3.10_cuda12.1`."""
    return re.sub(r"^(=[\w.]+)=\S*$", r"\1", pin.strip())


def _of_url(url: str, name: str) -> Requirement | None:
    """Read a wheel's name, or the tag of a git address; a branch or a commit says no version."""
    from urllib.parse import unquote  # few pins are addresses

    wheel = re.search(r"/([A-Za-z0-9_.]+)-(\d[\w.+!]*)-[^/]*\.whl|/([A-Za-z0-9_.]+)-(\d[\w.]*)\.(?:tar\.gz|zip)", unquote(url))  # fmt: skip
    if wheel is not None:
        name = name or normalized(wheel[1] or wheel[3])
        pin = specifier(f"=={wheel[2] or wheel[4]}")
        return Requirement(name, pin or ANY) if name in LIBRARIES else None
    egg = re.search(r"[#&]egg=([\w.-]+)", url)
    path = re.sub(r"[#?].*$", "", url)
    repository, _, at = path.rpartition("@") if path.rfind("@") > path.find("://") + 3 else (path, "", "")  # fmt: skip
    if not name:
        last = repository.rstrip("/").rpartition("/")[2].removesuffix(".git")
        name = normalized(egg[1] if egg else last)
    if name not in LIBRARIES:
        return None
    tag = re.fullmatch(r"v?(\d+(?:\.\d+)+)", at)
    return Requirement(name, (tag and specifier(f"=={tag[1]}")) or ANY)
