"""What a report says of open values: the first line that names what decides, and a row for each value of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from preflight.device import DeviceSpec
from preflight.plan_parts import Adapter, BaseQuantization, Vision
from preflight.readings import Completion, Readings, Settled, moved_library
from preflight.render.page import Page
from preflight.render.words import amount, of_capacity
from preflight.report import Report
from preflight.values import NamedTuple
from preflight.verdict import Answer, named_first

MAY_BE_ABSENT = ("adapter", "base_quantization", "eval_micro_batch_size")
"""Fields of which null says that there is none: no evaluation, where others have a default."""


def cannot_tell(report: Report) -> str:
    """Return the first line's words for readings that disagree; empty where they agree."""
    if report.device is None:
        return ""
    text = question_of(report.readings, report.device, longest_words(report))
    return f"preflight: {text}" if text else ""


def question_of(readings: Readings | None, device: DeviceSpec, longest: str = "") -> str:
    """Return what readings come to that disagree, and the option that says which holds; empty where they agree."""
    if readings is None or readings.answer is not None:
        return ""
    capacity = device.capacity_bytes
    if not readings.deciding:
        least, most = _number(readings.least.peak_bytes, capacity), readings.most.peak_bytes
        names = ", ".join(name for name in readings.may_be if name != "versions")
        return (
            f"cannot tell. {least} to {of_capacity(most, capacity)} per rank: nobody said {names},"
            " and no single one of them decides"
        )
    name, ways = best_question(readings)
    subject = subject_of(name, (ways[0], ways[-1]), ways)
    in_doubt = _in_some_unknown(name, ways)
    if in_doubt is not None:
        sure, values, ways = in_doubt
        asked = option(name, ways, readings)
        return f"cannot tell. {of_capacity(sure, capacity)} per rank {values}: {asked} says which"
    low, high = ways[0], ways[-1]
    up_to, from_on = low.most.peak_bytes, high.least.peak_bytes
    if up_to > from_on:  # other open values matter as much
        of_low = _span(low.least.peak_bytes, of_capacity(up_to, capacity), capacity)
        of_high = _span(from_on, amount(high.most.peak_bytes, capacity), capacity)
    else:
        of_low, of_high = of_capacity(up_to, capacity), amount(from_on, capacity)
    values = f"if {subject} is {shown(name, low.value, subject)}, {of_high} if {shown(name, high.value, subject)}"
    if name in readings.ranges:
        values = (
            f"with a {name} of {low.value:,}, {of_high} with {high.value:,}, the most that may come"
        )
    return (
        f"cannot tell. {of_low} per rank {values}{longest}:"
        f" {option(name, ways, readings)} says which"
    )


def _in_some_unknown(name: str, ways: list[Settled]) -> tuple[int, str, list[Settled]] | None:
    """Return what some values of a field come to whose answers agree, in words beside one that has none, and the two ways;
    None where answers differ otherwise."""
    unknown = [way for way in ways if way.answer is Answer.UNKNOWN]
    settled = [way for way in ways if way.answer not in (None, Answer.UNKNOWN)]
    if not unknown or len({way.answer for way in settled}) != 1:
        return None
    if len(unknown) + len(settled) < len(ways):
        return None
    sure, other = settled[-1], unknown[-1]
    subject = subject_of(name, (sure, other), ways)
    verdict = other.most.verdict
    lacks = f"not priced: {named_first(verdict.unpriced)}" if verdict.unpriced else verdict.reason
    values = f"if {subject} is {shown(name, sure.value, subject)}, unknown if {shown(name, other.value, subject)}"
    return sure.most.peak_bytes, f"{values} ({lacks})", [sure, other]


def _span(least_bytes: int, most: str, capacity_bytes: int) -> str:
    """Return `31.0 to 94.2 GiB`; the latter alone where both read alike."""
    least = _number(least_bytes, capacity_bytes)
    return most if most.partition(" ")[0] == least else f"{least} to {most}"


def tight_elsewhere(report: Report) -> Readings | None:
    """Return the readings of a launch that fits as it is taken, and is tight with another value that nobody said."""
    readings, verdict = report.readings, report.verdict
    if readings is None or verdict.answer is not Answer.TIGHT:
        return None
    return readings if readings.likely.verdict.answer is Answer.FITS else None


def of_two_readings(readings: Readings) -> tuple[str, str]:
    """Return the reading that is taken and the one that takes most, by what tells them apart: `if trl is 1.16.0`."""
    taken, most = readings.likely.values, readings.most.values
    moved = [name for name in taken if taken[name] != most.get(name)]
    name = moved[0] if moved else ""
    if not name:
        return "", ""
    library = moved_library([taken[name], most[name]]) if name == "versions" else ""
    subject = library or name
    return (
        f"if {subject} is {shown(name, taken[name], library)}",
        f"if {shown(name, most[name], library)}",
    )


def longest_words(report: Report) -> str:
    """Return how long rows may be that fit, where nobody said how long they are; empty where that is not known."""
    longest = report.extra.get("longest_seq_len")
    if longest is None or report.plan.seq_len is not None:
        return ""
    return f", and up to {longest:,} tokens fit"


def _number(num_bytes: int, capacity_bytes: int) -> str:
    """Return an amount without its unit, which follows behind the next."""
    return amount(num_bytes, capacity_bytes).split()[0]


def best_question(readings: Readings) -> tuple[str, list[Settled]]:
    """Return the field whose values leave the most answers settled, with its values from the smallest on."""
    name = max(
        readings.deciding,
        key=lambda name: sum(way.answer is not None for way in readings.deciding[name]),
    )
    return name, by_peak(readings.deciding[name])


def by_peak(ways: Iterable[Settled]) -> list[Settled]:
    """Return the values of a field from the one that takes least on."""
    return sorted(ways, key=lambda way: way.most.peak_bytes)


def subject_of(name: str, ways: Sequence[Settled], among: Sequence[Settled] = ()) -> str:
    """Return what a field is called: of versions, the library whose own is asked for, by what it tells of all values
    `among` which these are."""
    if name != "versions":
        return name
    all_of = among or ways
    peaks = [(way.least.peak_bytes, way.most.peak_bytes, way.answer) for way in all_of]
    answers = [way.answer for way in all_of]
    library = moved_library([way.value for way in all_of], peaks, answers)
    if among and len({way.value.get(library) for way in ways}) < len(ways):
        return subject_of(name, ways)
    return library or name


def option(name: str, ways: list[Settled], readings: Readings) -> str:
    """Return the option that settles a field."""
    if name in readings.ranges:
        return f"--set {name}=N"
    if name == "versions":
        in_doubt = _in_some_unknown(name, ways)
        ways = ways if in_doubt is None else in_doubt[2]
        library = subject_of(name, (ways[0], ways[-1]), readings.deciding[name])
        ends = dict.fromkeys(shown(name, way.value, library) for way in (ways[0], ways[-1]))
        return f"--set versions.{library}=" + "|".join(ends)
    if name == "adapter":
        return "--set adapter.rank=N or --set adapter=null"
    if name == "vision":
        return "--set vision.images_per_sequence=N"
    if name == "base_quantization":
        return "--set base_quantization.scheme=nf4 or --set base_quantization=null"
    values = [way.value for way in ways if way.value is not None or name in MAY_BE_ABSENT]
    return f"--set {name}=" + "|".join("null" if each is None else str(each) for each in values)


def shown(name: str, value: Any, subject: str = "") -> str:
    """Return a value of a field as a person writes it; of versions, that of one library."""
    if isinstance(value, Mapping):
        return str(value.get(subject, ""))
    if isinstance(value, Adapter):
        whole = ", modules trained whole" if value.modules_to_save else ""
        targets = ", all-linear" if value.targets == "all-linear" else ""
        return f"{value.kind} of rank {value.rank}{targets}{whole}"
    if isinstance(value, BaseQuantization):
        return value.scheme
    if isinstance(value, Vision):
        return _seen(value)
    if isinstance(value, int) and not isinstance(value, bool) and name == "seq_len":
        return f"{value:,}"
    if value is None:
        return "none" if name in MAY_BE_ABSENT else "the default"
    return str(value)


def _seen(vision: Vision) -> str:
    """Return what is seen of images, in words."""
    if vision.images_per_sequence is None:
        return "images through the whole sequence"
    if not vision.images_per_sequence:
        return "text alone"
    images = f"{vision.images_per_sequence} images"
    return images if vision.image_tokens is None else f"{images} of {vision.image_tokens} tokens"


class ReadingRow(NamedTuple):
    """What one value of an open field leaves: `most` says the answer, `least` how far below it a reading may lie."""

    subject: str
    value: str
    least: Completion
    most: Completion
    answer: str

    def cells(self, capacity_bytes: int) -> list[str]:
        """Return the row as words: field, value, least and most bytes, and the answer."""
        ends = [amount(end.peak_bytes, capacity_bytes) for end in (self.least, self.most)]
        return [self.subject, self.value, *ends, self.answer]


def reading_rows(report: Report) -> list[ReadingRow]:
    """Return a row for every value of every field that decides; releases between which nothing changes share one."""
    readings, device = report.readings, report.device
    if readings is None or device is None:
        return []
    capacity = device.capacity_bytes
    rows: list[ReadingRow] = []
    for name, ways in readings.deciding.items():
        subject = subject_of(name, ways)
        for way in by_peak(ways):
            value = shown(name, way.value, subject)
            row = ReadingRow(subject, value, way.least, way.most, _answer_of(way, capacity))
            last = rows[-1]._replace(value=value) if rows else row
            if name == "versions" and rows and row.cells(capacity) == last.cells(capacity):
                first = rows[-1].value.partition(" ")[0]
                rows[-1] = row._replace(value=first if first == value else f"{first} to {value}")
            else:
                rows.append(row)
    return rows


def reading_cells(report: Report) -> list[list[str]]:
    """Return those rows as words, in the unit of the device."""
    device = report.device
    return (
        [] if device is None else [row.cells(device.capacity_bytes) for row in reading_rows(report)]
    )


def _answer_of(way: Settled, capacity_bytes: int) -> str:
    """Return an answer in words; of a peak above the card that is only tight, what its tensors alone take."""
    if way.answer is None:
        return "cannot tell"
    most = way.most
    if way.answer is Answer.TIGHT and most.peak_bytes > capacity_bytes:
        return f"{way.answer.words}, {amount(most.least_bytes, capacity_bytes)} unfragmented"
    return way.answer.words


def reading_lines(report: Report, page: Page) -> list[str]:
    """Return a table of the open fields that decide, or nothing where none does."""
    cells = reading_cells(report)
    return ["nobody said:", *page.table([HEAD, *cells], right=(2, 3))] if cells else []


HEAD = ["open", "value", "from", "to", "answer"]
