"""What an evaluation of Trainer keeps of the model's outputs: every batch's logits until it ends, answers, or the loss alone.

`evaluate()` keeps them where the trainer has `compute_metrics`, `predict()` in any case, and neither where `prediction_loss_only` is on;
Seq2SeqTrainer generates where they are kept, and where they are not asks for the loss alone (transformers/trainer.py evaluate and
predict, trainer_seq2seq.py prediction_step, 4.4 to 5.24).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import last_name, methods_of, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.running_calls import attributes_set
from preflight.scripts.python.scope import Known, Scope
from preflight.scripts.settings.given_keywords import given_by
from preflight.scripts.settings.made_and_given import is_given
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place
from preflight.unpriced_names import GATHERED_LOGITS

METRICS, REDUCES = "compute_metrics", "preprocess_logits_for_metrics"
ANSWERS, LOSS_ALONE = "predict_with_generate", "prediction_loss_only"
_EVALUATES = frozenset({"__init__", "evaluate", "predict", "prediction_step", "evaluation_loop", "prediction_loop"})  # fmt: skip
"""Methods of a Trainer by which one of a script's own may keep more, or generate, of its own accord."""
_LEAVES = frozenset({"float", "softmax", "log_softmax", "detach", "contiguous", "isinstance", "to", "clone"})  # fmt: skip
"""Functions and methods that give back as many numbers as they get, on the device where those are."""
_OF_TRAINER = lazy_pattern(r"(?i)trainer$")


def read_gathered_outputs(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Name the logits that an evaluation gathers, and note that one generates nothing where it surely gathers nothing."""
    trainers = reader.possible_trainers
    metrics = list(_metrics(reader))
    predicts = [reader.place(each) for each in reader.possible("predict") if _is_trainers(each)]
    is_loss_alone = settings.arguments.get(LOSS_ALONE)
    if is_loss_alone is not None and is_loss_alone.value is True:
        return
    if (metrics or predicts) and not _reduces(reader):
        settings.uncounted[GATHERED_LOGITS] = Uncounted([*metrics, *predicts][0], "more")
    is_read = bool(trainers) and all(_is_read(reader, each) for each in trainers)
    if not (metrics or predicts) and is_read:
        settings.put(ANSWERS, Known(False, reader.place(trainers[0])))


def _metrics(reader: ScriptReader) -> Iterator[Place]:
    """Yield where a trainer may be given what makes metrics of logits."""
    for trainer in reader.possible_trainers:
        for node, scope in given_by(reader, trainer, METRICS):
            if is_given(reader, node, scope) is not False:
                yield Place("script", scope.path, METRICS, node.lineno)
    for target, value, scope in attributes_set(reader.possible_statements):
        if target.attr == METRICS and is_given(reader, value, scope) is not False:
            yield Place("script", scope.path, METRICS, target.lineno)


def _is_trainers(found: CallFound) -> bool:
    func = found.node.func
    return isinstance(func, ast.Attribute) and _OF_TRAINER.search(unparse(func.value)) is not None


def _is_read(reader: ScriptReader, trainer: CallFound) -> bool:
    """Tell whether all that a trainer is given is seen, and it evaluates as the library's does."""
    is_own = any(_EVALUATES & {*methods_of(cls)} for cls in reader.line_of(trainer))
    return not is_own and all(each.arg is not None for each in trainer.node.keywords)


def _reduces(reader: ScriptReader) -> bool:
    """Tell whether what a trainer is given to make less of a batch's logits may do so."""
    given = [each for call in reader.possible_trainers for each in given_by(reader, call, REDUCES)]
    given = [(node, scope) for node, scope in given if is_given(reader, node, scope) is not False]
    return bool(given) and not all(_leaves(reader, node, scope) for node, scope in given)


def _leaves(reader: ScriptReader, node: ast.expr, scope: Scope) -> bool:
    """Tell whether a function gives back as many logits as it is given: `return logits`, `return logits.softmax(-1)`."""
    held = [node] if isinstance(node, ast.Lambda) else [f for f, _ in reader.functions.get(last_name(node), ())]  # fmt: skip
    for function in held:
        nodes = walk(function)
        calls = {last_name(each.func) for each in nodes if isinstance(each, ast.Call)}
        cuts = [each for each in nodes if isinstance(each, ast.Subscript)]
        is_part = any(not isinstance(each.slice, ast.Constant) for each in cuts)
        if calls - _LEAVES or is_part:
            return False
    return bool(held)
