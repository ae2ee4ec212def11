"""Builtins that fill variables, where a script's text tells with what: `read`, `mapfile`, `printf -v`, `getopts`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from preflight.shell.tree import Redirection
from preflight.shell.values import Unknown, Variables, text_of


def fill(
    argv: Sequence[str], redirections: Sequence[Redirection], variables: Variables
) -> bool | None:
    """Set what a builtin sets; return whether it succeeds, None where that is not known.

    What it would set and nobody knows is set to what is not known.
    """
    if argv[0] == "getopts":
        return _getopts(argv, variables)
    if argv[0] == "printf":
        return _printf(argv, variables)
    names = _names(argv)
    text = _input(redirections, variables)
    if text is None:
        for name in names:
            variables.values[name] = None
        return None
    if argv[0] != "read":
        variables.values[names[0] if names else "MAPFILE"] = text.splitlines()
        return True
    words = text.partition("\n")[0].split()
    letters = "".join(word[1:] for word in argv[1:] if word.startswith("-"))
    if "a" in letters and names:
        variables.values[names[0]] = words
        return True
    for index, name in enumerate(names):
        end = None if index == len(names) - 1 else index + 1
        variables.values[name] = " ".join(words[index:end])
    return bool(text)


def _names(argv: Sequence[str]) -> list[str]:
    """Return the variables of `read` or `mapfile`, without options and their values."""
    takes_value = "dinNptu" if argv[0] == "read" else "dnOsuCc"
    found, skips = [], False
    for word in argv[1:]:
        if skips:
            skips = False
        elif word.startswith("-") and len(word) > 1:
            skips = word[-1] in takes_value
        else:
            found.append(word)
    return found


def _input(redirections: Sequence[Redirection], variables: Variables) -> str | None:
    for redirection in redirections:
        try:
            if redirection.operator == "<<<":
                return text_of(redirection.target, variables) + "\n"
            if redirection.operator == "<<":
                return redirection.target if redirection.is_quoted else None
            if redirection.operator == "<":
                inside = re.fullmatch(r"<\((.*)\)", redirection.target, re.DOTALL)
                text = inside[1] if inside else f"cat {redirection.target}"
                return variables.substitute(text)
        except Unknown:
            return None
    return None


def _printf(argv: Sequence[str], variables: Variables) -> bool | None:
    if len(argv) < 4 or argv[1] != "-v":
        return None
    values = [int(word) if word.lstrip("-").isdecimal() else word for word in argv[4:]]
    try:
        variables.values[argv[2]] = argv[3] % tuple(values)
    except (TypeError, ValueError):
        variables.values[argv[2]] = None
    return True


def _getopts(argv: Sequence[str], variables: Variables) -> bool | None:
    """Do one step of `getopts "m:b:" opt`; every option in a word of its own."""
    if len(argv) != 3:
        return None
    letters, name = argv[1].lstrip(":"), argv[2]
    index = int(variables.text("OPTIND") or "1")
    words = variables.arguments
    word = words[index - 1] if index <= len(words) else ""
    variables.values["OPTIND"] = str(index)
    if len(word) < 2 or word[0] != "-" or word == "--":
        return False
    at = letters.find(word[1])
    variables.values[name] = word[1] if at >= 0 else "?"
    index += 1
    if at >= 0 and letters[at + 1 : at + 2] == ":":
        value = word[2:]
        if not value and index <= len(words):
            value = words[index - 1]
            index += 1
        variables.values["OPTARG"] = value
    variables.values["OPTIND"] = str(index)
    return True
