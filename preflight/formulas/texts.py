"""Texts of a row that go through an embedding model in forwards of their own, and wait there for one backward.

losses of pairs and triplets    every column, or the first and all others (sentence-transformers 6)
FlagEmbedding and Tevatron       the queries, and then all passages
losses with cached gradients    a few rows of one column at a time, and each has its backward at once
"""

from __future__ import annotations

from preflight.bool_words import is_true
from preflight.launch import LaunchPlan
from preflight.values import NamedTuple
from preflight.versions.boundary import OLDEST

TEVATRON = "tevatron.retriever.driver.train"
FLAG_DECODER = "FlagEmbedding.finetune.embedder.decoder_only.base"
EMBEDDERS = (
    "FlagEmbedding.finetune.embedder.encoder_only.base",
    "FlagEmbedding.baai_general_embedding.finetune.run",
    FLAG_DECODER,
    TEVATRON,
)
"""Modules of libraries that train on queries and passages (FlagEmbedding 1.3.5 to 1.4.2, and 1.2.11; Tevatron 2)."""
OLDER_RERANKER = "FlagEmbedding.reranker.run"
TEVATRON_RERANKER = "tevatron.reranker.driver.train"
RERANKERS = (
    "FlagEmbedding.finetune.reranker.encoder_only.base",
    OLDER_RERANKER,
    TEVATRON_RERANKER,
)
"""Those that train a model with one score for a head on a query beside each of its passages."""
QUERY_MAX_LEN = 32
"""Their own default (arguments.py of FlagEmbedding 1.2.11 to 1.4.2 and of Tevatron 2)."""


def is_retriever(script: str | None) -> bool:
    """Tell whether a module is one that trains retrievers with transformers' Trainer and arguments of its own."""
    name = script or ""
    return name.startswith("FlagEmbedding.finetune.") or name in EMBEDDERS + RERANKERS


class Forwards(NamedTuple):
    """The forwards of one micro step, in rows of texts."""

    rows: int
    """Of the largest one, which is the last."""
    waiting: int = 0
    """Of all others, whose activations wait for its backward."""
    others: int = 0
    """How many the others are."""


def forwards_of(plan: LaunchPlan) -> Forwards:
    """Return the forwards that a micro batch of texts is cut into."""
    micro, texts = plan.micro_batch_size or 1, plan.texts_per_row or 1
    if plan.cached_rows is not None:
        return Forwards(min(micro, plan.cached_rows))
    if trains_passages(plan):
        # one autocast region, whose copies of weights both share, but for frozen ones, which it does not remember
        return Forwards((texts - 1) * micro, micro, 0 if plan.adapter is None else 1)
    from preflight.versions.sentence_transformers import MERGES_COLUMNS  # for few plans

    if texts > 2 and MERGES_COLUMNS.holds_in(plan.versions):
        # where nobody says the release, as many copies of weights as an older one has
        is_sure = MERGES_COLUMNS.holds_in(plan.versions, OLDEST)
        return Forwards((texts - 1) * micro, micro, 1 if is_sure else texts - 1)
    return Forwards(micro, (texts - 1) * micro, texts - 1)


def trains_passages(plan: LaunchPlan) -> bool:
    """Tell whether such a module trains: a row's query in a forward, its passages in the next."""
    return plan.trainer_facts.module in EMBEDDERS


def shares_negatives(plan: LaunchPlan) -> bool:
    """Tell whether every rank scores the queries of all ranks beside the passages of all: Tevatron's always do."""
    if plan.trainer_facts.module == TEVATRON:
        return True
    said = plan.trainer_facts.value("negatives_cross_device", "")
    return trains_passages(plan) and is_true(said)


def waiting_len(plan: LaunchPlan) -> int:
    """Return the longest text of the forwards that wait: a query's, or any text's; 0 where that is not known."""
    longest = plan.seq_len or 0
    said = str(plan.trainer_facts.value("query_max_len", QUERY_MAX_LEN))
    if not trains_passages(plan) or not said.isdecimal():
        return longest
    return min(longest, int(said))


def caches_gradients(plan: LaunchPlan) -> bool:
    """Tell whether a micro step has several backwards, each of which finds gradients of the one before."""
    return plan.cached_rows is not None and plan.objective == "embedding"
