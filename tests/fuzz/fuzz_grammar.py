"""Words, values and documents drawn from what the formats allow, with something odd in them here and there.

Nothing here starts from a file that exists: keys come from the tables that preflight reads by, values from what a key
may hold, and every so often from what nothing may hold.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2, 10**25, -(10**25), 0.5, 1e308, -0.0, float("inf"), float("nan")),
    *("", " ", "auto", "none", "null", "NaN", "0x10", "1e400", "9" * 400, "\u0663", "\u00bd"),
    *("\x1b]0;t\x07", "\u202eabc", "a\0b", "caf\u00e9", "\udcff", "\U0001f680", "two words", "'", '"'),
    *("a" * 3000, "../../etc/passwd", "/dev/zero", "/proc/self/mem", "~", "$HOME", "$(id)", "`id`"),
    *("-", "--", "-1", "%s%n", "{0}", "*", "[", "\\", "x=y", "h100-sxm-80", "http://x", "file:///x"),
    *([], {}, [[]], [None], ["x", 1], {"a": {"b": [1]}}, {"": ""}, [[[[[[[[]]]]]]]]),
)  # fmt: skip
WORDS = ("a", "b", "model", "train", "x1", "value", "gpu", "out", "data", "text", "0", "run_1")


class Draw(random.Random):
    """Chance, and how often it is odd: a call that is odd everywhere is refused at its first word."""

    oddness = 1.0


def is_odd(rng: random.Random, share: float) -> bool:
    return rng.random() < share * getattr(rng, "oddness", 1.0)


def odd(rng: random.Random) -> Any:
    return rng.choice(ODD)


def one_of(rng: random.Random, choices: Sequence[Any], share_odd: float = 0.1) -> Any:
    """Return one of the right values, or an odd one."""
    return odd(rng) if not choices or is_odd(rng, share_odd) else rng.choice(choices)


def number(rng: random.Random, most: int = 64) -> Any:
    return one_of(rng, (1, 2, 4, 8, rng.randrange(most + 1)))


def value(rng: random.Random, depth: int = 0) -> Any:
    """Return any value that JSON, YAML or TOML can hold."""
    if depth > 3 or rng.random() < 0.6:
        return one_of(rng, (*WORDS, 0, 1, 2, 1.5, True, False), 0.4)
    if rng.random() < 0.5:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(WORDS): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def mapping(
    rng: random.Random,
    fields: Mapping[str, Callable[[random.Random], Any]],
    share: float = 0.5,
    share_wrong: float = 0.06,
) -> dict[str, Any]:
    """Return some of the fields with values of theirs; now and then a value of another kind, or another key."""
    found = {}
    for name, make in fields.items():
        if rng.random() < share:
            found[name] = value(rng) if is_odd(rng, share_wrong) else make(rng)
    while is_odd(rng, share_wrong):
        found[str(one_of(rng, WORDS, 0.5))] = value(rng)
    return found


def text_of(rng: random.Random, whole: Any, kind: str) -> bytes:
    """Return a document as JSON, YAML or TOML, damaged now and then."""
    if kind == "toml":
        text = "\n".join(_toml_lines(whole)) + "\n"
    elif kind == "yaml" and rng.random() < 0.8:
        text = "\n".join(_yaml_lines(whole, 0)) + "\n"
    else:
        text = json.dumps(whole, indent=rng.choice((None, 1, 2)))
    return damaged(rng, text)


def damaged(rng: random.Random, text: str, share: float = 0.12) -> bytes:
    """Return a text as bytes; now and then cut, doubled, in another encoding, or with other bytes in it."""
    data = text.encode("utf-8", "surrogateescape" if _is_escaped(text) else "replace")
    if not is_odd(rng, share):
        return data
    at = rng.randrange(len(data) + 1)
    how = rng.randrange(9)
    if how == 0:
        return data[:at]
    if how == 1:
        return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9))) + data[at:]
    if how == 2:
        return text.encode("utf-16", "replace")
    if how == 3:
        return b"\xef\xbb\xbf" + data
    if how == 4:
        return text.encode("latin-1", "replace").replace(b"e", b"\xe9")
    if how == 5:
        return data.replace(b"\n", b"\r\n")
    if how == 6:
        return (
            data[:at] + rng.choice((b"[" * 3000, b"{" * 3000, b"(" * 3000, b" " * 5000)) + data[at:]
        )
    if how == 7:
        return data + data[at:] + data
    return data.replace(rng.choice((b":", b"=", b'"', b"\n", b" ", b"1")), b"")


def _is_escaped(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _yaml_lines(whole: Any, depth: int) -> list[str]:
    space = "  " * depth
    if isinstance(whole, dict) and whole:
        lines = []
        for key, item in whole.items():
            if isinstance(item, (dict, list)) and item:
                lines += [f"{space}{_scalar(key)}:", *_yaml_lines(item, depth + 1)]
            else:
                lines.append(f"{space}{_scalar(key)}: {_scalar(item)}")
        return lines
    if isinstance(whole, list) and whole:
        return [f"{space}- {_flow(item)}" for item in whole]
    return [space + _scalar(whole)]


def _flow(item: Any) -> str:
    return json.dumps(item) if isinstance(item, (dict, list)) else _scalar(item)


def _scalar(item: Any) -> str:
    if isinstance(item, str) and item.isidentifier():
        return item
    return json.dumps(item)


def _toml_lines(whole: Any, path: tuple[str, ...] = ()) -> list[str]:
    if not isinstance(whole, dict):
        return [f"value = {_flow(whole)}"]
    lines = [f"[{'.'.join(path)}]"] if path else []
    tables = {}
    for key, item in whole.items():
        if isinstance(item, dict):
            tables[key] = item
        elif item is not None:
            lines.append(f"{key if key.isidentifier() else json.dumps(key)} = {json.dumps(item)}")
    for key, item in tables.items():
        lines += _toml_lines(item, (*path, key if key.isidentifier() else json.dumps(key)))
    return lines
