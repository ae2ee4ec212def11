"""What an expression may be where only running tells which: the branches of a condition, what a function returns, the values of a table.

`"flash_attention_2" if is_flash_attn_2_available() else "sdpa"` is one of two, and never eager attention.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from preflight.scripts.arguments.trainer_spellings import ATTENTIONS, DTYPES
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.flow import returns
from preflight.scripts.python.nodes import keyword_of, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.script_settings import NUMBERS, ScriptSettings

MOST_DEEP = 8
"""Names, calls and branches that are followed to a value."""


def note_ways(reader: ScriptReader, settings: ScriptSettings, calls: Sequence[CallFound]) -> None:
    """Note the attentions and the dtypes of which the model that some calls load surely has one, where only running tells which."""
    for argument, (field, keywords, word_of) in DECIDED.items():
        if argument not in settings.unread:
            continue
        said = [
            alternatives(reader, keyword.value, call.scope)
            for call in calls
            for keyword in call.node.keywords
            if keyword.arg in keywords
        ]
        words = [word_of(each) for ways in said for each in ways or (UNKNOWN,)]
        if len(said) == len(calls) and words and UNKNOWN not in words:
            settings.may_be[field] = tuple(dict.fromkeys(words))
    if COMPUTE in settings.unread:
        _take_compute_dtype(reader, settings)


def note_numbers(
    reader: ScriptReader,
    settings: ScriptSettings,
    argument: str,
    given: Sequence[tuple[ast.expr | None, Scope]],
) -> None:
    """Note the numbers of which an unread argument surely has one, the largest first, where only running tells which; `given` is what
    each of the calls that set it gives."""
    ways = [None if node is None else alternatives(reader, node, scope) for node, scope in given]
    found = [each for values in ways for each in values or (UNKNOWN,)]
    numbers = {each for each in found if isinstance(each, int) and each > 0}
    if all(type(each) is int and each in numbers for each in found):
        settings.may_be[NUMBERS[argument]] = tuple(sorted(numbers, reverse=True))


COMPUTE = "bnb_4bit_compute_dtype"


def _take_compute_dtype(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Take the first of the 16-bit dtypes in one of which packed layers surely compute, as all of them take the same; the
    dtype of the rest where there may be others, since nobody left it to bitsandbytes' own fp32."""
    for found in reader.named("BitsAndBytesConfig"):
        given = keyword_of(found.node, COMPUTE)
        ways = None if given is None else alternatives(reader, given, found.scope)
        words = [_dtype(each) for each in ways or ()]
        is_short = bool(words) and {*words} <= {"bf16", "fp16"}
        settings.put(COMPUTE, Known(words[0] if is_short else "auto", reader.place(found)))


def _attention(said: object) -> object:
    """Return the plan's word for an attention; each release of flash attention keeps what the second does."""
    if said is None or said is UNKNOWN:
        return said
    word = str(said)
    other = "flash_attention_2" if word.startswith("flash_attention") else UNKNOWN
    return ATTENTIONS.get(word, other)


def _dtype(said: object) -> object:
    """Return the plan's word for a dtype; without one the library's release decides."""
    return DTYPES.get(str(said).removeprefix("torch."), UNKNOWN)


DECIDED = {
    "attn_implementation": (
        "attention",
        ("attn_implementation", "_attn_implementation"),
        _attention,
    ),
    "dtype": ("load_dtype", ("torch_dtype", "dtype"), _dtype),
}
"""Argument -> the plan field, its keywords of from_pretrained, and the plan's word for a value."""


def alternatives(reader: ScriptReader, node: ast.expr, scope: Scope) -> tuple[object, ...] | None:
    """Return the values of which an expression surely has one, each once; None where there may be others."""
    found = list(_values(reader, node, scope, 0))
    return None if UNKNOWN in found else tuple(dict.fromkeys(found))


def _values(reader: ScriptReader, node: ast.expr, scope: Scope, depth: int) -> Iterator[object]:
    """Yield what an expression may be; UNKNOWN where one of its ways is not followed."""
    value = reader.evaluator.value(node, scope)
    if value is not UNKNOWN or depth > MOST_DEEP:
        yield _plain(value)
        return
    ways = list(_ways(reader, node, scope))
    if not ways:
        yield UNKNOWN
    for way, own in ways:
        yield from _values(reader, way, own, depth + 1)


def _plain(value: object) -> object:
    """Return a word, a whole number, none at all, or names as they are compared; UNKNOWN for anything else."""
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return tuple(value)
    return value if isinstance(value, (str, int, type(None))) else UNKNOWN


def _ways(reader: ScriptReader, node: ast.expr, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
    """Yield the expressions of which one is taken; none where that is not read."""
    if isinstance(node, ast.IfExp):
        yield from ((node.body, scope), (node.orelse, scope))
    elif isinstance(node, ast.Name):
        yield from reader.evaluator.may_be(node, scope) if _holder(node.id, scope) else ()
    elif isinstance(node, ast.Subscript):
        yield from _entries(reader, node.value, scope)
    elif isinstance(node, ast.Call):
        named = reader.functions.get(_function(node.func, scope), ())
        if len(named) == 1 and isinstance(named[0][0], ast.FunctionDef):
            yield from _returned(*named[0])


def _holder(name: str, scope: Scope) -> Scope | None:
    """Return the block that holds a name, where nothing but assignments says what it is: no method makes it longer."""
    holder = scope.holder(name)
    if holder is None or holder.changes(name) or name in {*holder.arguments, *holder.changed}:
        return None
    return holder


def _function(func: ast.expr, scope: Scope) -> str:
    """Return the name of a function that is called by it, or as one of a module: `utils.pick()`."""
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
        return func.attr if scope.holder(func.value.id) is None else ""
    return func.id if isinstance(func, ast.Name) else ""


def _entries(
    reader: ScriptReader, node: ast.expr, scope: Scope
) -> Iterator[tuple[ast.expr, Scope]]:
    """Yield the values of a table that is written once: `WORDS = {...}`, from which a key picks one."""
    if isinstance(node, ast.Name):
        holder = _holder(node.id, scope)
        written = [] if holder is None else holder.assigned.get(node.id, [])
        if holder is None or len(written) != 1:
            return
        node, scope = written[0], holder
    if isinstance(node, ast.Dict) and None not in node.keys:
        yield from ((each, scope) for each in node.values)


def _returned(function: ast.FunctionDef, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
    """Yield what a function returns in each of its ways; nothing where one may end without a `return`, or yields."""
    inner = [n for n in walk(function) if isinstance(n, (ast.FunctionDef, ast.Lambda, ast.Yield))]
    values = [n.value for n in walk(function) if isinstance(n, ast.Return)]
    if inner != [function] or None in values or not returns(function.body):
        return
    yield from ((value, scope) for value in values if value is not None)
