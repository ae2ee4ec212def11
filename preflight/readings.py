"""The readings of a plan: every way in which its open values may be filled in, and the verdict that all of them allow.

An open value is one that nobody said and that no known default decides: its `Origin` lists what else it may be. A plan
with open values is judged in its readings. `least` holds the fewest bytes of all of them, `most` the most, and `likely`
is the plan as it stands. A number without a value is open between two ends where something bounds it, and is judged at
both: more of it never takes fewer bytes. It does not fit where no reading fits, it fits where every reading does; in between the
answer is `unknown`, and the fields that decide it are named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import chain, product, zip_longest
from math import prod
from typing import Any

from preflight.launch import LaunchPlan, Vision, plain
from preflight.memory import MemoryEstimate
from preflight.open_values import Values, filled_in, open_values
from preflight.plan_choices import CHEAPEST_FIRST
from preflight.values import dataclass, replace
from preflight.verdict import Answer, Verdict

MOST_READINGS = 12
"""Plans with no more readings than these are judged in every one of them; of more, the ends are sought field by field."""


TOGETHER = ("versions", "attention")
"""Open fields that may have to change together: a release has a model's fused attention or refuses it."""

MayBe = Mapping[str, tuple[Any, ...]]
"""Open field -> every value that it may have, the plan's own first."""
Judge = Callable[[LaunchPlan], tuple[MemoryEstimate | None, Verdict]]


@dataclass(frozen=True)
class Completion:
    """One reading of a plan: its open values filled in, and what it is judged at with them."""

    values: Values
    estimate: MemoryEstimate | None
    verdict: Verdict

    @property
    def peak_bytes(self) -> int:
        """What the device holds at the worst moment; 0 where nothing was estimated."""
        estimate = self.estimate
        return estimate.device_peak_bytes if estimate is not None and estimate.peaks else 0

    @property
    def least_bytes(self) -> int:
        """What no allocator can save at the worst moment: live tensors, and what lies outside torch."""
        return 0 if self.estimate is None else self.estimate.needed_bytes


At = Callable[[Values], Completion | None]
"""Values of every open field -> their reading; None where no launch can have them together."""


@dataclass(frozen=True)
class Settled:
    """What is left of the readings where one field has one value."""

    value: Any
    least: Completion
    most: Completion
    answer: Answer | None
    """The answer of all of them; None where they disagree still."""


@dataclass(frozen=True)
class Readings:
    """The ends of a plan's readings, their common answer, and the fields that decide between them."""

    likely: Completion
    least: Completion
    most: Completion
    answer: Answer | None
    """The answer of every reading; None where they disagree."""
    may_be: MayBe
    deciding: Mapping[str, tuple[Settled, ...]] = field(default_factory=dict)
    """Open field that changes the answer -> what each of its values leaves; empty where all readings agree."""
    ranges: tuple[str, ...] = ()
    """Open fields that may be anything between their two values."""

    @property
    def shown(self) -> Completion:
        """The reading whose estimate stands for all: the plan as it stands; where a range fits to its end, the most."""
        fits = self.answer in (Answer.FITS, Answer.TIGHT)
        return self.most if fits and self.ranges else self.likely

    def to_dict(self) -> dict[str, Any]:
        """Return the ends as the `readings` of the JSON contract."""
        ends = {"likely": self.likely, "least": self.least, "most": self.most}
        return {
            name: {
                "values": plain(end.values),
                "device_peak_bytes": end.peak_bytes or None,
                "verdict": end.verdict.answer.value,
            }
            for name, end in ends.items()
        }

    def open_to_dict(self) -> dict[str, Any]:
        """Return the open fields as the `open` of the JSON contract; where none decides alone, all do together."""
        together = self.may_be if self.answer is None else {}
        deciding = self.deciding or together
        return {
            name: {
                "may_be": [plain(value) for value in values],
                "deciding": name in deciding,
                **({"is_range": True} if name in self.ranges else {}),
            }
            for name, values in self.may_be.items()
        }

    @property
    def verdict(self) -> Verdict:
        """The verdict of the plan: what every reading allows, else `unknown` with what decides."""
        if self.answer is None:
            names = ", ".join(self.deciding or self.may_be)
            reason = f"nobody said {names}, which decides"
            likely = self.likely.verdict
            missing = (*likely.missing, *(name for name in self.ranges if name in self.deciding))
            return Verdict(Answer.UNKNOWN, reason, missing=missing, unpriced=likely.unpriced)
        if self.answer is Answer.DOES_NOT_FIT:
            return self.least.verdict  # the strongest claim: even this one does not fit
        if self.answer is Answer.UNKNOWN:
            return self.likely.verdict
        worst = self.most.verdict
        return worst if worst.answer is self.answer else self.least.verdict


LEADING = ("trl", "transformers", "torchtune", "litgpt")
"""Libraries whose version says most about the others', the one that says most first."""


def moved_library(sets: Sequence[Mapping[str, str]], *outcomes: Sequence[object]) -> str:
    """Return the library by which sets of versions are told apart; empty where they are the same.

    Of several that move, the one whose releases alone tell which of the outcomes, one for each set, a launch has: of the
    first outcomes that some library tells.
    """
    names = (*LEADING, *sets[0]) if sets else ()
    moved = [n for n in names if len({versions.get(n) for versions in sets}) > 1]
    for told, name in product(outcomes, moved):
        pairs = {(versions.get(name), one) for versions, one in zip(sets, told, strict=True)}
        if len(pairs) == len({release for release, _ in pairs}):
            return name
    return moved[0] if moved else ""


def read_all_ways(
    plan: LaunchPlan, judge: Judge, among: MayBe | None, settles: bool
) -> Readings | None:
    """Return the readings of a plan, of the fields in `among` those values alone; None where it has no open value.

    Without `settles` no field is named that decides.
    """
    may_be: dict[str, tuple[Any, ...]] = {
        name: tuple(v for v in values if among is None or name not in among or v in among[name])
        or values
        for name, values in open_values(plan).items()
    }
    if not may_be:
        return None
    tried: dict[tuple[int, ...], Completion | None] = {}

    def at(values: Values) -> Completion | None:
        key = tuple(may_be[name].index(values[name]) for name in may_be)
        if key not in tried:
            filled = filled_in(plan, values)
            tried[key] = None if filled is None else Completion(values, *judge(filled))
        return tried[key]

    as_it_stands = {name: values[0] for name, values in may_be.items()}
    likely = _first_possible(as_it_stands, may_be, at)
    every = _readings(may_be, at)
    if likely is None:  # what is said of it cannot stand together, which a check says
        likely = Completion(as_it_stands, *judge(plan))
    settled = _settle(None, [likely, *every])
    ends = (likely, settled.least, settled.most)
    ranges = tuple(name for name in may_be if plan.origins[name].is_range)
    if settled.answer is not None:
        return Readings(*ends, settled.answer, may_be, ranges=ranges)
    deciding: dict[str, tuple[Settled, ...]] = {}
    for name, values in may_be.items() if settles else ():
        left = [(value, {**may_be, name: (value,)}) for value in values]
        if any(_says_which(rest, at, settled) for _, rest in left):
            ways = ((value, rest, _readings(rest, at, settled)) for value, rest in left)
            deciding[name] = tuple(
                _seen_from_afar(_settle(value, way), rest, at) for value, rest, way in ways if way
            )
    return Readings(*ends, None, may_be, deciding, ranges)


def versions_at_the_ends(readings: Readings | None) -> MayBe:
    """Return the versions of the readings at the ends: what a search looks at until it has an answer."""
    if readings is None or "versions" not in readings.may_be:
        return {}
    ends = (readings.likely, readings.least, readings.most)
    versions = [end.values["versions"] for end in ends if "versions" in end.values]
    return {"versions": tuple(v for i, v in enumerate(versions) if v not in versions[:i])}


def _settle(value: Any, readings: list[Completion]) -> Settled:
    least = min(readings, key=lambda reading: (reading.least_bytes, reading.peak_bytes))
    most = max(readings, key=lambda reading: reading.peak_bytes)
    return Settled(value, least, most, common_answer({r.verdict.answer for r in readings}))


def _seen_from_afar(settled: Settled, may_be: MayBe, at: At) -> Settled:
    """Return what one value leaves, where it has an answer that a walk from the ends of the whole came to: that of a walk from
    the usual end too, since several fields may have to change together to lead further."""
    if settled.answer in (None, Answer.UNKNOWN) or not _are_many(may_be):
        return settled
    sign = 1 if settled.answer is Answer.DOES_NOT_FIT else -1
    seen = [settled.least, settled.most, *_towards(may_be, at, sign, None)]
    beyond = _settle(settled.value, seen)
    answers = {settled.answer, *(each.verdict.answer for each in seen)}
    return replace(beyond, answer=common_answer(answers))


def _are_many(may_be: MayBe) -> bool:
    return prod(len(values) for values in may_be.values()) > MOST_READINGS


def common_answer(answers: set[Answer]) -> Answer | None:
    """Return the answer that readings have together; None where some fit and others do not, or cannot be told."""
    if len(answers) == 1:
        return next(iter(answers))
    return Answer.TIGHT if answers == {Answer.FITS, Answer.TIGHT} else None


def _readings(may_be: MayBe, at: At, whole: Settled | None = None) -> list[Completion]:
    """Return every reading, or where they are many, those at both ends and beside them."""
    return [*chain.from_iterable(_walks(may_be, at, whole))]


def _says_which(may_be: MayBe, at: At, whole: Settled) -> bool:
    """Tell whether these readings have an answer together that is one; the ends are asked in turn, until two differ."""
    answers = set[Answer]()
    for readings in zip_longest(*_walks(may_be, at, whole)):
        answers |= {reading.verdict.answer for reading in readings if reading is not None}
        if common_answer(answers) in (None, Answer.UNKNOWN):
            return False
    return bool(answers)


def _walks(may_be: MayBe, at: At, whole: Settled | None) -> tuple[Iterator[Completion], ...]:
    """Return every reading, or where they are many, those on the way to one end and those on the way to the other.

    Where one field is settled of a whole whose ends are known, the ends lie at these or near them.
    """
    if _are_many(may_be):
        ends = (None, None) if whole is None else (whole.least, whole.most)
        return tuple(_towards(may_be, at, s, end) for s, end in zip((1, -1), ends, strict=True))
    every = (dict(zip(may_be, values, strict=True)) for values in product(*may_be.values()))
    return ((reading for values in every if (reading := at(values)) is not None),)


def _towards(may_be: MayBe, at: At, sign: int, near: Completion | None) -> Iterator[Completion]:
    """Yield the readings on the way to the smallest (sign 1) or the largest (sign -1), from the one that is near."""
    ordered = {
        name: tuple(sorted(values, key=_rank(name), reverse=sign < 0))
        for name, values in may_be.items()
    }
    first = {name: options[0] for name, options in ordered.items()}
    if near is not None:
        kept = {name: value for name, value in near.values.items() if value in may_be[name]}
        first = {**first, **kept}
    best = _first_possible(first, ordered, at)
    if best is None:
        return
    yield best
    # The order of a field's values is that of usual launches; a small model or a long sequence may turn one around, and
    # one field's value another's: the walk ends where no field alone leads further, nor a release with its attention.
    is_further = True
    while is_further:
        is_further = False
        for edits in chain(_alone(may_be), _together(may_be)):
            if is_further and len(edits) > 1:
                break  # each field alone first, for as long as one leads further
            if any(best.values[name] == value for name, value in edits.items()):
                continue
            beside = at({**best.values, **edits})
            if beside is None:
                continue
            yield beside
            if _is_beyond(beside, best, sign):
                best, is_further = beside, True


def _alone(may_be: MayBe) -> Iterator[Values]:
    return ({name: value} for name, options in may_be.items() for value in options)


def _together(may_be: MayBe) -> Iterator[Values]:
    """Yield values of the fields that change together: which attention a model has, a release decides."""
    if {*TOGETHER} <= may_be.keys():
        options = product(*(may_be[name] for name in TOGETHER))
        yield from (dict(zip(TOGETHER, values, strict=True)) for values in options)


def _is_beyond(one: Completion, other: Completion, sign: int) -> bool:
    """Tell whether a reading is further on the way to an end: a refusal rests on what no allocator can save."""
    if sign > 0:
        return (one.least_bytes, one.peak_bytes) < (other.least_bytes, other.peak_bytes)
    return one.peak_bytes > other.peak_bytes


def _first_possible(values: Values, may_be: MayBe, at: At) -> Completion | None:
    """Return a reading, or where no launch can have its values together, the first with one of them another."""
    others = ({**values, name: value} for name, options in may_be.items() for value in options)
    found = (at(each) for each in (values, *others))
    return next((reading for reading in found if reading is not None), None)


def _rank(name: str) -> Callable[[Any], int]:
    """Return the key that sorts a field's values from the one that takes least to the one that takes most."""
    order = CHEAPEST_FIRST.get(name, ())

    def rank(value: Any) -> int:
        if name in ("adapter", "base_quantization"):
            return 1 if value is None else 0
        if isinstance(value, Vision):
            return 0 if value.images_per_sequence == 0 else 1
        if isinstance(value, int) and not isinstance(value, bool):
            return -value if name == "world_size" else value
        return order.index(value) if value in order else len(order)

    return rank
