"""The JSON Schemas of docs/schema, the commands whose output each describes, and what a value breaks of one."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from preflight.commands import COMMANDS
from preflight.commands.parser import Parser, parser_of
from preflight.commands.slurm import WORDS

ROOT = Path(__file__).parent.parent
SCHEMAS = {
    path.name: json.loads(path.read_text()) for path in (ROOT / "docs/schema").glob("*.json")
}
REGISTRY: Registry[Any] = Registry().with_resources(
    [(name, Resource.from_contents(schema)) for name, schema in SCHEMAS.items()]
)
ROW = re.compile(r"^\| \[([\w-]+\.json)\]\(schema/\1\) \| (.*) \|$", re.M)
"""A schema's row of docs/reference-json.md."""


def problems(name: str, value: Any) -> list[str]:
    """Return what is wrong with a value, each with its place in it."""
    validator = Draft202012Validator({"$ref": name}, registry=REGISTRY)
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


def declared(schema: Any) -> Iterator[str]:
    """Yield every property that a schema names itself."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for value in schema.values():
            yield from declared(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from declared(item)


def keys_of(value: Any) -> Iterator[str]:
    """Yield every key of every object in a value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from keys_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from keys_of(item)


def all_commands() -> list[str]:
    """Return every command that does something: `check`, `slurm audit`."""
    return [*(name for name in COMMANDS if name != "slurm"), *(f"slurm {word}" for word in WORDS)]


def formats_of(command: str) -> tuple[str, ...]:
    """Return the choices of a command's `--format`."""
    name, *words = command.split()
    if words:
        word = words[0]
        module = importlib.import_module(f"preflight.commands.{WORDS[word][0]}")
        parser: Parser = module.parser(word)
    else:
        parser = parser_of(name)
    formats = dict(parser.actions()).get("--format")
    return () if formats is None else tuple(formats.choices or ())


def described() -> dict[str, str]:
    """Return command -> schema, as the page about JSON lists them."""
    page = (ROOT / "docs" / "reference-json.md").read_text()
    commands = set(all_commands())
    return {
        word: name
        for name, words in ROW.findall(page)
        for word in re.findall(r"`([^`]+)`", words)
        if word in commands
    }
