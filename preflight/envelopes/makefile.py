"""A Makefile: its recipes, with make's variables filled in, and those that `make train N=8` runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from preflight.envelopes.contract import Part
from preflight.lazy_pattern import lazy_pattern
from preflight.shell.blocks import Block, joined_lines
from preflight.values import NamedTuple

_VARIABLE = lazy_pattern(
    r"(?:(?:export|override)\s+)*([A-Za-z_][\w.-]*)\s*(\?=|::?=|\+=|=)\s*(.*)", re.DOTALL
)
_REFERENCE = lazy_pattern(
    r"\$(?:\$|\(([A-Za-z_][\w.-]*)\)|\{([A-Za-z_][\w.-]*)\}|(\([^()]*\))|[@<^?+*%])"
)
_RULE = lazy_pattern(r"([^:=#]+?)\s*::?(?!=)\s*([^=#;]*?)(?:\s*[#;].*)?", re.DOTALL)
"""`train eval: data  ## makes a model`"""
_DEEPEST = 8


class Recipe(NamedTuple):
    """One line of a recipe."""

    targets: tuple[str, ...]
    block: Block


def made_parts(text: str, words: Sequence[str]) -> Iterator[Part]:
    """Yield the recipe lines that make runs for the words behind it: targets, what these need, and `NAME=VALUE`."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    needed = _needed(text, [word for word in words if "=" not in word])
    for recipe in recipes(text, given):
        if needed & set(recipe.targets):
            yield Part(recipe.block)


def _needed(text: str, targets: Sequence[str]) -> set[str]:
    """Return the targets with all that they need; the first of the file where none is named."""
    needs: dict[str, set[str]] = {}
    for _, line in joined_lines(text):
        rule = None if line.startswith("\t") or not line.strip() else _RULE.fullmatch(line.strip())
        if rule is not None:
            for target in rule[1].split():
                needs.setdefault(target, set()).update(rule[2].replace("|", " ").split())
    named = [name for name in needs if not name.startswith(".")]
    left, found = list(targets or named[:1]), set()
    while left:
        target = left.pop()
        if target not in found:
            found.add(target)
            left += sorted(needs.get(target, ()))
    return found


def recipes(text: str, given: Mapping[str, str] | None = None) -> Iterator[Recipe]:
    """Yield the recipe lines of a Makefile, each of which has a shell of its own, with make's variables filled in.

    `given` are the variables of make's command line, which beat those of the file.
    """
    given = given or {}
    variables: dict[str, str] = dict(given)
    exported: dict[str, str] = dict(given)
    targets: tuple[str, ...] = ()
    for number, line in joined_lines(text):
        if line.startswith("\t"):
            command = re.sub(r"^[\s@+-]+", "", line)
            block = Block(number, _filled(command, variables, 0), dict(exported))
            yield Recipe(targets, block)
            continue
        match = _VARIABLE.fullmatch(line.strip())
        if match is None:
            rule = _RULE.fullmatch(line.strip())
            if rule is not None:
                targets = tuple(_filled(rule[1], variables, 0).split())
            continue
        name, operator, value = match.groups()
        value = re.sub(r"\s*\\\n\s*", " ", value.partition(" #")[0]).strip()
        if operator == "+=" and name in variables and name not in given:
            value = f"{variables[name]} {value}"
        if name not in given and (operator != "?=" or name not in variables):
            variables[name] = value
        if line.split()[0] == "export":
            exported[name] = _filled(variables[name], variables, 0)


def _filled(text: str, variables: Mapping[str, str], depth: int) -> str:
    """Return a text as make hands it on: its variables filled in, `$$` as one `$`, its functions and `$@` left to be not known."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match[1] or match[2]
        if name is None:
            return "${make_function}"
        if name in variables and depth < _DEEPEST:
            return _filled(variables[name], variables, depth + 1)
        return "${" + re.sub(r"\W", "_", name) + "}"

    return _REFERENCE.sub(value, text)
