"""What a training script decides and nobody read: the plan fields that it leaves open, and what it holds that is not priced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from preflight import unpriced_names as unpriced
from preflight.engines.own_deepspeed import open_stage
from preflight.errors import Problem
from preflight.formulas.adapters.adapter_kinds import BRANCHES
from preflight.formulas.objective import (
    COMPARED,
    GENERATED_PAIRS,
    KEEPS_LOGITS,
    ONLINE,
    OWN_PAIRS,
    SCORED,
)
from preflight.formulas.optimizer_classes import states_of
from preflight.launch import SCRIPT_DECIDES, Origin
from preflight.plan_choices import DIVIDES_NOTHING, OPEN_VALUES
from preflight.plan_parts import NOTHING_SAYS
from preflight.scripts.uncounted.sign_words import UNPRICED
from preflight.setting import Place, Setting
from preflight.trainers.arguments import TrainerArguments
from preflight.trainers.frozen_parts import trains_projector_alone
from preflight.trainers.own_towers import own_tower

if TYPE_CHECKING:
    from preflight.scripts.uncounted.replaced_attention import ReplacedAttention

SCRIPT_FIELDS = (
    "activation_checkpointing", "adapter", "attention", "base_quantization", "gradient_accumulation_steps",
    "load_dtype", "loss", "optimizer",
)  # fmt: skip
"""What a training script decides, and memory depends on."""


HELD_BESIDE = frozenset({unpriced.PAIRS, unpriced.SCORES, unpriced.TEACHER, unpriced.BESIDE_TEXT})
"""Signs that speak of such a model already."""
NEVER_ABSENT = ("optimizer",)
"""Fields of which a script that is silent has one all the same, and not the usual one for that."""

_TAKEN_AS = {
    "adapter": "none, full fine-tuning",
    "attention": "sdpa",
    "base_quantization": "none",
    "load_dtype": "the checkpoint's own",
    "loss": "full_logits",
}
"""What the estimate takes where the plan has no value."""


def undecided(
    trainer: TrainerArguments,
    fields: Mapping[str, Setting],
    signs: Mapping[str, Place],
    own: Place | None,
    open_ranks: bool,
) -> dict[str, Origin]:
    """Return the origins of what a script of somebody's own decides and no flag of it says.

    With `open_ranks` one process stands for any number of them, which an engine of the script's own may divide.

    What the script, or a file of the repository that it imports, speaks of is open; the rest has its usual value.
    """
    if trainer.trainer not in (None, "plain_loop") and trainer.is_here:
        return {}
    origins = {}
    for name in SCRIPT_FIELDS:
        if name in trainer.script.unread:
            continue  # its place is told already
        is_default = name in fields and fields[name].place.kind == "default"
        may_differ = is_default and (name == "attention" or not trainer.is_here)
        if name in fields and not (may_differ and name in signs):
            continue
        if name in signs:
            origins[name] = _open(name, _TAKEN_AS.get(name, ""), signs[name])
        else:
            may_be = OPEN_VALUES[name] if name in NEVER_ABSENT else ()
            origins[name] = Origin(NOTHING_SAYS, True, _TAKEN_AS.get(name, ""), may_be)
    precision = fields.get("mixed_precision")
    is_said = precision is not None and precision.place.kind != "default"
    if trainer.trainer != "plain_loop" and "mixed_precision" in signs and not is_said:
        origins["mixed_precision"] = _open("mixed_precision", "none", signs["mixed_precision"])
    engine, called = fields.get("engine"), trainer.engine
    is_read = called is not None and called.is_sure and called.engines[0] != "deepspeed"
    plain = ("ddp", "single") if open_ranks else ("ddp",)
    is_plain = engine is not None and engine.value in plain
    if is_plain and "engine" in signs and not is_read:
        origin = _open("engine", "data parallel", signs["engine"])
        may_be = OF_CALL.get(called.engines, ()) if called is not None else ()
        origins["engine"] = replace(origin, may_be=may_be or origin.may_be)
    if is_plain and own is not None:
        origins["engine"] = open_stage(own)
    if unpriced.UNWRAPPED in trainer.script.uncounted and own is None and engine is not None:
        origins.update(_not_taken_up(engine))
    return origins


def _not_taken_up(engine: Setting) -> dict[str, Origin]:
    """Return the origin of an engine that a launcher says and no call of the script's is seen to make of its model: a loop
    that hands its model to nobody trains all of it on every rank, whatever accelerate's file or DeepSpeed's flag says."""
    if engine.place.kind == "script" or engine.value in DIVIDES_NOTHING:
        return {}
    reason = "no call of the script hands its model to accelerate or DeepSpeed, without which nothing is divided"
    return {"engine": Origin(engine.place.where, True, reason, ("ddp",))}


def with_replaced_attention(
    fields: Mapping[str, Setting], origins: Mapping[str, Origin], replaced: ReplacedAttention | None
) -> dict[str, Origin]:
    """Return the origin of an attention that nobody names, where a script puts another in place of the model's own."""
    said, before = fields.get("attention"), origins.get("attention")
    is_said = said is not None and said.place.kind != "default"
    if replaced is None or is_said or (before is not None and before.may_be):
        return {}
    reason = f"{replaced.place.where} puts another in place of the model's own"
    return {"attention": Origin(SCRIPT_DECIDES, True, reason, replaced.may_be)}


OF_CALL: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("deepspeed",): ("ddp", "zero1", "zero2", "zero3"),
    ("ddp", "fsdp1"): ("ddp", "fsdp1"),
    ("fsdp1", "ddp"): ("ddp", "fsdp1"),
    ("fsdp1",): ("ddp", "fsdp1"),
    ("ddp", "fsdp2"): ("ddp", "fsdp2"),
    ("fsdp2", "ddp"): ("ddp", "fsdp2"),
    ("fsdp2",): ("ddp", "fsdp2"),
}
"""Engines that a script calls, where it is not known which of the calls run -> what its engine may be."""


GATHERS: Mapping[str, frozenset[object]] = {
    unpriced.STATE_DICT_ON_CARD: frozenset({"fsdp1"}),
    unpriced.GATHERED: frozenset({"fsdp1", "fsdp2", "zero3"}),
    unpriced.COMM_HOOK: frozenset({"ddp"}),
    unpriced.UNWRAPPED: frozenset({"ddp"}),
}
"""What a script asks for whole -> the engines that divide it; a hook on gradients -> the one that calls it; what a script
does not wrap -> the engine that is taken for it."""


Held = TypeVar("Held")


def without_gathers(
    signs: Mapping[str, Held], engine: Setting | None, origin: Origin | None, open_ranks: bool
) -> dict[str, Held]:
    """Return the signs but those of gathers that no engine makes which a launch may have.

    With `open_ranks` one process stands for any number of them, which train with DDP.
    """
    may_be = {None if engine is None else engine.value, *(() if origin is None else origin.may_be)}
    if open_ranks and "single" in may_be:
        may_be.add("ddp")
    return {name: place for name, place in signs.items() if may_be & GATHERS.get(name, may_be)}


def left_out(
    trainer: TrainerArguments, signs: Mapping[str, Place], said: Iterable[Problem]
) -> list[Problem]:
    """Return what a script trains or holds that no formula counts; nothing where its trainer has said what leaves the answer
    open whichever way, and what only takes more, or only less, is no such thing."""
    if any(problem.unpriced and problem.takes not in ("more", "less") for problem in said):
        return []
    tower = own_tower(trainer.raw)
    is_counted = trainer.script.tower is not None
    spoken_of = list(_spoken_of(trainer, signs, "" if tower is None else unpriced.BESIDE_TEXT))
    return [
        *(() if tower is None or is_counted else (tower,)),
        *spoken_of,
        *_held(trainer, is_counted or bool(HELD_BESIDE & {each.unpriced for each in spoken_of})),
    ]


def _held(trainer: TrainerArguments, is_told: bool) -> Iterator[Problem]:
    """Yield what was read of a script that no formula counts; a second model where nothing else tells of it, and it is no
    tower that is counted."""
    for name, (place, takes) in trainer.script.uncounted.items():
        if (name == unpriced.SECOND_MODEL and is_told) or _is_objective(name, place, trainer):
            continue
        if _waits_for_evaluation(name, trainer):
            continue
        message, at = _not_counted(name, name), place.where
        yield Problem(message, at, severity="warning", unpriced=name, takes=takes)


def _spoken_of(
    trainer: TrainerArguments, signs: Mapping[str, Place], but: str
) -> Iterator[Problem]:
    moot = _without_meaning(trainer)
    return (
        Problem(
            _not_counted(name, " ".join(place.key.split())),
            place.where,
            severity="warning",
            unpriced=name,
            takes=UNPRICED[name][1]
            if name in UNPRICED
            else unpriced.TAKES_OF_CALLS.get(name, "either"),
        )
        for name, place in signs.items()
        if name != but
        and name not in moot
        and not _is_objective(name, place, trainer)
        and not _is_moot(name, trainer)
    )


def _without_meaning(trainer: TrainerArguments) -> frozenset[str]:
    """Return the signs that say nothing of this launch: an adapter freezes the rest anyway, and without one nothing is
    beside it; where only running tells whether there is one, all that trains is among what it may be. A projector that is
    counted trains beside an adapter too."""
    adapter = trainer.settings.get("adapter")
    has_adapter = adapter is not None and adapter.value is not None
    if not has_adapter:
        return frozenset(
            {unpriced.BESIDE_ADAPTER, unpriced.PROJECTOR_BESIDE, unpriced.TUNED_BESIDE}
        )
    moot = {unpriced.FROZEN}
    if adapter is not None and getattr(adapter.value, "kind", "lora") not in BRANCHES:
        moot.add(unpriced.NOT_LORA)  # read, and said where it is not known
    if trainer.script.tower is not None:
        moot.add(unpriced.PROJECTOR_BESIDE)
    return frozenset(
        moot if trains_projector_alone(trainer.raw) else {*moot, unpriced.TUNED_BESIDE}
    )


def _not_counted(name: str, sign: str) -> str:
    if sign == name:
        return f"the estimate does not count {name}"
    return f"{sign} speaks of {name}, which the estimate does not count"


OF_EVALUATION = (
    unpriced.GATHERED_LOGITS,
    unpriced.UNCUT_EVALUATION,
    unpriced.LONGER_EVALUATION,
    unpriced.GENERATES_TO_EVALUATE,
    unpriced.GRAPH_TO_EVALUATE,
)
ASKED_FOR = {"the states of OSS": "sharded_ddp"}
"""What is held only where an argument asks for it: FairScale's states, in copies of Trainer.create_optimizer to 4.34."""


def _is_moot(name: str, trainer: TrainerArguments) -> bool:
    """Tell whether nothing of what a script says it holds is there: metrics without an evaluation, states that nobody asks for."""
    optimizer = trainer.settings.get("optimizer")
    is_of_loop = optimizer is not None and optimizer.place.kind == "script"
    if optimizer is not None and is_of_loop and name == states_of(str(optimizer.value)):
        return True  # that of the loop, and priced
    if (
        name in (unpriced.OLMO_LOOP, unpriced.DIVIDED)
        and unpriced.OLMO_CORE in trainer.script.uncounted
    ):
        return True  # read, and bounded; what divides a sequence is read with it
    if name in ASKED_FOR:
        return ASKED_FOR[name] not in {*trainer.raw, *trainer.arguments}
    return _waits_for_evaluation(name, trainer)


def _waits_for_evaluation(name: str, trainer: TrainerArguments) -> bool:
    """Tell whether something takes memory in an evaluation alone, and there is none."""
    return name in OF_EVALUATION and "eval_micro_batch_size" not in trainer.settings


def _is_objective(name: str, sign: Place, trainer: TrainerArguments) -> bool:
    """Tell whether a sign speaks of what the objective is priced with."""
    setting = trainer.settings.get("objective")
    objective = None if setting is None else setting.value
    if name in (unpriced.OWN_LOSS, unpriced.GATHERED_LOGITS):
        return objective in SCORED  # read with the objective, and of scores alone
    if name == unpriced.GROWN_BY_COLLATOR:
        return objective in (
            *SCORED,
            *COMPARED,
            OWN_PAIRS,
            "embedding",
        )  # whose rows are pairs or groups
    if name == unpriced.SECOND_FORWARD and objective == "scored_in_turn":
        return True
    if name == unpriced.TEACHER and objective == "gkd":
        return True
    if name == unpriced.OTHER_HEAD:
        if objective in ("ppo", *GENERATED_PAIRS):
            return True  # of the value model, and of the one that scores
        if objective == "embedding":
            return True  # read with the only model that such a script makes
        return objective in SCORED and "SentenceTransformer" not in sign.key
    if objective in ONLINE:
        return name in (unpriced.PAIRS, unpriced.SCORES)
    return name == unpriced.PAIRS and objective in COMPARED + KEEPS_LOGITS


def _open(name: str, taken_as: str, sign: Place) -> Origin:
    reason = (
        f"{taken_as}; {sign.where} may say otherwise"
        if taken_as
        else f"{sign.where} may say otherwise"
    )
    return Origin(SCRIPT_DECIDES, True, reason, OPEN_VALUES.get(name, ()))
