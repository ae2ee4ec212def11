"""What FlagEmbedding's own modules train: texts that are compared, and pairs that are ranked, as their arguments say.

Source: FlagEmbedding 1.2.11 baai_general_embedding/finetune and reranker, 1.3.5 to 1.4.2 finetune and abc/finetune.
"""

from __future__ import annotations

from preflight.errors import Problem
from preflight.formulas.texts import (
    FLAG_EMBEDDERS,
    FLAG_RERANKERS,
    QUERY_MAX_LEN,
    is_flag_embedding,
)
from preflight.setting import Place, Setting
from preflight.trainers.fields import FieldReader

GROUP, PASSAGE, PAIR = 8, 128, 512
"""Defaults of train_group_size, passage_max_len and 1.2's max_len (arguments.py, 1.2.11 to 1.4.2)."""


def read_flag_embedding(fields: FieldReader) -> bool:
    """Put the objective, the texts of a row and their length; tell whether one of FlagEmbedding's modules trains."""
    module = fields.given.kind.module
    if not is_flag_embedding(module):
        return False
    is_reranker = module in FLAG_RERANKERS
    at = Setting(module, Place("argv", "", module))
    if not is_reranker and module not in FLAG_EMBEDDERS:
        _leave_out(fields, f"{module} is not estimated", module, "either", at)
        return True
    fields.put("objective", "sequence_classification" if is_reranker else "embedding", at)
    group = _count(fields, "train_group_size")
    passages = GROUP if group is None else int(group.value)
    fields.put("texts_per_row", passages + (not is_reranker), group or at)
    fields.assume("sequence_kind", "padded", "texts are padded to the longest", "transformers")
    fields.assume("adapter", None, "encoders are trained whole", "transformers")
    _put_length(fields, is_reranker, at)
    pieces = _count(fields, "sub_batch_size")
    if pieces is not None:
        message = "texts that run in pieces of sub_batch_size are estimated at once"
        _leave_out(fields, message, "texts in pieces", "less", pieces)
    return True


def _put_length(fields: FieldReader, is_reranker: bool, at: Setting) -> None:
    """Put the length of the longest text: a pair has both, or what 1.2 cuts it at."""
    query, passage = _count(fields, "query_max_len"), _count(fields, "passage_max_len")
    said = [setting for setting in (passage, query) if setting is not None]
    counts = [
        default if setting is None else int(setting.value)
        for setting, default in ((passage, PASSAGE), (query, QUERY_MAX_LEN))
    ]
    length = sum(counts) if is_reranker else max(counts)
    if is_reranker and fields.given.kind.module == FLAG_RERANKERS[1]:
        pair = _count(fields, "max_len")
        length, said = (PAIR, []) if pair is None else (int(pair.value), [pair])
    fields.put("seq_len", length, *(said or [at]))


def _count(fields: FieldReader, name: str) -> Setting | None:
    """Return a count that was given, None where nobody did or it is none."""
    setting = fields.get(name)
    is_count = setting is not None and isinstance(setting.value, int) and setting.value > 0
    return setting if is_count else None


def _leave_out(fields: FieldReader, message: str, name: str, takes: str, at: Setting) -> None:
    fields.problems.append(
        Problem(message, at.place.where, "", "PF143", "warning", unpriced=name, takes=takes)
    )
