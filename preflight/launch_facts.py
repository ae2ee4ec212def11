"""What a reader learned of a launch that no plan field holds: of its ranks, its script, its trainer and its engine.

Checks read these values and memory rules do. A reader fills what it knows of; the defaults say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.setting import Place, Setting
from preflight.values import NamedTuple, dataclass

EVALUATED = "evaluated_len"
"""Argument of none: the length at which a callback has rows cut while it evaluates."""


@dataclass(frozen=True)
class RankFacts:
    """How the launcher starts the ranks and how they find each other; their number is in the plan."""

    main_address: Setting | None = None
    """The address of the first node, where somebody gave one."""
    meeting_port: Setting | None = None
    """The port at which the first node will listen, given or the launcher's own; None where it listens at none, or at
    one that is free."""
    other_port: str = ""
    """How the launcher is told another port."""
    moves_port: bool = False
    """Whether the launcher takes another port by itself where this one is taken."""
    node_rank: Setting | None = None
    """The number of this node among the nodes, where somebody gave one."""
    gpu_ids: Setting | None = None
    """The GPUs that accelerate lets the ranks of a node see: numbers with commas between them, or `all`."""
    ranks_by_host: Mapping[str, int] = field(default_factory=dict)
    """Host -> its ranks, where the launcher knows the hosts by name."""


class Uncounted(NamedTuple):
    """Something that a script holds and no formula counts."""

    place: Place
    takes: str
    """`more`, `less` or `either` beside the estimate."""


class LogitsBytes(NamedTuple):
    """What a loss of a script's own takes, in bytes per logit of all rows of a micro step."""

    forward: float
    """At most before a reference model runs, or in all of the forward; the logits among them."""
    beside: float
    """Alive while the reference model runs."""
    after: float
    """At most from the reference's logits on; 0 where nothing is compared."""
    backward: float
    """At most while the gradient goes back to the logits."""
    kept: float
    """What names of a loop hold until the next step."""
    evaluation: float
    """At most without a graph."""
    waiting: float = 0
    """Of the forwards before the last, while the gradient goes back through that one's layers."""


@dataclass(frozen=True)
class StepLoss:
    """A loss that a script's own step makes of the model's logits."""

    place: Place
    narrow: LogitsBytes
    """Where the model returns 16 bits."""
    wide: LogitsBytes
    """Where it returns fp32."""
    forwards: int = 1
    """Forwards with a graph before the gradient is taken: chosen and rejected answers one after the other have two."""
    has_pairs: bool = False
    """Whether a row becomes two sequences."""
    compares: str = ""
    """Whether log-probabilities are compared with those of a `reference`, or of the model `itself` without a graph."""
    has_copy: bool = False
    """Whether that reference is surely a second copy of the model that trains."""
    partitions_copy: bool = False
    """Whether DeepSpeed is given the copy, so that its stage 3 partitions it."""
    is_exact: bool = True
    """False where some way through the step, which only running tells, takes less."""
    caches_keys: bool | None = False
    """Whether a forward of what it is compared with may give back keys and values of every layer; None where only a model
    without checkpointing does, as the script loads it."""
    asks_layers: int = 0
    """In how many places it asks the model for the outputs of every layer, which live as long as the logits."""
    is_prepared_below: bool = False
    """Whether the reference is loaded and divided by the library's trainer that the step's own stands on."""


@dataclass(frozen=True)
class Scorer:
    """A module of a script's own around the model that trains, which scores both answers of a pair."""

    name: str
    place: Place


@dataclass(frozen=True)
class BuiltTower:
    """A vision tower that a script puts in front of a language model itself, with a projector of two linears behind it."""

    flag: Setting
    """The argument that names it."""
    config: Mapping[str, Any]
    """Its `vision_config`, as transformers' LLaVA has one."""
    feature_layer: int
    """The layer whose output the projector reads, counted from the end: -2 leaves the last one unread."""


@dataclass(frozen=True)
class ScriptFacts:
    """What was read of the training script; nothing of it was run."""

    index: int | None = None
    """Where the script, or the module behind -m, stands in the argv of the command."""
    is_of_library: bool = False
    """Whether it is the script of a library (TRL's own, axolotl, LLaMA-Factory), which makes an adapter and a
    quantized base from its arguments alone, and takes no argument that the library does not list."""
    is_text_only: bool = False
    """Whether it surely trains on text alone, so that the towers of its model see nothing."""
    builds_arguments: bool = False
    """Whether it makes its trainer's arguments itself, in a way that was not followed: defaults may not hold."""
    reads_only_a_file: bool = False
    """Whether it tells its parser to take every argument from a file, and no flag reaches the parser."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Plan field -> flag of the script's own parser, without dashes; `flag?` is a switch that can be turned on only."""
    unread: Mapping[str, Place] = field(default_factory=dict)
    """Plan field -> where the script sets it to something that is known only when it runs."""
    may_be: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Plan field in `unread` -> the values of which it surely has one, where that much is known."""
    half_said: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Plan field of which the script sets a part to something that is known only when it runs -> what else it may be."""
    inferred: tuple[str, ...] = ()
    """Plan fields that were read from a name of the script's own which only looks like the trainer's argument."""
    device_map: Setting | None = None
    """The device_map that the script loads its model with; as written, where only running tells what it is and that is
    not None."""
    arguments_at: Place | None = None
    """Where it makes its trainer's arguments; None where a parser does, or it was not found."""
    model_at: Place | None = None
    """Where it loads its model; None where TRL does, or it was not found."""
    collator: Place | None = None
    """Where it gives its trainer a collator of its own that cuts no row; None where there is none."""
    uncut_rows: Place | None = None
    """Where it makes the rows that its trainer is handed, if surely nothing cuts them; None where something may."""
    wrapped_checkpoints: Place | None = None
    """Where it puts torch's own module for checkpointing around each layer, inside FSDP's wrapper; None where it does not."""
    uncounted: Mapping[str, Uncounted] = field(default_factory=dict)
    """What it holds that no formula counts -> where, and what that takes."""
    zero3_is_on_at_load: bool | None = None
    """Whether transformers knows of DeepSpeed when the script loads its model; None where the order is not known."""
    zero_init: bool | None = None
    """Whether ZeRO-3 partitions the script's model as it is made; None where that is not known."""
    step_loss: StepLoss | None = None
    """What its own step makes of the model's logits; None where that is the model's own loss, or could not be read."""
    tower: BuiltTower | None = None
    """What it puts in front of its language model itself; None where there is nothing, or nobody knows its sizes."""
    frozen: Mapping[str, Place] = field(default_factory=dict)
    """Part of a model that sees (`FREEZABLE`) -> the statement of its own that leaves it as it is."""
    composites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a class of its own adds to the model, where that class is a tower, a language model and a projector -> the modules
    of the projector that have weights."""
    towers_keep_outputs: bool = False
    """Whether it asks a vision tower for the outputs of every layer, which live until the tower's forward is over."""
    without_scores: Mapping[str, Place] = field(default_factory=dict)
    """Class of attention, in lower case, whose forward it surely replaces by one that keeps no scores -> where."""
    caches_keys: bool | None = False
    """Whether its model surely caches keys and values in an evaluation, as far as the script goes; None where it does without
    checkpointing alone."""
    inputs_ask: bool = False
    """Whether it may make what the embedding hands on ask for gradients where no layer is checkpointed either: then layers
    below the lowest adapter are recorded too."""


@dataclass(frozen=True)
class TrainerFacts:
    """What the trainer was given; `LaunchPlan.trainer` says which one it is."""

    method: str | None = None
    """Which of TRL's trainers it is: sft, dpo, grpo, ..."""
    arguments: Mapping[str, Setting] = field(default_factory=dict)
    """Argument in underscore spelling -> value with its place, of kind `default` where the library's default holds;
    the script's own arguments too, as text."""
    module: str = ""
    """The module of a library's that trains, where that is no script of TRL's: FlagEmbedding's or Tevatron's, by its dotted name."""
    classes: frozenset[str] | None = None
    """Classes of transformers and TRL that surely read the arguments and train, `trl.SFTConfig`: a rule of another
    one holds for nothing here. None where the launch runs a library's own script, or one that could not be read."""

    def get(self, *names: str) -> Setting | None:
        """Return the first of some arguments that has a value, defaults among them."""
        for name in names:
            setting = self.arguments.get(name)
            if setting is not None and setting.value is not None:
                return setting
        return None

    def given(self, *names: str) -> Setting | None:
        """Return the first of some arguments that somebody gave a value."""
        for name in names:
            setting = self.get(name)
            if setting is not None and setting.place.kind != "default":
                return setting
        return None

    def value(self, name: str, otherwise: Any = None) -> Any:
        """Return an argument's value, its library's default where that holds."""
        setting = self.get(name)
        return otherwise if setting is None else setting.value


@dataclass(frozen=True)
class EngineFacts:
    """What FSDP or DeepSpeed was given beside the settings that the plan holds."""

    fsdp_checkpoints: bool = False
    """Whether FSDP's own switch checkpoints, with a module around each layer, and not the trainer's."""
    fsdp_uses_orig_params: bool = True
    """Whether FSDP1 shows the optimizer the parameters themselves, and not its flat ones."""
    deepspeed_optimizer: str = ""
    """The type of the optimizer that DeepSpeed's file makes; empty where it makes none."""
    deepspeed_autos: Mapping[str, Place] = field(default_factory=dict)
    """Key of DeepSpeed's file whose value is `auto` -> its place, where no trainer fills it in."""
