"""What changed in which release of sentence-transformers."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

_NAME = "sentence_transformers"

MERGES_COLUMNS = Boundary(
    _NAME,
    "6.0",
    "losses run every column but the first in one forward; before, each has a forward of its own",
    "losses/multiple_negatives_ranking.py: embed_columns in 6.0.1, model(sentence_feature) in 5.7.0; counted in 6.2.0",
    "6.2.0",
)
