"""What FlagEmbedding's and Tevatron's own modules train: texts that are compared, and pairs that are ranked.

Source: FlagEmbedding 1.2.11 baai_general_embedding/finetune and reranker, 1.3.5 to 1.4.2 finetune and abc/finetune;
Tevatron 2 retriever/driver/train.py, arguments.py and modeling/encoder.py, reranker/driver/train.py and modeling.py.
"""

from __future__ import annotations

from preflight.formulas.texts import (
    EMBEDDERS,
    FLAG_DECODER,
    OLDER_RERANKER,
    QUERY_MAX_LEN,
    RERANKERS,
    TEVATRON,
    TEVATRON_RERANKER,
    is_retriever,
)
from preflight.launch import Adapter
from preflight.reading import Reading
from preflight.setting import Place, Setting
from preflight.trainers.fields import FieldReader, PlanFields
from preflight.trainers.lookup import Given
from preflight.units import ceil_div
from preflight.values import NamedTuple

GROUP, PASSAGE, PAIR = 8, 128, 512
"""Defaults of train_group_size, passage_max_len, 1.2's max_len and Tevatron's rerank_max_len (arguments.py, 1.2.11 to 1.4.2)."""
TO_MULTIPLE = 16
"""What Tevatron pads rows to whole multiples of, its pad_to_multiple_of; FlagEmbedding does where it is told."""
OF_PAIR = {OLDER_RERANKER: "max_len", TEVATRON_RERANKER: "rerank_max_len"}
"""Module -> the argument at which it cuts a query with its passage; others cut both."""


class Lora(NamedTuple):
    """How a module adapts a decoder."""

    is_on: bool
    """Unless somebody says otherwise."""
    rank: int
    """Where nobody says one."""


LORA = {
    FLAG_DECODER: Lora(True, 64),
    TEVATRON: Lora(False, 16),
    TEVATRON_RERANKER: Lora(False, 8),
}
"""Module -> its adapter; every other trains the model whole (arguments.py of both)."""
LINEAR: tuple[str, ...] = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "down_proj",
    "up_proj",
    "gate_proj",
)
"""What an adapter is on where nobody says it."""


def read_retriever(fields: FieldReader) -> bool:
    """Put the objective, the texts of a row and their length; tell whether one of FlagEmbedding's modules trains."""
    module = fields.given.kind.module
    if not is_retriever(module):
        return False
    is_reranker = module in RERANKERS
    at = Setting(module, Place("argv", "", module))
    if not is_reranker and module not in EMBEDDERS:
        fields.leave_out(f"{module} is not estimated", module, "either", at)
        return True
    fields.put("objective", "sequence_classification" if is_reranker else "embedding", at)
    group = _count(fields, "train_group_size")
    passages = GROUP if group is None else int(group.value)
    fields.put("texts_per_row", passages + (not is_reranker), group or at)
    fields.assume("sequence_kind", "padded", "texts are padded to the longest", "transformers")
    _put_length(fields, is_reranker, at)
    cached = fields.get("grad_cache")
    if cached is not None and cached.value is True:
        message = "texts whose gradients are cached are estimated at once"
        fields.leave_out(message, "cached gradients", "less", cached)
    tokens = fields.get("additional_special_tokens")
    if tokens is not None and module == FLAG_DECODER:
        fields.leave_out("rows of new tokens are not counted", "new tokens", "more", tokens)
    pieces = _count(fields, "sub_batch_size")
    if pieces is not None:
        message = "texts that run in pieces of sub_batch_size are estimated at once"
        fields.leave_out(message, "texts in pieces", "less", pieces)
    return True


def read_retriever_model(given: Given) -> Reading[PlanFields]:
    """Return adapter, dtype and attention of the model that such a module loads."""
    fields = FieldReader(given)
    module = given.kind.module
    if not is_retriever(module):
        return fields.reading()
    _adapter(fields, LORA.get(module))
    if module not in (TEVATRON, TEVATRON_RERANKER):
        return fields.reading()
    on = [
        (name, flag)
        for name in ("bf16", "fp16")
        if (flag := fields.get(name)) is not None and flag.value is True
    ]
    if on:
        fields.put("load_dtype", *on[0])
    else:
        fields.assume("load_dtype", "fp32", "neither bf16 nor fp16", "transformers")
    if module == TEVATRON_RERANKER:
        fields.leave_open("load_dtype", ("fp32",), "earlier commits load it in fp32")
    elif fields.get("attn_implementation") is None:
        fields.assume("attention", "flash_attention_2", "no attn_implementation", "transformers")
    return fields.reading()


def _adapter(fields: FieldReader, words: Lora | None) -> None:
    switch = fields.get("use_peft")
    asked = False if words is None else words.is_on
    if switch is not None:
        asked = switch.value is True
    if words is None or not asked:
        fields.assume("adapter", None, "the model is trained whole", "transformers")
        return
    rank, targets = _count(fields, "lora_r"), fields.get("lora_target_modules")
    saved = fields.value("lora_modules_to_save")
    names = LINEAR
    if targets is not None and isinstance(targets.value, list):
        names = tuple(str(name) for name in targets.value)
    adapter = Adapter(
        rank=words.rank if rank is None else int(rank.value),
        dropout=float(fields.value("lora_dropout", 0.1)),
        targets=names,
        modules_to_save=tuple(saved) if isinstance(saved, list) else None,
    )
    said = [each for each in (switch, rank, targets) if each is not None]
    fields.decide("adapter", adapter, said, "LoRA unless use_lora says no", "transformers")


def _put_length(fields: FieldReader, is_reranker: bool, at: Setting) -> None:
    """Put the length of the longest text: a pair has both, or what 1.2 cuts it at."""
    query, passage = _count(fields, "query_max_len"), _count(fields, "passage_max_len")
    said = [setting for setting in (passage, query) if setting is not None]
    counts = [
        default if setting is None else int(setting.value)
        for setting, default in ((passage, PASSAGE), (query, QUERY_MAX_LEN))
    ]
    length = sum(counts) if is_reranker else max(counts)
    of_pair = OF_PAIR.get(fields.given.kind.module)
    if of_pair is not None:
        pair = _count(fields, of_pair)
        length, said = (PAIR, []) if pair is None else (int(pair.value), [pair])
    multiple = _count(fields, "pad_to_multiple_of")
    of_library = TO_MULTIPLE if fields.given.kind.module in (TEVATRON, TEVATRON_RERANKER) else 1
    whole = of_library if multiple is None else int(multiple.value)
    fields.put("seq_len", ceil_div(length, whole) * whole, *(said or [at]))


def _count(fields: FieldReader, name: str) -> Setting | None:
    """Return a count that was given, None where nobody did or it is none."""
    setting = fields.get(name)
    is_count = setting is not None and isinstance(setting.value, int) and setting.value > 0
    return setting if is_count else None
