"""A model that a script loads beside the one that it trains: a teacher, a judge, an encoder of images, a reward."""

from __future__ import annotations

import ast
import re

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.assignments import returned_by
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.library_classes import dotted
from preflight.scripts.python.nodes import argument_of, keyword_of, last_name, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope
from preflight.scripts.settings.given_keywords import given_by
from preflight.scripts.settings.model_calls import BESIDE
from preflight.setting import Place

_NO_WEIGHTS = lazy_pattern(
    r"Token\w*er|Process|Config|Extractor|Schedul|Peft|Template|^(?:[a-z_]|T5Block)"
)
"""Classes whose from_pretrained reads no model, or puts an adapter on one; and names that may hold any class."""
LOADERS = lazy_pattern(
    r"^(?:trl\.(?:\w+\.)*create_reference_model|timm\.create_model|whisper\.load_model|clip\.load"
    r"|open_clip\.create_model\w*|torch\.hub\.load|torch\.jit\.load|llama_cpp\.Llama|bert_score\.BERTScorer"
    r"|torchvision\.models\.\w+|comet\.load_from_checkpoint|detoxify\.Detoxify|ctranslate2\.[A-Z]\w+|ultralytics\.YOLO"
    r"|faster_whisper\.WhisperModel|FlagEmbedding\.\w+|llm_blender\.Blender|ImageReward\.load|easyocr\.Reader|lpips\.LPIPS)$"
)
"""Functions and classes of other libraries that load or make weights, most of them on the card where there is one."""
METRICS = ("bertscore", "bleurt", "comet", "honest", "mauve", "perplexity", "regard", "toxicity")
"""Metrics of evaluate that a model computes, on the card where there is one (evaluate 0.4, metrics and measurements)."""
_OF_TORCH = frozenset(
    {"torch", "accelerate", "deepspeed", "datasets", "transformers", "trl", "peft", "numpy", "jax"}
)
"""Libraries whose classes that are given a device hold no model of their own, or are read elsewhere."""
_HOLDS_WEIGHTS = lazy_pattern(
    r"(?:model|net(?:work)?|encoder|backbone|teacher|critic|reward|judge|vae|clip)$|^(?:build|create|get|load)_\w*model",
    re.IGNORECASE,
)
"""Names of a call whose result is moved to the card, `build_model().cuda()`, that is no batch of rows."""


_LAYERS = lazy_pattern(
    r"^torch\.nn\.(?:\w*Linear|Embedding\w*|\w*Conv\w+|LSTM|GRU|RNN|Sequential|Module(?:List|Dict)|Multihead\w+|Transformer\w*)$"
)
"""Classes of torch that hold weights, or modules that do."""


def model_beside(
    reader: ScriptReader, trained: Place | None, is_by_name: bool = False
) -> Place | None:
    """Return where a script loads a model that it does not train; None where nothing shows one.

    `trained` is where it loads the one that trains, None where that is not known: then a name has to say it. What is
    loaded under the trained model's name is another way to load it, and what comes after its deletion takes its place.
    Where a trainer has it by its name, all that is loaded before the training is another.
    """
    names = _names(reader)
    loads = [found for found in reader.possible_calls if _loads(reader, found)]
    trains = [found for found in loads if reader.place(found) == trained]
    for found in trains:
        if len(names.get(id(found.node), ())) > 1:
            return trained  # a function that loads one is called for another
    handed_names, handed_nodes = _handed(reader)
    taken = {name for found in trains for name in names.get(id(found.node), ())}
    for found in loads:
        is_other = trained is not None and found not in trains
        if found.node in handed_nodes:
            continue
        for name in names.get(id(found.node), ()):
            if name in handed_names:
                continue
            is_another = name not in taken and is_other
            is_another = is_another or (is_by_name and not is_after_training(reader, found))
            if (is_another or BESIDE.search(name)) and not replaces(reader, found):
                return reader.place(found)
    return None


OF_TRAINERS = frozenset({"ref_model", "ref_policy", "reward_model", "value_model", "reward_funcs", "teacher_model"})  # fmt: skip
"""Keywords by which a trainer of TRL's is given a model beside the one that it trains: what it holds is its objective's."""


def _handed(reader: ScriptReader) -> tuple[set[str], set[ast.expr]]:
    """Return what a trainer is given as one of those models: the names that hold one, and the expressions themselves."""
    nodes: set[ast.expr] = set()
    for call in reader.possible_trainers:
        handed = [node for name in OF_TRAINERS for node, _ in given_by(reader, call, name)]
        for node in (*handed, *call.node.args[1:2]):
            nodes.update(node.elts if isinstance(node, (ast.List, ast.Tuple)) else [node])
    return {last_name(node) for node in nodes if isinstance(node, (ast.Name, ast.Attribute))}, nodes


def _loads(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether a call loads or makes weights: a model's class, another library's loader, a module that is moved to the
    card, or a pipeline that is not given a model."""
    func = found.node.func
    if found.name in ("from_pretrained", "from_config") and isinstance(func, ast.Attribute):
        return any(_has_weights(reader, each) for each in _held_classes(func.value, found.scope))
    if found.name in ("cuda", "to") and isinstance(func, ast.Attribute):
        return _is_moved(reader, found, func.value)
    name = dotted(reader, func, found.scope.path)
    if name == "evaluate.load":
        metric = found.node.args[0] if found.node.args else None
        return getattr(metric, "value", "") in METRICS
    if name == "torch.load":
        return _is_told_card(reader, found, "map_location")
    if name != "transformers.pipeline":
        return LOADERS.match(name) is not None or _is_put(reader, found, name)
    given = argument_of(found.node, 1, "model")
    return given is None or isinstance(given, ast.Constant)


def _has_weights(reader: ScriptReader, node: ast.expr) -> bool:
    name = last_name(node)
    return bool(name) and not _NO_WEIGHTS.search(name) and name not in reader.classes


def _held_classes(node: ast.expr, scope: Scope) -> list[ast.expr]:
    """Return the classes that a receiver may be: itself, what a name holds, that of the model for `type(model)`."""
    if isinstance(node, ast.Name):
        holder = scope.holder(node.id)
        return (holder.assigned.get(node.id) if holder is not None else None) or [node]
    is_of_object = isinstance(node, ast.Call) and last_name(node.func) == "type"
    return [ast.Name("AutoModel")] if is_of_object else [node]


def _is_put(reader: ScriptReader, found: CallFound, name: str) -> bool:
    """Tell whether a class of a library that nobody knows makes an object on the card: `Scorer("large", device="cuda")`."""
    library, _, cls = name.rpartition(".")
    if not cls[:1].isupper() or not library or library.partition(".")[0] in _OF_TORCH:
        return False
    return _is_told_card(reader, found, "device")


def _is_told_card(reader: ScriptReader, found: CallFound, name: str) -> bool:
    given = keyword_of(found.node, name)
    device = None if given is None else reader.evaluator.value(given, found.scope)
    return isinstance(device, str) and device.startswith("cuda")


def _is_moved(reader: ScriptReader, found: CallFound, made: ast.expr) -> bool:
    """Tell whether what a call makes or loads is put on the card at once, and is a module by its name."""
    if not isinstance(made, ast.Call):
        return False
    if found.name == "to" and not any("cuda" in unparse(a) or "device" in unparse(a) for a in found.node.args):  # fmt: skip
        return False
    name = last_name(made.func)
    if name in ("from_pretrained", "from_config"):
        return False  # which is a call of its own
    whole = dotted(reader, made.func, found.scope.path)
    own = reader.class_of(name, found.scope.path)
    if own is not None:
        return not made.args and any(last_name(base) == "Module" for base in own[0].bases)
    return (
        whole == "torch.load"
        or _LAYERS.match(whole) is not None
        or _HOLDS_WEIGHTS.search(name) is not None
    )


def _names(reader: ScriptReader) -> dict[int, tuple[str, ...]]:
    """Return id of a call -> the last part of the names that hold what it gives; of one that a function returns, those
    that its callers give it."""
    held: dict[int, tuple[str, ...]] = {}
    callers: dict[str, tuple[str, ...]] = {}
    for statement, _ in reader.possible_statements:
        target = statement.targets[0]
        name = last_name(target.elts[0] if isinstance(target, ast.Tuple) and target.elts else target)  # fmt: skip
        for node in walk(statement.value) if name else ():
            if isinstance(node, ast.Call):
                held[id(node)] = (name,)
                called = last_name(node.func)
                callers[called] = tuple(dict.fromkeys((*callers.get(called, ()), name)))
    for called, functions in reader.functions.items():
        for function, _ in functions if called in callers else ():
            for node in (each for value in returned_by(function) for each in walk(value)):
                if isinstance(node, ast.Call):
                    held.setdefault(id(node), callers[called])
    return held


def replaces(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether something is deleted before a call in its own block, as the trained model is before it is merged."""
    return any(
        isinstance(node, ast.Delete) and node.lineno < found.node.lineno
        for node in reader.body_of(found.scope)
    )


def is_after_training(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether a call stands behind `trainer.train()` in its own block."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "train"
        and last_name(node.value).endswith("trainer")
        and node.lineno < found.node.lineno
        for statement in reader.body_of(found.scope)
        for node in walk(statement)
    )
