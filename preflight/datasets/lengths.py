"""How long the rows of a dataset are, and what the longest batch of them is for a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from preflight.datasets.columns import choose_measure, modalities_of
from preflight.datasets.files import open_dataset
from preflight.datasets.tokens import Tokenizer
from preflight.errors import BadInput, Problem
from preflight.launch import LaunchPlan, Origin
from preflight.units import ceil_div
from preflight.values import dataclass

OPTION = "--dataset"


@dataclass(frozen=True)
class RowLengths:
    """The lengths of a dataset's rows, in tokens, before anything is cut."""

    paths: tuple[str, ...]
    counted: str
    """What was counted: `tokens of text`, `the length of input_ids`, `the number in num_tokens`."""
    counts: Mapping[int, int]
    """Length -> the rows that have it."""
    longest_path: str
    longest_row: int
    """From 1, in the file of that path."""
    not_counted: tuple[str, ...] = ()
    """`images (column image)`: what becomes tokens too, in a number that is not known here."""

    @property
    def num_rows(self) -> int:
        return sum(self.counts.values())

    @property
    def longest_tokens(self) -> int:
        return max(self.counts)

    def quantile_tokens(self, share: float) -> int:
        """Return the smallest length that this share of the rows is not longer than."""
        wanted, seen = share * self.num_rows, 0
        for length in sorted(self.counts):
            seen += self.counts[length]
            if seen >= wanted:
                return length
        return self.longest_tokens

    def num_longer_than(self, tokens: int) -> int:
        """Return how many rows are longer."""
        return sum(rows for length, rows in self.counts.items() if length > tokens)

    def tokens_of_longest(self, num_rows: int) -> int:
        """Return how many tokens the longest rows hold together."""
        tokens, left = 0, num_rows
        for length in sorted(self.counts, reverse=True):
            taken = min(left, self.counts[length])
            tokens, left = tokens + taken * length, left - taken
        return tokens

    def applied_to(self, plan: LaunchPlan) -> tuple[LaunchPlan, tuple[str, ...], dict[str, Any]]:
        """Return the plan with its longest batch, sentences about it, and the `dataset` of the JSON."""
        return with_longest_batch(plan, self)

    def to_dict(self, max_length: int | None) -> dict[str, Any]:
        """Return the lengths as the `dataset` of a report's JSON."""
        return {
            "paths": list(self.paths),
            "counted": self.counted,
            "num_rows": self.num_rows,
            "longest_tokens": self.longest_tokens,
            "longest_path": self.longest_path,
            "longest_row": self.longest_row,
            "p99_tokens": self.quantile_tokens(0.99),
            "max_length": max_length,
            "num_truncated": None if max_length is None else self.num_longer_than(max_length),
            "not_counted": list(self.not_counted),
        }


def read_lengths(
    paths: tuple[str, ...],
    tokenizer_folder: str | None = None,
    column: str | None = None,
    progress: Callable[[str, float], None] = lambda path, share: None,
) -> RowLengths:
    """Count the tokens of every row of some files; raise BadInput naming what is wrong with which row."""
    from collections import Counter
    from functools import partial

    counts: Counter[int] = Counter()
    tokenizer = None if tokenizer_folder is None else Tokenizer(tokenizer_folder)
    longest, longest_path, longest_row = -1, "", 0
    counted: dict[str, None] = {}
    others: dict[str, None] = {}
    for path in paths:
        file = open_dataset(path)
        measure = choose_measure(file.kinds, path, column, tokenizer is not None)
        counted[measure.words] = None
        others.update(dict.fromkeys(modalities_of(file.kinds, file.declared)))
        num_before = 0
        for values in file.batches(measure, partial(progress, path)):
            if measure.needs_tokenizer and tokenizer is not None:
                values = tokenizer.lengths(measure.kind, values)
            if values and max(values) > longest:
                longest = max(values)
                longest_path, longest_row = path, num_before + values.index(longest) + 1
            counts.update(values)
            num_before += len(values)
        if not num_before:
            raise BadInput.of(path, "has no rows")
    if longest < 1:
        raise BadInput.one("every row is empty", ", ".join(paths))
    if tokenizer is not None:
        others.update(dict.fromkeys(sorted(tokenizer.seen)))
    return RowLengths(
        paths, " and ".join(counted), dict(counts), longest_path, longest_row, tuple(others)
    )


def with_longest_batch(
    plan: LaunchPlan, lengths: RowLengths
) -> tuple[LaunchPlan, tuple[str, ...], dict[str, Any]]:
    """Return the plan with the length that its longest batch really has, sentences about it, and the JSON.

    Padded batches are as long as their longest row, and any batch may get the longest of all: a random
    sampler draws it sometime, a sampler that groups by length puts it first. So both hold
    micro_batch_size x the longest row, after cutting.
    """
    limit = plan.seq_len
    longest = lengths.longest_tokens
    said = [_rows_sentence(lengths, limit)]
    if lengths.not_counted:
        return _without_length(plan, lengths, said)
    if plan.sequence_kind in ("packed", "fixed") and limit is not None:
        said.append(f"sequences are {plan.sequence_kind} at {limit:,}, however long rows are")
    elif plan.sequence_kind == "packed":
        # Padding-free, never cut: a batch is its rows one after another.
        num = plan.micro_batch_size or 1
        together = lengths.tokens_of_longest(num)
        plan = _with_length(
            plan,
            ceil_div(together, num),
            f"{lengths.longest_path}: the {num} longest rows hold {together:,} tokens",
        )
    elif limit is not None and longest > limit:
        said.append(f"rows are cut at {limit:,}")
    elif limit is not None and plan.sequence_kind is None:
        said.append(
            f"{limit:,} stays: whether the script packs is not known;"
            " say --set sequence_kind=padded to go by the longest row"
        )
    else:
        plan = _with_length(
            plan,
            longest,
            f"{lengths.longest_path}: row {lengths.longest_row:,} is the longest, {longest:,} tokens",
        )
    if plan.micro_batch_size is not None and plan.seq_len is not None:
        said.append(f"the longest micro batch is {plan.micro_batch_size} x {plan.seq_len:,} tokens")
    return plan, ("; ".join(said),), lengths.to_dict(limit)


def _rows_sentence(lengths: RowLengths, limit: int | None) -> str:
    paths = ", ".join(lengths.paths)
    text = (
        f"{OPTION} {paths}: {lengths.num_rows:,} row{'s' if lengths.num_rows > 1 else ''}, longest {lengths.longest_tokens:,} tokens"
        f" (row {lengths.longest_row:,}"
        + (f" of {lengths.longest_path})" if len(lengths.paths) > 1 else ")")
        + f", p99 {lengths.quantile_tokens(0.99):,}, from {lengths.counted}"
    )
    if limit is not None:
        longer = lengths.num_longer_than(limit)
        are = "row is" if longer == 1 else "rows are"
        share = f" ({100 * longer / lengths.num_rows:.1f}%)" if longer else ""
        text += f"; {f'{longer:,} {are}' if longer else 'none is'} over {limit:,}{share}"
    return text


def _with_length(plan: LaunchPlan, seq_len: int, says: str) -> LaunchPlan:
    plan = plan.with_edits({"seq_len": seq_len})
    return plan.with_origin("seq_len", Origin(f"{OPTION} {says}"))


def _without_length(
    plan: LaunchPlan, lengths: RowLengths, said: list[str]
) -> tuple[LaunchPlan, tuple[str, ...], dict[str, Any]]:
    """Leave the length as it was, because rows hold more tokens than were counted."""
    what = " and ".join(lengths.not_counted)
    stays = (
        "not known" if plan.seq_len is None else f"taken to be the {plan.seq_len:,} of the launch"
    )
    warning = Problem(
        f"rows hold {what}, and how many tokens those become is not known;"
        f" the longest row is {stays}",
        f"{OPTION} {', '.join(lengths.paths)}",
        "say how long the longest row is, everything counted: --set seq_len=N",
        severity="warning",
    )
    plan = replace(plan, notices=(*plan.notices, warning))
    return plan, ("; ".join(said),), lengths.to_dict(plan.seq_len)
