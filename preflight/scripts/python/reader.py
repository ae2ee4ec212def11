"""A training script read for one command line: the calls that run, and those that make a trainer's arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from preflight.plan_choices import HF_TRAINERS
from preflight.scripts.arguments.trainer_tables import fields_of_class
from preflight.scripts.python.dataclass_fields import (
    TRAINER_BASES,
    bases,
    dataclass_types,
    is_trainer_class,
)
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import last_name, unparse
from preflight.scripts.python.running_calls import RunningCalls
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.setting import Place

if TYPE_CHECKING:
    from preflight.scripts.python.uses import Uses

_NO_TOKENIZERS = ("from_pretrained", "pipeline", "partial", "dict", "")
"""Functions that are told of truncation for what they make, or hand on."""


class ScriptReader(RunningCalls):
    """One script with the files of the repository that it imports, read for one command line."""

    @cached_property
    def truncating(self) -> frozenset[str]:
        """Names, of no function or class of the script's own, that some call tells whether to truncate: tokenizers."""
        told = {
            last_name(node.func)
            for node in self.nodes
            if isinstance(node, ast.Call)
            and any(each.arg == "truncation" for each in node.keywords)
        }
        own = {*self.functions, *self.classes, *_NO_TOKENIZERS}
        return frozenset(name for name in told - own if not name[:1].isupper())

    @cached_property
    def uses(self) -> Uses:
        """Where names and texts stand in the files, for those who follow an object through them."""
        from preflight.scripts.python.uses import Uses  # most launches follow none

        return Uses(self.trees)

    def arguments_from_elsewhere(self) -> Place | None:
        """Return where the Trainer's arguments are of a class of that name which is no library's, or is built on one."""
        used = [
            (node, found.scope.path)
            for found in self.everywhere
            if found.name in self.dataclass_parsers
            for node in dataclass_types(found.node, found.scope)
        ]
        for cls, scope in self.classes.values():
            if cls.name in TRAINER_BASES or is_trainer_class(cls, self.classes):
                used += [(base, scope.path) for base in cls.bases]
        for node, path in used:
            if isinstance(node, ast.Attribute) and self.class_of(unparse(node), path) is None:
                root = unparse(node).partition(".")[0]
                module = self.libraries.get(path, {}).get(root, root).partition(".")[0]
                is_named = node.attr in TRAINER_BASES or re.search("Train|Config$", node.attr)
                if is_named and module not in HF_TRAINERS:
                    return Place("script", path, unparse(node), node.lineno)
        return None

    def trainer_defaults(self) -> Iterator[tuple[str, Known]]:
        """Yield the fields that the subclasses of TrainingArguments in use add or give another default."""
        own = {
            name for name, (cls, _) in self.classes.items() if is_trainer_class(cls, self.classes)
        }
        parsed = [
            last_name(node) if held is None else held[0].name
            for found in self.everywhere
            if found.name in self.dataclass_parsers
            for node in dataclass_types(found.node, found.scope)
            for held in (self.class_meant(node, found.scope.path),)
        ]
        above = {name for each in own for name, *_ in bases(self.classes[each][0], self.classes)}
        used = own & {*parsed, *(found.name for found in self.everywhere)}
        names = sorted(used or own - above)
        fill = self.from_command if used or len(names) == 1 else self.as_filled
        fields = {name: fill(*self.classes[name]).names for name in names}
        said: dict[str, Known] = {}
        for each in fields.values():
            for argument, known in each.items():
                other = said.setdefault(argument, known)
                if other.value != known.value:
                    said[argument] = Known(UNKNOWN, known.place)
        for argument, known in said.items():
            is_default = known.place.kind == "script"
            if used or not is_default or all(argument in each for each in fields.values()):
                yield argument, known
            elif argument in (fields_of_class("TrainingArguments") or ()):
                yield argument, Known(UNKNOWN, known.place)  # of whichever class it is

    def parses_trainer_arguments(self) -> bool:
        """Tell whether a parser may make the Trainer's arguments, beside calls that do."""
        made = [found for found in self.everywhere if found.name in self.dataclass_parsers]
        types = [dataclass_types(found.node, found.scope) for found in made]
        names = self.trainer_names()
        return any(not each or any(last_name(node) in names for node in each) for each in types)

    def trainer_calls(self) -> list[CallFound]:
        """Return the calls that make the Trainer's arguments."""
        names = self.trainer_names()
        return [found for found in self.calls if found.name in names]

    def unsure_trainer_calls(self) -> list[CallFound]:
        """Return the calls that may make the Trainer's arguments, if a condition holds."""
        names = self.trainer_names()
        return [found for found in self.unsure if found.name in names]

    def trainer_names(self) -> set[str]:
        """Return the classes of the Trainer's arguments: the libraries', and the script's own on top of them."""
        own = {
            name for name, (cls, _) in self.classes.items() if is_trainer_class(cls, self.classes)
        }
        return {*TRAINER_BASES, *own}
