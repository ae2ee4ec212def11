"""What Python's own functions, and methods of texts and mappings, give in a training script; no function of its own.

`os.environ.get`, `int`, `getattr`, `len`, `isinstance`, `vars`, `dict`, `"a,b".split(",")` and `config.get("rows", 4)`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from preflight.launch import LaunchCommand
from preflight.scripts.python.attribute_changes import Update, dotted_path
from preflight.scripts.python.file_paths import FUNCTIONS, METHODS, called, of_method
from preflight.scripts.python.names import Names
from preflight.scripts.python.nodes import unparse
from preflight.scripts.python.operators import (
    OF_SEVERAL,
    TEXT_METHODS,
    item_of,
    of_function,
    of_text,
)
from preflight.scripts.python.own_words import is_argv, num_words
from preflight.scripts.python.scope import UNKNOWN, Known, Parsed, Scope
from preflight.scripts.python.set_variables import ANY_VARIABLE, SetIn, set_variables
from preflight.setting import Place

DTYPE_NAMES = ("bfloat16", "float16", "float32", "float64", "half", "float", "uint8", "int8")
_CASTS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "str": str, "bool": bool}
_KINDS: dict[str, type] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}
WORLD_SIZE = "WORLD_SIZE"
COUNTS_RANKS = ("dist.get_world_size", "torch.distributed.get_world_size")
"""Calls that count the ranks of the process group that a launcher starts; one with a group counts others."""
ENUMERATIONS = ("AttentionBackendName", "LMLossImplementation", "TransformerActivationCheckpointingMode")  # fmt: skip
"""Enumerations of olmo_core whose members are texts that say their own names (nn/attention/backend.py, nn/lm_head.py,
nn/transformer/config.py, 2.6.0 and 3.0.0)."""
AS_DICT = ("vars", "asdict", "dataclasses.asdict")
"""Functions that give what an object holds by its names."""
COUNTS_DEVICES = "torch.cuda.device_count"
ARE_THERE = {"torch.cuda.is_available": True, "torch.backends.mps.is_available": False}
"""Kind of device that a script asks for -> whether a launch that is judged has it: it is one on GPUs of CUDA's or ROCm's."""
DOWNLOADS = "snapshot_download"
"""Function of huggingface_hub and of ModelScope that gives the folder of a repository: here that is its name."""
SET_BY_LAUNCHERS = (
    "ACCELERATE_",
    "FSDP_",
    "GROUP_",
    "LOCAL_",
    "MASTER_",
    "RANK",
    "ROLE_",
    "SLURM_",
    "TORCHELASTIC_",
    WORLD_SIZE,
)
"""Beginnings of the variables that a launcher gives its ranks: what the caller's shell has says nothing."""


def _copied(node: ast.Call, name: str) -> ast.expr | None:
    """Return what `copy.deepcopy(config)`, `config.copy()` or `dict(config)` is a copy of; None for any other call."""
    if node.keywords or len(node.args) > 1:
        return None
    if node.args and name in ("copy.deepcopy", "copy.copy", "deepcopy", "dict"):
        return node.args[0]
    is_method = isinstance(node.func, ast.Attribute) and node.func.attr == "copy" and not node.args
    return node.func.value if is_method and isinstance(node.func, ast.Attribute) else None


class PythonCalls(Names):
    """Evaluates calls of what every script has: Python's own, and those of os."""

    def __init__(self, command: LaunchCommand) -> None:
        super().__init__()
        self.command = command
        self.changed_attributes: Mapping[str, int] = {}
        """Attributes that the script sets on some name, and how often: those of parsed arguments may then be other ones."""
        self.changed_paths: frozenset[str] = frozenset()
        """What the script sets by a longer path, or by a key, with dots: of `config["model"].name` it is `config.model.name`."""
        self.updates: Sequence[Update] = ()
        """What gives objects names that are no text of the script."""
        self._updating = False
        self.devices: int | None = None
        """What stands for how many devices a node has, while something is asked of them."""
        self.blocks: Sequence[tuple[list[ast.stmt], Scope]] = ()
        """The script's, in which it may set variables."""

    @cached_property
    def set_variables(self) -> Mapping[str, list[SetIn]]:
        """What the script sets in its own environment."""
        return set_variables(self.blocks, self.command)

    def names_now(self, holder: Parsed) -> Mapping[str, Known]:
        """Return what an object holds once the script has given it the entries of a mapping, where it does."""
        names = holder.names
        if not self.updates or self._updating:
            return names
        self._updating = True  # what a mapping is read from is what the object held before
        try:
            for each in self.updates:
                runs = [
                    value if value is UNKNOWN else bool(value) is guard.wanted
                    for guard in each.guards
                    if guard.test is not None
                    for value in (self.value(guard.test, each.scope),)
                ]
                if False in runs or self.value(each.owner, each.scope) != holder:
                    continue
                given = UNKNOWN if each.mapping is None else self.value(each.mapping, each.scope)
                entries = given.names if isinstance(given, Parsed) else given
                place = Place("script", each.scope.path, "", each.owner.lineno)
                if not isinstance(entries, dict):
                    return {name: Known(UNKNOWN, place) for name in names}
                is_sure = UNKNOWN not in runs
                names = {**names, **{key: _entry(entries[key], place, is_sure) for key in entries}}
        finally:
            self._updating = False
        return names

    def of_call(self, node: ast.Call, scope: Scope, depth: int) -> object:
        """Return what a call gives; UNKNOWN where it is none of these, or what it is given is not known."""
        name = unparse(node.func)
        if name in ("os.getenv", "os.environ.get", "getenv", "environ.get") and node.args:
            held = self.variable(self.value(node.args[0], scope, depth), None)
            if held is not None:
                return held
            return self.evaluate(node.args[1], scope, depth) if len(node.args) > 1 else None
        if name in _CASTS and len(node.args) == 1 and not node.keywords:
            inner = self.evaluate(node.args[0], scope, depth)
            try:
                return (
                    Known(_CASTS[name](inner.value), inner.place, inner.flag)
                    if (isinstance(inner.value, (str, int, float, bool)))
                    else UNKNOWN
                )
            except (ValueError, OverflowError):
                return UNKNOWN
        if name.rpartition(".")[2] in ENUMERATIONS and len(node.args) == 1 and not node.keywords:
            return self.evaluate(node.args[0], scope, depth)
        if name.rpartition(".")[2] == DOWNLOADS:
            told = [k.value for k in node.keywords if k.arg in ("repo_id", "model_id")]
            given = [*node.args[:1], *told]
            return self.evaluate(given[0], scope, depth) if given else UNKNOWN
        if name in COUNTS_RANKS and not node.args and not node.keywords:
            return self.ranks()
        if self.devices is not None and name == COUNTS_DEVICES:
            return self.devices
        if name in ARE_THERE and not node.args and not node.keywords:
            return ARE_THERE[name] if self.shows_devices else UNKNOWN
        if name == "getattr" and len(node.args) >= 2:
            attribute = self.value(node.args[1], scope, depth)
            if isinstance(attribute, str) and attribute in DTYPE_NAMES:
                return attribute
            holder = self.value(node.args[0], scope, depth)
            if isinstance(holder, Parsed) and isinstance(attribute, str):
                is_changed = attribute in self.changed_attributes
                return UNKNOWN if is_changed else self.names_now(holder).get(attribute, UNKNOWN)
        if isinstance(node.func, ast.Attribute) and node.func.attr in TEXT_METHODS:
            made = self._of_text(node, node.func, scope, depth)
            if made is not UNKNOWN or node.func.attr not in FUNCTIONS:
                return made
        if name == "len" and len(node.args) == 1 and is_argv(node.args[0]):
            return num_words(self.command, scope.path)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
            holder = self.value(node.func.value, scope, depth)
            key = self.value(node.args[0], scope, depth)
            if isinstance(holder, Parsed) and isinstance(key, str):
                if key in self.names_now(holder):
                    return self.of_parsed(holder, key, node.func.value)
                return self.evaluate(node.args[1], scope, depth) if len(node.args) > 1 else None
            if isinstance(holder, dict) and isinstance(key, str):
                if key in holder:
                    return self.of_mapping(holder, key)
                return self.evaluate(node.args[1], scope, depth) if len(node.args) > 1 else None
        path = UNKNOWN if node.keywords else self._of_path(node, name, scope, depth)
        if path is not UNKNOWN:
            return path
        if name in OF_SEVERAL and not node.keywords:
            return of_function(name, [self.value(item, scope, depth) for item in node.args])
        if name == "isinstance" and len(node.args) == 2:
            kind = _KINDS.get(unparse(node.args[1]))
            value = self.value(node.args[0], scope, depth)
            is_dtype = isinstance(value, str) and value in DTYPE_NAMES  # a text stands for it here
            is_open = kind is None or value is UNKNOWN or is_dtype or isinstance(value, Parsed)
            return UNKNOWN if is_open or kind is None else isinstance(value, kind)
        if name in AS_DICT and len(node.args) == 1:
            held = self.value(node.args[0], scope, depth)
            if not isinstance(held, Parsed):
                return UNKNOWN
            return {
                key: UNKNOWN if key in self.changed_attributes else known
                for key, known in self.names_now(held).items()
            }
        copied = _copied(node, name)
        if copied is not None:
            held = self.value(copied, scope, depth)
            return held if isinstance(held, (dict, list)) else UNKNOWN
        if name == "dict" and not node.args:
            values = {
                keyword.arg: self.value(keyword.value, scope, depth)
                for keyword in node.keywords
                if keyword.arg is not None
            }
            return values if len(values) == len(node.keywords) else UNKNOWN
        return UNKNOWN

    def of_loop(
        self,
        node: ast.ListComp | ast.DictComp | ast.SetComp | ast.GeneratorExp,
        scope: Scope,
        depth: int,
    ) -> object:
        """Return what a comprehension gives."""
        from preflight.scripts.python.comprehensions import comprehended  # few scripts need one

        return comprehended(self, node, scope, depth)

    def for_devices(self, node: ast.expr, scope: Scope, devices: int) -> object:
        """Return the value of an expression where a node has so many devices."""
        self.devices = devices
        try:
            with self.told(scope, dict(scope.parameters)):
                return self.value(node, scope)
        finally:
            self.devices = None

    def _of_path(self, node: ast.Call, name: str, scope: Scope, depth: int) -> object:
        """Return the path that a call makes of others; UNKNOWN for any other call."""
        is_method = isinstance(node.func, ast.Attribute) and node.func.attr in METHODS
        if name.rpartition(".")[2] not in FUNCTIONS and not is_method:
            return UNKNOWN
        given = [self.value(item, scope, depth) for item in node.args]
        if isinstance(node.func, ast.Attribute) and is_method:
            held = self.value(node.func.value, scope, depth)
            return of_method(node.func.attr, held, given, self.command.cwd)
        return called(name, given, self.command.cwd)

    @property
    def shows_devices(self) -> bool:
        """Tell whether the launch hides no device from its ranks."""
        shown = self.command.env.get("CUDA_VISIBLE_DEVICES", "0").strip()
        return bool(shown) and not shown.startswith("-")

    def ranks(self) -> object:
        """Return how many ranks the launcher starts; UNKNOWN where it starts one process, or nobody counts them."""
        ranks = self.command.num_ranks
        return Known(ranks, Place("env", "", WORLD_SIZE)) if ranks else UNKNOWN

    def variable(self, key: object, unset: object) -> object:
        """Return what a variable of the ranks holds; `unset` where it has no value."""
        if not isinstance(key, str):
            return unset
        if key == WORLD_SIZE and self.command.num_ranks is not None:
            ranks = self.command.num_ranks
            return Known(str(ranks), Place("env", "", key)) if ranks else unset
        if key.startswith(SET_BY_LAUNCHERS):
            return UNKNOWN
        env = self.command.env
        written = (*self.set_variables.get(key, ()), *self.set_variables.get(ANY_VARIABLE, ()))
        if written and not (written[0].is_default and key in env):
            one = written[0].value if len(written) == 1 and written[0].is_sure else None
            return UNKNOWN if one is None else self.evaluate(one, written[0].scope)
        return Known(env[key], Place("env", "", key)) if key in env else unset

    def of_parsed(self, holder: Parsed, name: str, owner: ast.expr) -> object:
        """Return an attribute, or a key, of an object of settings that no statement sets by its whole path."""
        is_changed = (
            bool(self.changed_paths) and f"{dotted_path(owner)}.{name}" in self.changed_paths
        )
        return UNKNOWN if is_changed else self.names_now(holder).get(name, UNKNOWN)

    def of_mapping(self, holder: object, key: object) -> object:
        """Return what a container has under a key; UNKNOWN of a mapping where another name of it sets the key."""
        is_changed = isinstance(holder, dict) and f"*.{key}" in self.changed_paths
        return UNKNOWN if is_changed else item_of(holder, key)

    def _of_text(self, node: ast.Call, func: ast.Attribute, scope: Scope, depth: int) -> object:
        """Return what a method of a text gives; a part of what one flag says is still that flag's."""
        held = self.evaluate(func.value, scope, depth)
        arguments = [self.value(item, scope, depth) for item in node.args]
        named = {str(each.arg): self.value(each.value, scope, depth) for each in node.keywords}
        value = of_text(func.attr, held.value, arguments, named)
        return Known(value, held.place) if value is not UNKNOWN else UNKNOWN


def _entry(value: object, place: Place, is_sure: bool) -> Known:
    """Return what an object has of a mapping's entry, which it may or may not be given."""
    known = value if isinstance(value, Known) else Known(value, place)
    return known if is_sure else Known(UNKNOWN, known.place)
