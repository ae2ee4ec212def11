"""What a training script says about itself: the arguments of the calls that decide memory.

Here is the gate between what can be evaluated and what is said to the rest of preflight: behind it a value is whole
and plain. What only running tells is a name in `unread`, and never a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.launch_facts import Uncounted
from preflight.scripts.python.scope import UNKNOWN, Known, Parsed
from preflight.setting import Place, Setting
from preflight.values import dataclass

NUMBERS = {
    "per_device_train_batch_size": "micro_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
}
"""Argument of a trainer that is a number -> the plan field that it is."""


@dataclass(frozen=True)
class Said:
    """A plain value that a script gives an argument, where it is written, and the flag that sets it, where one does."""

    value: Any
    place: Place
    flag: str = ""
    """Without dashes; empty where no flag reaches the value."""
    left_out: tuple[str, ...] = ()
    """Keys of a dict whose values only running tells, of the dicts in it too: `zero_optimization.stage` beside
    `zero_optimization`; the value is without them."""


def said_of(known: Known) -> Said | None:
    """Return what of a value is known; None where that is nothing."""
    value = _plain(known.value)
    if value is UNKNOWN:
        return None
    left_out = _left_out(known.value)
    if left_out and not value:
        return None
    return Said(value, known.place, known.flag, left_out)


def _plain(value: object) -> object:
    """Return a value without the entries that only running tells; UNKNOWN where it is none of the plain kinds."""
    if isinstance(value, Known):  # an entry of vars(args), which knows its own place
        return _plain(value.value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        is_whole = not any(item is UNKNOWN for item in items) and not any(map(_left_out, value))
        return type(value)(items) if is_whole else UNKNOWN
    if isinstance(value, dict):
        named = {key: _plain(item) for key, item in value.items() if isinstance(key, (str, int))}
        return {key: item for key, item in named.items() if item is not UNKNOWN}
    return UNKNOWN


def _left_out(value: object) -> tuple[str, ...]:
    """Return the keys of a dict, and of the dicts in it, whose values are not known."""
    if isinstance(value, (Known, Parsed)):
        return _left_out(value.value) if isinstance(value, Known) else ()
    if not isinstance(value, dict):
        return ()
    found: list[str] = []
    for key, item in value.items():
        inner = _left_out(item)
        if inner or _plain(item) is UNKNOWN:
            found += [str(key), *(f"{key}.{each}" for each in inner)]
    return tuple(found)


OFFLOADS = {"offload_optimizer": "offload_optimizer", "offload_param": "offload_params"}
"""Section of DeepSpeed's `zero_optimization` -> plan field."""


def unread_of_deepspeed(config: Said) -> dict[str, Place] | None:
    """Return the plan fields of which only running tells what a DeepSpeed config says; None where its stage is one."""
    zero = config.value.get("zero_optimization")
    is_open = "zero_optimization" in config.left_out and not isinstance(zero, dict)
    if is_open or "zero_optimization.stage" in config.left_out:
        return None
    unread = {
        name: config.place
        for section, name in OFFLOADS.items()
        if f"zero_optimization.{section}" in config.left_out
    }
    if {"bf16", "fp16"} & {*config.left_out}:
        unread["mixed_precision"] = config.place
    return unread


@dataclass(frozen=True)
class Refused:
    """A keyword that the script gives a class of arguments which has none of that name."""

    name_of_class: str
    place: Place
    taken: frozenset[str]
    """Every argument of the class, in the release whose arguments are in the table."""


@dataclass(frozen=True)
class OwnEngine:
    """What a script makes of its ranks and its model without a Trainer."""

    engines: tuple[str, ...] = ()
    """Engines that it sets up, each once; more than one, or none that is sure, where only running tells."""
    is_sure: bool = False
    """Whether the one engine surely runs."""
    place: Place = Place("script", "", "")
    fields: Mapping[str, Said] = field(default_factory=dict)
    """Plan field -> what the call says of it."""
    strategy: str = "FULL_SHARD"
    """FSDP1's sharding strategy."""
    group: str = "all"
    """Over which ranks FSDP divides the model: `all`, those of a `mesh` that is not read, of a `node` or all, or `perhaps` those of one, where not all
    arguments of the call are read."""
    unread: Mapping[str, Place] = field(default_factory=dict)
    """Plan field -> the call that sets it to what only running tells."""
    deepspeed: Said | None = None
    """The config that deepspeed.initialize is given as a dict."""
    spawns: Place | None = None
    """Where the script starts its ranks itself."""
    num_ranks: Said | None = None
    """How many it starts, where it says a number."""


OF_ROWS = ("max_length", "max_seq_length")
"""Names by which TRL's arguments have had the length at which rows are cut."""
OF_ARGUMENTS = "length_of_arguments"
"""What is seen where a script makes TRL's arguments with one."""


@dataclass
class ScriptSettings:
    """Argument name (the Trainer's, TRL's ModelConfig's) -> value; and what was seen and could not be read."""

    arguments: dict[str, Said] = field(default_factory=dict)
    unread: dict[str, Place] = field(default_factory=dict)
    """Argument -> where it is set to something that cannot be known without running the script."""
    may_be: dict[str, tuple[object, ...]] = field(default_factory=dict)
    """Plan field of which an argument is in `unread` -> the values of which it surely has one, where that much is known."""
    set_later: set[str] = field(default_factory=set)
    """Arguments that it sets on the parsed object: a flag says no more what they are."""
    seen: dict[str, Place] = field(default_factory=dict)
    """trainer_arguments, lora, quantization, model, accelerator, fsdp_plugin, deepspeed_plugin -> the call."""
    refused: dict[str, Refused] = field(default_factory=dict)
    device_map: Said | None = None
    """What the model is loaded with; as written, where only running tells the value and that is surely not None."""
    zero3_is_on: bool | None = None
    """Whether transformers knows of DeepSpeed when the model is loaded; None where the order is not known."""
    zero_init: bool | None = None
    """Whether ZeRO-3 partitions the model as it is made; None where that is not known."""
    fsdp_plugin: dict[str, Said] = field(default_factory=dict)
    """Keywords of FullyShardedDataParallelPlugin."""
    deepspeed_plugin: dict[str, Said] | None = None
    """Keywords of the only DeepSpeedPlugin; None where there is none, or not all of it is read."""
    environment: dict[str, Setting] = field(default_factory=dict)
    """Variables that it sets in its own environment."""
    uncounted: dict[str, Uncounted] = field(default_factory=dict)
    """What it holds that no formula counts -> where, and what that takes."""
    engine: OwnEngine | None = None
    """The engine that the script sets up itself, and the ranks that it starts; None where it does neither."""

    def put(self, name: str, known: Known) -> None:
        """Record an argument; what is not known is noted as such."""
        said = said_of(known)
        if said is None:
            self.arguments.pop(name, None)
            self.doubt(name, known.place)
        else:
            self.arguments[name] = said
            self.unread.pop(name, None)

    def put_later(self, name: str, known: Known) -> None:
        """Record an argument that is set behind the parser's: a flag of its name says no more what it is."""
        self.put(name, known)
        self.set_later.add(name)

    def read_as(self, name: str) -> str:
        """Return under which name an argument is recorded that is set anew: `max_length` of TRL's arguments is the length of
        rows, where they were made with one."""
        is_length = name in OF_ROWS and OF_ARGUMENTS in self.seen
        return "seq_len" if is_length else name

    def doubt(self, name: str, place: Place) -> None:
        """Note what may set an argument that nothing else says."""
        if name not in self.arguments:
            self.unread.setdefault(name, place)
            self.may_be.pop(NUMBERS.get(name, ""), None)
