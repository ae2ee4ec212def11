"""What a script that trains with sentence-transformers says by its calls: the model, the loss, and how many texts a row has.

Source: sentence_transformers/trainer.py, losses/*.py, models/Transformer.py (3.0 to 6.2), cross_encoder/trainer.py (4.0 to 6.2).
What is not read here leaves the head of the model open, and such a launch is unknown.
"""

from __future__ import annotations

import ast

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import keyword_of, last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.running_calls import attributes_set
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.followed_models import followed
from preflight.scripts.settings.model_calls import LOADED_WITH, OF_ATTENTION
from preflight.scripts.settings.script_settings import ScriptSettings

LIBRARY = "sentence_transformers"
TRAINERS = {
    "SentenceTransformerTrainer": "SentenceTransformer",
    "CrossEncoderTrainer": "CrossEncoder",
}
"""Trainer -> the class of the model that it trains."""
MODELS = (*TRAINERS.values(), "SparseEncoder", "MultiVectorEncoder", "StaticEmbedding")
DEFAULT_LOSSES = {
    "SentenceTransformerTrainer": "CoSENTLoss",
    "CrossEncoderTrainer": "BinaryCrossEntropyLoss",
}
"""Trainer -> its loss where it is given none (for a CrossEncoder with one label; with more, CrossEntropyLoss)."""
TEXTS: dict[str, int | None] = {
    "CoSENTLoss": 2,
    "AnglELoss": 2,
    "CosineSimilarityLoss": 2,
    "ContrastiveLoss": 2,
    "OnlineContrastiveLoss": 2,
    "SoftmaxLoss": 2,
    "TripletLoss": 3,
    "MultipleNegativesRankingLoss": None,
    "MultipleNegativesSymmetricRankingLoss": None,
    "CachedMultipleNegativesRankingLoss": None,
    "CachedMultipleNegativesSymmetricRankingLoss": None,
}
"""Loss of embeddings -> the texts of a row that it takes; None for as many as the data has columns of."""
CACHED_ROWS = 32
"""mini_batch_size of the cached losses where nobody says it (losses/CachedMultipleNegativesRankingLoss.py, 3.0 to 6.2)."""
OF_ONE_ROW = ("BinaryCrossEntropyLoss", "CrossEntropyLoss", "MSELoss")
"""Losses of a CrossEncoder that score every row once, both texts in one sequence."""
NOT_READ = (
    "gather_across_devices",
    "mini_batch_num_tokens",
    "guide",
    "model_init",
    "prediction_loss",
)
"""Keywords of losses and trainers that make more, or other things, than is counted."""
HOLDS_SCORES = ("InformationRetrieval", "Nano", "Rerank", "ParaphraseMining", "Translation")
"""Beginnings of evaluators that keep the embeddings of a corpus on the device."""


def read_sentences(reader: ScriptReader, settings: ScriptSettings) -> bool:
    """Record what the one trainer of sentence-transformers trains; tell whether all of it was read."""
    trainers = [call for call in reader.everywhere if call.name in TRAINERS]
    if len(trainers) != 1 or not _is_of_library(reader, trainers[0]):
        return False
    trainer = trainers[0]
    if trainer not in reader.calls or any(map(_loads_another, _others(reader, trainer))):
        return False
    given = {each.arg: each.value for each in trainer.node.keywords if each.arg}
    if trainer.node.args:
        given.setdefault("model", trainer.node.args[0])
    model = _only(reader, given.get("model"), trainer.scope)
    if model is None or model.name != TRAINERS[trainer.name] or _is_unread(given):
        return False
    of_loss = _loss(reader, trainer, given)
    if of_loss is None or not _model(reader, settings, model):
        return False
    for name, known in of_loss.items():
        settings.put(name, known)
    return True


def _is_of_library(reader: ScriptReader, call: CallFound) -> bool:
    imported = reader.libraries.get(call.scope.path, {})
    root = unparse(call.node.func).partition(".")[0]
    return imported.get(root, "").partition(".")[0] == LIBRARY


def _loads_another(call: CallFound) -> bool:
    """Tell whether a call may load a model beside the one that trains, whatever library it is of."""
    if call.name in ("from_pretrained", "pipeline"):
        return _NO_MODEL.search(unparse(call.node.func)) is None
    named = any(each.arg in ("model_path", "model_name_or_path") for each in call.node.keywords)
    return call.name in MODELS or (named and call.name != "Transformer")


_NO_MODEL = lazy_pattern(r"Tokenizer|Config|Processor|FeatureExtractor")


def _others(reader: ScriptReader, trainer: CallFound) -> list[CallFound]:
    """Return the calls before the training but for the model's own; what is loaded behind `.train()` finds it done."""
    ends = [c.node.lineno for c in reader.calls if c.name == "train" and c.scope is trainer.scope]
    given = keyword_of(trainer.node, "model")
    own = (
        {id(call.node) for call in followed(reader, given, trainer.scope) if call}
        if given
        else set()
    )
    return [
        call
        for call in reader.everywhere
        if id(call.node) not in own
        and not (call.scope is trainer.scope and ends and call.node.lineno > max(ends))
    ]


def _only(reader: ScriptReader, node: ast.expr | None, scope: Scope) -> CallFound | None:
    """Return the one call that makes a value; None where there are several, or it is not read."""
    made = list(followed(reader, node, scope)) if node is not None else []
    return made[0] if len(made) == 1 else None


def _is_unread(given: dict[str, ast.expr]) -> bool:
    evaluator = given.get("evaluator")
    text = "" if evaluator is None else unparse(evaluator)
    return any(name in given for name in NOT_READ) or any(word in text for word in HOLDS_SCORES)


def _loss(
    reader: ScriptReader, trainer: CallFound, given: dict[str, ast.expr]
) -> dict[str, Known] | None:
    """Return the objective, the texts of a row and the rows of a cached loss; None where the loss is not one that is known."""
    place = reader.place(trainer)
    name, values = DEFAULT_LOSSES[trainer.name], dict[str, Known]()
    if "loss" in given:
        loss = _only(reader, given["loss"], trainer.scope)
        if loss is not None and loss.name == "MatryoshkaLoss":  # the same embeddings, cut shorter
            inner = keyword_of(loss.node, "loss")
            inner = loss.node.args[1] if inner is None and len(loss.node.args) > 1 else inner
            loss = _only(reader, inner, loss.scope)
        if loss is None or not _is_of_library(reader, loss):
            return None
        values, is_open = reader.keywords(loss)
        if is_open or any(word in values for word in NOT_READ):
            return None
        name, place = loss.name, reader.place(loss)
    if trainer.name == "CrossEncoderTrainer":
        found = {"sentence_objective": Known("sequence_classification", place)}
        return found if name in OF_ONE_ROW else None
    if name not in TEXTS:
        return None
    texts = TEXTS[name] or num_texts(reader, given.get("train_dataset"), trainer.scope)
    found = {
        "sentence_objective": Known("embedding", place),
        "texts_per_row": Known(UNKNOWN if texts is None else texts, place),
    }
    if name.startswith("Cached"):
        found["cached_rows"] = values.get("mini_batch_size", Known(CACHED_ROWS, place))
    return found


def _model(reader: ScriptReader, settings: ScriptSettings, model: CallFound) -> bool:
    """Record name, dtype, attention and length of the model that a SentenceTransformer or a CrossEncoder is made of."""
    values, is_open = reader.keywords(model)
    if is_open:
        return False
    loaded = model
    if "modules" in values:
        parts = _modules(reader, model)
        if parts is None:
            return False
        loaded = parts
        values, is_open = reader.keywords(loaded)
    place = reader.place(loaded)
    named = [values[key] for key in ("model_name_or_path", "model_name") if key in values]
    if loaded.node.args:
        named.append(reader.evaluator.evaluate(loaded.node.args[0], loaded.scope))
    inner = values.get("model_kwargs") or values.get("model_args") or Known({}, place)
    if not isinstance(inner.value, dict):
        return False
    settings.seen["model"] = place
    if named and isinstance(named[0].value, str):
        settings.put("model_name_or_path", named[0])
    for keyword, name in LOADED_WITH.items():
        value = inner.value.get(keyword)
        if value is not None:
            settings.put(name, value if isinstance(value, Known) else Known(value, inner.place))
    if not {"dtype", "torch_dtype"} & set(inner.value):
        settings.seen["no_dtype"] = place
    if not OF_ATTENTION & set(inner.value):
        settings.seen["no_attention"] = place
    length = values.get("max_seq_length") or values.get("max_length")
    if length is not None and length.value is not None:
        settings.put("seq_len", length)
    for target, value, scope in attributes_set(reader.statements):
        if target.attr in ("max_seq_length", "max_length"):
            settings.put("seq_len", reader.evaluated_before(target.attr, value, scope))
    return True


def _modules(reader: ScriptReader, model: CallFound) -> CallFound | None:
    """Return the one Transformer of a model that is put together of it and a pooling; None where there is more."""
    node = keyword_of(model.node, "modules")
    if not isinstance(node, (ast.List, ast.Tuple)):
        return None
    parts = [_only(reader, each, model.scope) for each in node.elts]
    names = [part.name for part in parts if part is not None]
    if len(names) != len(parts) or set(names) - {"Transformer", "Pooling", "Normalize"}:
        return None
    return next((part for part in parts if part and part.name == "Transformer"), None)


LABELS = frozenset({"label", "labels", "score", "scores", "dataset_name"})
"""Columns that are no texts (sentence_transformers/data_collator.py valid_label_columns, 3.0 to 6.2)."""
KEEPS_COLUMNS = ("select", "shuffle", "shard", "take", "skip", "train_test_split")
"""Methods of a dataset that give back rows of it with all their columns."""
SUBSETS = {"pair": 2, "pair-class": 2, "pair-score": 2, "triplet": 3}
"""Subset of the datasets of sentence-transformers on the hub -> texts of a row, which it is named after."""
MOST_CALLS = 12


def num_texts(reader: ScriptReader, node: ast.expr | None, scope: Scope) -> int | None:
    """Return the texts of a row of the dataset that an expression makes; None where its columns are not said."""
    for _ in range(MOST_CALLS):
        made = list(followed(reader, node, scope)) if node is not None else []
        if len(made) != 1 or made[0] is None:
            return None
        call, scope = made[0].node, made[0].scope
        if made[0].name == "select_columns" and call.args:
            return _texts(reader.evaluator.value(call.args[0], scope))
        if made[0].name == "from_dict" and call.args and isinstance(call.args[0], ast.Dict):
            keys = [reader.evaluator.value(key, scope) for key in call.args[0].keys if key]
            return _texts(keys) if len(keys) == len(call.args[0].keys) else None
        if made[0].name == "load_dataset":
            said = [reader.evaluator.value(each, scope) for each in call.args[:2]]
            is_own = bool(said) and str(said[0]).startswith("sentence-transformers/")
            return SUBSETS.get(str(said[1])) if is_own and len(said) == 2 else None
        if last_name(call.func) not in KEEPS_COLUMNS or not isinstance(call.func, ast.Attribute):
            return None
        node = call.func.value
    return None


def _texts(columns: object) -> int | None:
    if not isinstance(columns, (list, tuple)) or not all(isinstance(c, str) for c in columns):
        return None
    return sum(column not in LABELS for column in columns) or None
