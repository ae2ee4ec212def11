"""Encoders with a decoder: the two lengths of their rows, and what of their training was never traced."""

from __future__ import annotations

from preflight.formulas.objective import LANGUAGE_MODEL
from preflight.formulas.trainer_arguments import argument
from preflight.launch import LaunchPlan, Origin
from preflight.model import ModelSpec
from preflight.plan_parts import open_up_to

SOURCES = ("max_source_length", "source_max_len", "max_source_len", "max_input_length")
"""Arguments of scripts that cut what an encoder reads (run_summarization.py, run_translation.py of transformers)."""
OF_TOKENIZER = "model_max_length"


def with_both_lengths(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return the plan with the lengths of both stacks of its model; any other plan as it is."""
    if not model.has_both_stacks:
        return plan
    if model.facts.get("hears"):
        return _with_window(plan, model)
    if plan.seq_len is None:
        for name in SOURCES:
            given = argument(plan, name)
            if str(given.value).isdecimal() and int(given.value) > 0:
                plan = plan.with_edits({"seq_len": int(given.value)})
                plan = plan.with_origin("seq_len", Origin(given.where))
                break
    origin = plan.origins.get("seq_len")
    is_of_tokenizer = origin is not None and OF_TOKENIZER in origin.where.replace("-", "_")
    if plan.target_len is None and plan.seq_len is not None and is_of_tokenizer:
        reason = "nobody said how long answers are, and a tokenizer cuts them where it cuts what they answer"
        plan = plan.with_origin("target_len", open_up_to(plan.seq_len, reason))
    return plan


def positions_of(model: ModelSpec) -> dict[str, int]:
    """Return the positions of both stacks, by `encoder` and `decoder`, of a model that has tables of them."""
    return {
        unit.name.split(".")[1]: unit.tensors[0].shape[0]
        for unit in model.units
        if unit.name.endswith("embed_positions")
    }


def _with_window(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return the plan with the frames of a window of sound, which is padded to as many as the encoder has positions."""
    positions = positions_of(model)
    plan = plan.with_edits({"seq_len": positions["encoder"]})
    plan = plan.with_origin("seq_len", Origin(f"{model.name}: positions of its encoder"))
    if plan.target_len is None:
        reason = "nobody said how long answers are, and the decoder has no more positions"
        plan = plan.with_origin("target_len", open_up_to(positions["decoder"], reason))
    return plan


def untraced_of_stacks(plan: LaunchPlan, model: ModelSpec) -> str:
    """Return what of a plan no encoder with a decoder was traced with; empty where it was."""
    if plan.adapter is not None and model.facts.get("traced_whole"):
        return f"an adapter on {model.model_type} with both of its stacks"
    if plan.sequence_kind == "packed":
        return "packed rows of an encoder with a decoder"
    if plan.base_quantization is not None:
        return "a quantized encoder with a decoder, of which some matrices stay fp32"
    if plan.load_dtype == "fp16":
        return "an encoder with a decoder in fp16, of which some matrices stay fp32"
    if (plan.attention or "").startswith("flash"):
        return "flash attention with distances, which it does not take"
    if plan.loss not in (None, "full_logits"):
        return f"loss {plan.loss} of an encoder with a decoder"
    if plan.objective not in LANGUAGE_MODEL:
        return f"{plan.objective} with an encoder that has a decoder"
    return ""
