"""How long rows may be where nobody says it: a model with a table of positions takes no more tokens than that has rows.

Most models make rotary or ALiBi positions for whatever comes, and refuse no row. The end of a table is an error in the
first forward. tests/formulas/test_row_limits.py asks the families of transformers themselves.
"""

from __future__ import annotations

from preflight.formulas.layers.both_stacks import positions_of
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.plan_parts import open_up_to

LEARNED = {"wpe": 0, "embed_positions": 2, "position_embeddings": 0}
"""Last part of a learned table's name -> rows of it that no token has (OPT's padding,
modeling_opt.py OPTLearnedPositionalEmbedding, transformers 5.24.0)."""
BEHIND_PADDING = (
    "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "roberta-prelayernorm",
    "mpnet",
)  # fmt: skip
"""Encoders that count positions from behind the row of their padding token, the second one
(modeling_roberta.py RobertaEmbeddings.create_position_ids_from_input_ids and its copies, transformers 5.24.0)."""
FIXED = {
    "gptj": ("max_position_embeddings", "n_positions"),
    "codegen": ("max_position_embeddings", "n_positions"),
    "mpt": ("max_seq_len",),
}
"""Type whose sines or ALiBi slopes are made once -> keys of its config that say for how many positions
(modeling_gptj.py GPTJAttention, modeling_mpt.py build_mpt_alibi_tensor, transformers 5.24.0; before 4.27 the causal
masks of GPT-J and CodeGen ended there)."""


def with_open_length(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return the plan with its length open up to what the model takes, where nobody said it and something refuses more.

    A rollout has two lengths, of which a table of positions bounds the sum alone: it stays unknown.
    """
    origin = plan.origins.get("seq_len")
    is_bounded = origin is not None and origin.is_range
    if plan.seq_len is not None or is_bounded or plan.generation is not None:
        return plan
    most = longest_row(plan, model)
    if most is None:
        return plan
    reason = f"nobody said how long rows are, and {model.name} has positions for {most:,} tokens"
    return plan.with_origin("seq_len", open_up_to(most, reason))


def longest_row(plan: LaunchPlan, model: ModelSpec) -> int | None:
    """Return the tokens of the longest row that a model takes, None where it refuses none that can come.

    Packed rows count the positions of each of their parts anew, as a script does that hands positions to its model;
    positions that skip padding (an offset) bound what is no padding, so there the trainer must be known to pad to the
    longest row.
    """
    if model.facts.get("hears"):
        return positions_of(model)["encoder"]
    if plan.sequence_kind == "packed" or "position_ids" in plan.script_text:
        return None
    for name in FIXED.get(model.model_type, ()):
        if isinstance(positions := model.config.get(name), int):
            return positions
    for unit in model.units:
        offset = LEARNED.get(unit.name.rpartition(".")[2]) if unit.role == "embedding" else None
        if offset is not None and model.model_type in BEHIND_PADDING:
            offset = 2
        if offset is not None and (not offset or plan.sequence_kind is not None):
            return unit.tensors[0].shape[0] - offset
    return None
