"""The length at which a script cuts its rows: what its tokenizer and its datasets are told."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from preflight.launch_facts import EVALUATED, Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.handed_functions import OF_ROWS
from preflight.scripts.python.nodes import keyword_of, last_name, root_of, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.answer_lengths import (
    IDS,
    OF_CHATS,
    answer_calls,
    calls_of_both_stacks,
    counted_calls,
    has_both_stacks,
    length_of_answers,
    lengths_of_answers,
    tokenizing,
    told_length,
)
from preflight.scripts.settings.collators import filled_rows
from preflight.scripts.settings.packed_rows import joins_rows, read_packed
from preflight.scripts.settings.script_settings import ScriptSettings, said_of
from preflight.scripts.settings.token_cuts import step_of
from preflight.setting import Place
from preflight.units import ceil_div
from preflight.unpriced_names import GROWN_BY_COLLATOR, LONGER_EVALUATION

LENGTHS = (
    "max_length", "max_len", "max_seq_length", "max_seq_len", "model_max_length", "seq_length", "seq_len",
    "block_size", "cutoff_len", "context_length",
)  # fmt: skip
"""Arguments of a script's own datasets that cut rows."""
PADS_EACH = "pads_each_row"
"""Argument of none: whether every row is as long as the length at which rows are cut."""
HALVES = lazy_pattern(r"(?:max_)?(?:source|target|prompt|response)_(?:max_)?len(?:gth)?")
"""Arguments that cut what is asked and what is answered apart; only what stands with `max` in it is looked at."""


def read_length(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record the length at which rows are cut, or the larger one to which a collator fills up each."""
    _read_cut(reader, settings)
    if reader.set_back:
        _read_evaluated(reader, settings)
    for found in reader.possible_calls:
        cut = _cut_at(settings)
        if cut is not None and (found.name.startswith("DataCollator") or found.name == "pad"):
            padded = _padded_by(reader.keywords(found)[0], cut)
            _lengthen(settings, padded, is_sure=found in reader.calls)
        elif "seq_len" not in settings.arguments and _fills_further(found):
            settings.put_later("seq_len", Known(UNKNOWN, reader.place(found)))
    cut = _cut_at(settings)
    for known in filled_rows(reader, cut or 0):
        _lengthen(settings, known, is_sure=True)
        if known.value == 0 and "seq_len" not in settings.arguments:
            # rounded up from a length that only a flag's name says
            settings.put_later("seq_len", Known(UNKNOWN, known.place))
    read_packed(reader, settings, _cut_at(settings))


def _read_evaluated(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Name the rows that a callback has cut later than those of training, with the length of these."""
    from preflight.scripts.settings.for_a_time import held_for_a_time  # few scripts set any

    for_a_time, at = held_for_a_time(reader)
    if at is None:
        return
    meanwhile = ScriptSettings()
    with reader.evaluator.meanwhile(for_a_time):
        _read_cut(reader, meanwhile)
    cut, longer = _cut_at(settings), _cut_at(meanwhile)
    if cut is None or longer is None or longer > cut:
        settings.uncounted[LONGER_EVALUATION] = Uncounted(at, "more")
    if longer is not None:
        settings.put(EVALUATED, Known(longer, at))


def _fills_further(found: CallFound) -> bool:
    """Tell whether a collator fills rows up to a length that is reckoned, `padding="max_length", max_length=args.length + 32`,
    of what is not known itself."""
    length, padding = (keyword_of(found.node, name) for name in ("max_length", "padding"))
    is_collator = found.name.startswith("DataCollator") or found.name == "pad"
    fills = isinstance(padding, ast.Constant) and padding.value == "max_length"
    return is_collator and fills and isinstance(length, ast.BinOp)


def _cut_at(settings: ScriptSettings) -> int | None:
    said = settings.arguments.get("seq_len")
    return said.value if said is not None and isinstance(said.value, int) else None


def _lengthen(settings: ScriptSettings, padded: Known | None, *, is_sure: bool) -> None:
    """Record the length to which rows are padded, where that may be more than what is recorded."""
    cut = _cut_at(settings)
    if padded is None or cut is None or (isinstance(padded.value, int) and padded.value <= cut):
        return
    settings.put("seq_len", padded if is_sure else Known(UNKNOWN, padded.place))


def _padded_by(values: Mapping[str, Known], cut: int) -> Known | None:
    """Return the length to which a collator of a library's, or a tokenizer's `pad`, pads rows of a length; None where it
    says none."""
    length, padding = values.get("max_length"), values.get("padding")
    if length is not None and padding is not None and padding.value == "max_length":
        return length if isinstance(length.value, int) else Known(UNKNOWN, length.place)
    multiple = values.get("pad_to_multiple_of")
    if multiple is None or not isinstance(multiple.value, int) or multiple.value < 1:
        return None
    return Known(ceil_div(cut, multiple.value) * multiple.value, multiple.place)


def _read_cut(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record the length where nothing else of the script says it, and all that cuts rows agrees."""
    answers = answer_calls(reader)
    is_apart = has_both_stacks(reader)
    of_answers = length_of_answers(reader, answers) if is_apart else None
    if of_answers is not None and "target_len" not in settings.arguments:
        settings.put("target_len", of_answers)
    if joins_rows(reader, settings) or "seq_len" in settings.arguments:
        return
    elsewhere = answers if is_apart else calls_of_both_stacks(reader)
    elsewhere |= counted_calls(reader)
    pieces = list(_pieces(reader, settings))
    kept = [] if is_apart or pieces else _kept(reader)
    cutting = kept or list(_cutting(reader, elsewhere, pieces))
    is_whole = bool(cutting) and cutting[0].place.key == IDS
    if cutting and not (is_apart or kept or is_whole):
        # the other part of a row may be as long again
        others = lengths_of_answers(reader, answers - elsewhere, truncating_alone=True)
        cutting += [each for each in others if each.value != cutting[0].value]
    values = [known.value for known in cutting if isinstance(known.value, int)]
    if not cutting:
        return
    if _pads_each(reader, {known.place for known in cutting}):
        settings.put(PADS_EACH, Known(True, cutting[0].place))
    if len(values) == len(cutting) and len(set(values)) == 1 and said_of(cutting[0]) is not None:
        settings.put("seq_len", cutting[0])
    elif values or is_whole:
        settings.put("seq_len", Known(UNKNOWN, cutting[0].place))


def _pads_each(reader: ScriptReader, places: set[Place]) -> bool:
    """Tell whether every call that cuts rows fills them up to where it cuts: `padding="max_length"`."""
    names = tokenizing(reader)
    told = (reader.keywords(found)[0] for found in reader.possible(*names))
    cutting = [v for v in told if "max_length" in v and v["max_length"].place in places]
    padding = [values.get("padding") for values in cutting]
    return bool(padding) and all(
        each is not None and each.value == "max_length" for each in padding
    )


def _cutting(
    reader: ScriptReader, elsewhere: frozenset[ast.Call], by_pieces: list[Known]
) -> list[Known]:
    """Return the lengths of the pieces that the script cuts joined rows into, and what may be cut longer; else those that
    truncating tokenizers are called with, but for calls that make no whole row; else those that the script's datasets are made with."""
    of_calls: dict[int, Known] = {}
    by_dataset: list[Known] = []
    names = {*tokenizing(reader), OF_CHATS}
    for found in reader.possible_calls:
        if found.node in elsewhere:
            continue
        if found.name in names:
            values, _ = reader.keywords(found)
            if "tokenize" in values and values["tokenize"].value is False:
                continue  # a chat's text
            truncates = values.get("truncation")
            if truncates is None or truncates.value in (None, False):
                continue
            length = told_length(reader, found, values.get("max_length"))
            if length is not None:
                of_calls[id(found.node)] = length
        elif _is_dataset(reader, found):
            changed = reader.evaluator.changed_attributes
            values = {n: v for n, v in reader.told(found).items() if f".{n}" not in changed}
            whole = [values[name] for name in LENGTHS if name in values][:1]
            halves = [v for n, v in values.items() if HALVES.fullmatch(n) and "max" in n]
            by_dataset += whole or _joined(halves, reader.classes.get(found.name))
    by_tokenizer = _after_joining(reader, of_calls)
    if by_pieces:  # other rows, of an evaluation or of the training itself, may be in none
        longest = max((each.value for each in by_pieces if isinstance(each.value, int)), default=0)
        return [
            *by_pieces,
            *(e for e in by_tokenizer if not isinstance(e.value, int) or e.value > longest),
        ]
    of_dataset = [each for each in by_dataset if each.value is not UNKNOWN]
    told = {each.value for each in by_tokenizer if isinstance(each.value, int)}
    is_joined = len(told) == 2 and {each.value for each in of_dataset} == {sum(told)}
    if any(each.value is not UNKNOWN for each in by_tokenizer) and not is_joined:
        return by_tokenizer
    if of_dataset or by_tokenizer:
        return of_dataset or by_tokenizer
    from preflight.scripts.settings.row_windows import windowed_rows  # few scripts cut nothing else

    windows = windowed_rows(reader)
    return [] if windows is None else [windows]


def _after_joining(reader: ScriptReader, of_calls: Mapping[int, Known]) -> list[Known]:
    """Return the lengths that a tokenizer's calls cut at, and in place of them the longest row that the script makes of
    what they give."""
    makes_rows = {*tokenizing(reader), OF_CHATS, *OF_ROWS}
    if not makes_rows.intersection(found.name for found in reader.possible_calls):
        return list(of_calls.values())
    from preflight.scripts.settings.joined_rows import joined_rows  # many scripts make no rows

    values = {each.value if isinstance(each.value, int) else None for each in of_calls.values()}
    joined, used = joined_rows(reader, next(iter(values)) if len(values) == 1 else None)
    lengths = [known for call, known in of_calls.items() if call not in used] + joined
    told = [(known.value, known) for known in lengths if isinstance(known.value, int)]
    if joined and len(told) == len(lengths):
        return [max(told, key=lambda each: each[0])[1]]
    return lengths


_COUNTED = lazy_pattern(r"len\(\w+\[.\w*(?:input_ids|tokens)\w*.\]\)")


def _kept(reader: ScriptReader) -> list[Known]:
    """Return the lengths up to which rows are kept; none where not every dataset that the script loads is so filtered."""
    loaded = [*reader.named("load_dataset", "load_from_disk"), *reader.maybe("load_dataset")]
    filtered = [known for found in reader.named("filter") for known in _longest_kept(reader, found)]
    is_told = all(isinstance(known.value, int) for known in filtered)
    return filtered if is_told and loaded and len(filtered) >= len(loaded) else []


def _longest_kept(reader: ScriptReader, found: CallFound) -> Iterator[Known]:
    """Yield N of `data.filter(lambda row: len(row["input_ids"]) <= N)`, a condition at most."""
    for keeps in found.node.args[:1]:
        keeps = found.node.args[0]
        if not isinstance(keeps, ast.Lambda):
            continue
        body = keeps.body
        tests = body.values if isinstance(body, ast.BoolOp) and isinstance(body.op, ast.And) else [body]  # fmt: skip
        for test in tests:
            if (
                isinstance(test, ast.Compare)
                and _COUNTED.fullmatch(unparse(test.left))
                and isinstance(test.ops[0], (ast.Lt, ast.LtE))
                and len(test.ops) == 1
            ):
                known = reader.evaluator.evaluate(test.comparators[0], found.scope)
                yield Known(known.value, known.place if said_of(known) else reader.place(found))
                return


def _pieces(reader: ScriptReader, settings: ScriptSettings) -> Iterator[Known]:
    """Yield the lengths of `{name: [ids[i : i + N] for i in range(0, total, N)] for name, ids in columns.items()}`.

    So the examples of transformers cut the texts that they joined, and so do those who learned from them
    (examples/pytorch/language-modeling/run_clm.py group_texts, 5.24.0). A list of rows that is cut into batches the same
    way has no columns around it. Columns that a tokenizer gave for many texts are not cut but put into groups of N texts,
    each as long as before (examples/pytorch/multiple-choice/run_swag.py preprocess_function, 4.38.0): more rows to a batch.
    """
    steps = {
        id(step): node.generators[0].iter
        for tree in reader.trees.values()
        for node in walk(tree)
        if isinstance(node, ast.DictComp) and (step := step_of(node.value)) is not None
    }
    for found in reader.possible_calls:
        if found.name != "range" or len(found.node.args) != 3:
            continue
        columns = steps.get(id(found.node.args[2]))
        if columns is None:
            continue
        if _are_tokenized(reader, columns, found.scope):
            settings.uncounted[GROWN_BY_COLLATOR] = Uncounted(reader.place(found), "more")
            continue
        known = reader.evaluator.evaluate(found.node.args[2], found.scope)
        yield Known(known.value, known.place if said_of(known) else reader.place(found))


def _are_tokenized(reader: ScriptReader, columns: ast.expr, scope: Scope) -> bool:
    """Tell whether columns are what a tokenizer gave: `columns.items()` of `columns = tokenizer(texts)`."""
    name = root_of(columns.func if isinstance(columns, ast.Call) else columns)
    holder = scope.holder(name)
    made = [] if holder is None else holder.assigned.get(name, [])
    names = tokenizing(reader)
    return any(isinstance(each, ast.Call) and last_name(each.func) in names for each in made)


def _joined(halves: list[Known], held: tuple[ast.ClassDef, Scope] | None) -> list[Known]:
    """Return the length of a row that is a question and an answer behind each other, each cut by itself, which a class makes."""
    lengths = [half.value for half in halves if isinstance(half.value, int)]
    if len(lengths) != 2 or len(halves) != 2 or held is None:
        return []
    cls, scope = held
    joins = any(
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Add)
        and not isinstance(node.left, (ast.Constant, ast.JoinedStr))
        and isinstance(node.right, (ast.Name, ast.Subscript))
        for node in walk(cls)
    )
    return [Known(sum(lengths), Place("script", scope.path, IDS, cls.lineno))] if joins else []


def _is_dataset(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether a call makes a dataset of the script's own: by its name, or that of what its class is built on."""
    held = reader.classes.get(found.name)
    if held is None and found.name not in reader.functions:
        return False
    names = [found.name, *(last_name(base) for base in (held[0].bases if held else ()))]
    return any("data" in name.lower() for name in names)
