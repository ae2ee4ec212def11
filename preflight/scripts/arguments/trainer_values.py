"""One argument's value from text or from a file, as HfArgumentParser and TrainingArguments convert it."""

from __future__ import annotations

import re
from typing import Any

from preflight.bool_words import HF_ARGUMENT
from preflight.errors import BadInput, Problem
from preflight.formats.load import load_json
from preflight.reading import Reading
from preflight.scripts.arguments.trainer_tables import Argument
from preflight.values import NamedTuple

"""transformers/hf_argparser.py, string_to_bool."""


class Written(NamedTuple):
    """How a value is named in what we say about it."""

    spelling: str
    """The flag or key as the user spelled it."""
    where: str
    choices_severity: str = "error"
    """`warning` where the installed library is not the version that the choices were read from."""


class NotConverted(Exception):
    """A value that its argument cannot have; carries the problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


def from_text(argument: Argument, text: str, written: Written) -> Reading[Any]:
    """Return one command line word as the argument's type, with what is worth saying. Raises NotConverted."""
    kind = argument.kind
    if kind in ("flag", "bool"):
        return Reading(to_bool(text, written))
    if kind in ("int", "list_int"):
        return Reading(_to_number(int, "a whole number", text, written))
    if kind in ("float", "list_float"):
        return Reading(_to_number(float, "a number", text, written))
    if kind == "dict":
        return Reading(_to_dict(text, written))
    if kind == "file_only":
        raise NotConverted(
            Problem(
                f"{written.spelling} cannot be given on the command line",
                written.where,
                "the library's parser has no text form for it; set it in the script or in an argument file",
            )
        )
    return Reading(text, _check_choice(argument, text, written))


def from_file(
    argument: Argument, value: Any, written: Written, converts_text: bool
) -> Reading[Any]:
    """Return a YAML or JSON value as the argument's type.

    `converts_text` is true for TrlParser (argparse converts a default that is text) and false for
    parse_json_file and parse_yaml_file, which hand the value on as it is. Raises NotConverted.
    """
    kind = argument.kind
    if value is None:
        return Reading(None)
    if isinstance(value, str) and (converts_text or kind in ("str", "optional_str", "dict")):
        if argument.is_list:
            return Reading(value)
        return from_text(argument, value, written)
    if isinstance(value, dict) and kind in ("str", "optional_str"):
        raise NotConverted(_must_be("text", value, written))
    if kind in ("flag", "bool"):
        if isinstance(value, (bool, int)):
            return Reading(bool(value))
        if isinstance(value, str) and value:
            return Reading(True, _reads_otherwise(value, written))
        raise NotConverted(_must_be("true or false", value, written))
    if kind in ("int", "float"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise NotConverted(_number_problem(kind, value, written))
        if kind == "int" and not isinstance(value, int):
            raise NotConverted(_must_be("a whole number", value, written))
        return Reading(value)
    if argument.choices and value is False and "no" in argument.choices:
        raise NotConverted(
            Problem(
                f"{written.spelling}: no is false in YAML, not the word no",
                written.where,
                f'put it in quotes: {written.spelling}: "no"',
            )
        )
    return Reading(value, _check_choice(argument, value, written))


def to_bool(text: str, written: Written) -> bool:
    """Return a word as transformers reads it. Raises NotConverted."""
    value = HF_ARGUMENT.read(text)
    if value is None:
        raise NotConverted(_must_be("true or false", text, written))
    return value


def _to_number(convert: Any, noun: str, text: str, written: Written) -> Any:
    try:
        return convert(text)
    except ValueError:
        raise NotConverted(_must_be(noun, text, written)) from None


def _number_problem(kind: str, value: Any, written: Written) -> Problem:
    noun = "a whole number" if kind == "int" else "a number"
    fix = ""
    if isinstance(value, str) and re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", value, re.IGNORECASE):
        # YAML 1.1 reads 2e-5 as text: it wants a dot before the e.
        fix = (
            "write it with a dot, as in 2.0e-5: YAML reads 2e-5 as text"
            if "e" in value.lower()
            else "write it without quotes"
        )
    return _must_be(noun, value, written, fix)


def _reads_otherwise(text: str, written: Written) -> tuple[Problem, ...]:
    """Return that a text stands where a switch does and turns it on, unless that is what it reads like."""
    if HF_ARGUMENT.read(text) is True:
        return ()
    message = f"{written.spelling}: the text {text!r} turns it on, as every text does: nothing converts it"
    fix = f"without quotes: {written.spelling}: false"
    return (Problem(message, written.where, fix, "PF110", "warning"),)


def _must_be(noun: str, value: Any, written: Written, fix: str = "") -> Problem:
    return Problem(f"{written.spelling} must be {noun}, not {value!r}", written.where, fix)


def _check_choice(argument: Argument, value: Any, written: Written) -> tuple[Problem, ...]:
    if argument.choices is None or value in argument.choices:
        return ()
    wanted = ", ".join(str(choice) for choice in argument.choices)
    fix = f"one of {wanted}"
    if len(argument.choices) > 8 and isinstance(value, str):
        import difflib

        near = difflib.get_close_matches(value, [str(c) for c in argument.choices], n=3)
        fix = f"did you mean {', '.join(near)}" if near else fix
    wrong = f"{written.spelling} cannot be {value!r}"
    if written.choices_severity != "error":
        wrong = f"{written.spelling} {value!r} is none of the values that the newest release takes"
    return (Problem(wrong, written.where, fix, "PF435", written.choices_severity),)


def _to_dict(text: str, written: Written) -> Any:
    """Return JSON text as a dict; other text is a path and stays text (TrainingArguments.__post_init__)."""
    if not text.startswith("{"):
        return text
    try:
        return convert_texts(load_json(text, written.spelling, duplicates="warning").value)
    except BadInput as error:
        problem = error.problems[0]
        message = f"{written.spelling} is not valid JSON: {problem.message}"
        raise NotConverted(Problem(message, written.where, problem.fix)) from error


def convert_texts(value: dict[str, Any]) -> dict[str, Any]:
    """Return a dict with numbers and booleans that were written as text converted, as transformers does."""
    converted: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            converted[key] = convert_texts(item)
        elif isinstance(item, str) and item.lower() in ("true", "false"):
            converted[key] = item.lower() == "true"
        elif isinstance(item, str) and item.isdecimal():
            converted[key] = int(item)
        elif isinstance(item, str) and item.replace(".", "", 1).isdecimal():
            converted[key] = float(item)
        else:
            converted[key] = item
    return converted
