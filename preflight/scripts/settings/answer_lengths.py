"""The length at which a script cuts what a decoder beside an encoder is to answer: apart from what the encoder reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import keyword_of, last_name, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known

TOKENIZING = (
    "tokenizer", "tok", "encode", "encode_plus", "batch_encode_plus", "__call__", "processing_class", "processor",
)  # fmt: skip
"""Calls of a tokenizer, or of a processor that hands on what it is told to one, by the name that scripts give it or by
its methods."""
OF_CHATS = "apply_chat_template"
"""Its method that gives tokens, or with `tokenize=False` a text (transformers/tokenization_utils_base.py, 5.24.0)."""
IDS = "input_ids"
"""The column of a row that its length is told by."""
BOTH_STACKS = lazy_pattern(
    r"\b(?:AutoModelForSeq2SeqLM|(?:U?MT5|T5|M?Bart|Pegasus)ForConditionalGeneration)\b"
)
"""Classes of an encoder with a decoder, which reads text and answers text."""
ALONE = lazy_pattern(r"ForCausalLM$|LMHeadModel$|^AutoModel$")
ANSWERS = lazy_pattern(r"target|tgt|label|answer|summar|output|response|completion", re.IGNORECASE)
"""What scripts call what is answered."""
OF_EVALUATION = lazy_pattern(r"val|eval|test|predict|generat", re.IGNORECASE)
SWITCHES = ("as_target_tokenizer", "_switch_to_target_mode")
"""What a tokenizer cuts answers in (transformers/tokenization_utils_base.py, 4.31.0)."""


def has_both_stacks(reader: ScriptReader) -> bool:
    """Tell whether a script loads an encoder with a decoder, and surely no decoder alone, which reads question and answer
    in one row."""
    trees = reader.trees.values()
    return any(_names(tree, BOTH_STACKS) for tree in trees) and not any(
        _names(tree, ALONE) for tree in trees
    )


def answer_calls(reader: ScriptReader) -> frozenset[ast.Call]:
    """Return the calls of a tokenizer that are given answers."""
    switched = {
        id(call)
        for tree in reader.trees.values()
        for block in walk(tree)
        if isinstance(block, ast.With) and any(_switches(item) for item in block.items)
        for call in walk(block)
    }
    return frozenset(
        found.node
        for found in reader.possible(*tokenizing(reader))
        if id(found.node) in switched or _is_named(found)
    )


def calls_of_both_stacks(reader: ScriptReader) -> frozenset[ast.Call]:
    """Return the calls that run only where the model is an encoder with a decoder, as `if not self.is_encoder_decoder`
    has them in its `else` (trl/trainer/dpo_trainer.py 0.8, and the trainers that were made after it)."""
    return frozenset(
        call
        for tree in reader.trees.values()
        for branch in walk(tree)
        if isinstance(branch, ast.If)
        for statement in _for_both_stacks(branch)
        for call in walk(statement)
        if isinstance(call, ast.Call)
    )


def counted_calls(reader: ScriptReader) -> frozenset[ast.Call]:
    """Return the calls of which only the number of tokens is asked, as a filter does: they make no row."""
    counts = (node for tree in reader.trees.values() for node in walk(tree))
    return frozenset(
        call for node in counts for counted in _counted(node) if (call := _made_by(counted))
    )


def _counted(node: ast.AST) -> list[ast.expr]:
    """Return X of `len(X)`, of `X.shape`, and of `X.ne(padding).sum()`."""
    if isinstance(node, ast.Attribute) and node.attr == "shape":
        return [node.value]
    if not isinstance(node, ast.Call):
        return []
    if not isinstance(node.func, ast.Attribute):
        return node.args[:1] if last_name(node.func) == "len" else []
    compared = node.func.value if node.func.attr == "sum" else None
    if isinstance(compared, ast.Call) and isinstance(compared.func, ast.Attribute):
        return [compared.func.value] if compared.func.attr in ("ne", "eq") else []
    return [compared.left] if isinstance(compared, ast.Compare) else []


def _made_by(node: ast.expr) -> ast.Call | None:
    """Return the call of `tokenizer(text).input_ids` and `tokenizer(text)["input_ids"]`."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node if isinstance(node, ast.Call) else None


def length_of_answers(reader: ScriptReader, answers: frozenset[ast.Call]) -> Known | None:
    """Return the length that all calls agree on for answers; None where that is not known, or one cuts nothing."""
    lengths = list(lengths_of_answers(reader, answers))
    given = {known.value for known in lengths}
    is_said = len(given) == 1 and all(type(value) is int for value in given)
    return lengths[0] if is_said else None


def lengths_of_answers(
    reader: ScriptReader, answers: frozenset[ast.Call], truncating_alone: bool = False
) -> Iterator[Known]:
    """Yield the lengths at which calls cut answers; of one that does not, that it is not known, or nothing."""
    for found in reader.possible(*tokenizing(reader)):
        if found.node not in answers:
            continue
        truncates = reader.keywords(found)[0].get("truncation")
        if truncates is not None and truncates.value not in (None, False, UNKNOWN):
            yield from _max_length(reader, found)
        elif not truncating_alone:
            yield Known(UNKNOWN, reader.place(found))


def _for_both_stacks(branch: ast.If) -> list[ast.stmt]:
    test, taken, other = branch.test, branch.body, branch.orelse
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, taken, other = test.operand, other, taken
    return taken if last_name(test) == "is_encoder_decoder" else []


def _names(tree: ast.AST, classes: re.Pattern[str]) -> bool:
    return any(
        isinstance(node, (ast.Name, ast.Attribute)) and classes.search(last_name(node) or "")
        for node in walk(tree)
    )


def tokenizing(reader: ScriptReader) -> frozenset[str]:
    """Return the names by which a script calls tokenizers: those that scripts give them, and `t` of `t(text, truncation=True)`."""
    return reader.truncating.union(TOKENIZING)


def told_length(reader: ScriptReader, found: CallFound, said: Known | None) -> Known | None:
    """Return where a truncating call of a tokenizer cuts, `said` being its max_length: where that is none, or the tokenizer's
    own, it is what the tokenizer was loaded with (transformers/tokenization_utils_base.py, 5.24.0)."""
    given = keyword_of(found.node, "max_length")
    is_own = said is None or (said.value is UNKNOWN and given is not None and is_tokenizers(given))
    return (loaded_length(reader) or said) if is_own else said


def is_tokenizers(node: ast.expr) -> bool:
    """Tell whether an expression is the length of a tokenizer: `self.tokenizer.model_max_length`."""
    return isinstance(node, ast.Attribute) and node.attr == OF_TOKENIZER


def loaded_length(reader: ScriptReader) -> Known | None:
    """Return the length that all tokenizers of a script are loaded with; None where one is loaded without, or with another."""
    calls = [
        each
        for each in reader.possible("from_pretrained")
        if _LOADS.search(unparse(each.node.func))
    ]
    told = [reader.keywords(each)[0].get(OF_TOKENIZER) for each in calls]
    lengths = {known.value if known is not None else None for known in told}
    is_one = len(lengths) == 1 and isinstance(next(iter(lengths)), int)
    return told[0] if is_one else None


OF_TOKENIZER = "model_max_length"
_LOADS = lazy_pattern(r"Tokenizer\w*\.from_pretrained$|Processor\.from_pretrained$")


def _switches(item: ast.withitem) -> bool:
    call = item.context_expr
    return isinstance(call, ast.Call) and last_name(call.func) in SWITCHES


def _is_named(found: CallFound) -> bool:
    """Tell whether a call is given what its script calls an answer."""
    keywords = {keyword.arg: keyword.value for keyword in found.node.keywords}
    if "text_target" in keywords:
        return True
    given = keywords.get("text") or next(iter(found.node.args), None)
    return given is not None and ANSWERS.search(unparse(given)) is not None


def _max_length(reader: ScriptReader, found: CallFound) -> Iterator[Known]:
    """Yield the length of a call; of a name that a script sets again for its evaluation, what training has."""
    known = told_length(reader, found, reader.keywords(found)[0].get("max_length"))
    given = keyword_of(found.node, "max_length")
    if known is None:
        yield Known(UNKNOWN, reader.place(found))
    elif known.value is not UNKNOWN or not isinstance(given, ast.Name):
        yield known
    else:
        for node, scope in reader.statements:
            target = node.targets[0]
            is_it = isinstance(target, ast.Name) and target.id == given.id
            if is_it and not OF_EVALUATION.search(unparse(node.value)):
                yield reader.evaluator.evaluate(node.value, scope)
