"""The head that an objective puts on a model: a score in place of words, a value model beside it, one of an encoder's,
and what of an encoder's training no formula counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from preflight.errors import Problem
from preflight.formulas.objective import has_value_head, is_scored, num_sequences
from preflight.launch import LaunchPlan
from preflight.model import (
    BIAS,
    CAUSAL_LM,
    LINEAR,
    MASKED_LM,
    ModelSpec,
    ModelUnit,
    ParameterTensor,
)
from preflight.remembered import remembered
from preflight.values import replace


@remembered
def with_head(plan: LaunchPlan, model: ModelSpec) -> ModelSpec:
    """Return the model as its objective trains it: a score in the place of the language model's head.

    transformers/modeling_layers.py GenericForSequenceClassification and GenericForTokenClassification (5.24.0);
    an adapter trains the score whole (peft/peft_model.py PeftModelForSequenceClassification, 0.21.2).
    """
    if trains_value_model(plan) and model.layers and not model.is_counted_alone:
        return _with_value_model(model)
    if has_value_head(plan) and model.layers and not model.is_counted_alone:
        return _with_value_head(model)
    if model.is_encoder:
        return _with_head_of_encoder(plan, model)
    if plan.objective == "embedding" and model.layers and not model.is_counted_alone:
        return _without_head(model)
    if plan.trainer == "litgpt" and model.tied and model.layers and not model.is_counted_alone:
        return _with_head_of_its_own(model)
    if not is_scored(plan) or model.is_counted_alone or not model.layers:
        return model
    if any(unit.name == SCORE for unit in model.units) and model.is_decoder_lm:
        return model
    labels = (
        1
        if plan.objective in ("reward", "scored_pairs", "scored_in_turn")
        else num_labels(model.config)
    )
    weight = ParameterTensor("weight", (labels, model.hidden_size), LINEAR)
    units = tuple(unit for unit in model.units if unit.role != "lm_head" and unit.name != SCORE)
    return _with_units(model, (*units, ModelUnit(SCORE, "lm_head", (weight,))))


def head_of_encoder(plan: LaunchPlan, model: ModelSpec) -> str | None:
    """Return the head that an objective trains on an encoder: masked_lm, sequence_classification, token_classification,
    embedding, or causal_lm of one that writes text. None for a decoder, and for an objective that says none."""
    if not model.is_encoder:
        return None
    if plan.objective in ("sft", "pretrain"):
        return CAUSAL_LM if CAUSAL_LM in model.facts["heads"] else None
    if model.config.get("is_decoder"):
        return None
    if plan.objective in ("token_classification", "prm"):
        return "token_classification"
    if is_scored(plan):
        return "sequence_classification"
    return plan.objective if plan.objective in model.facts["heads"] else None


def scores(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether the head that trains makes no logits of a vocabulary."""
    of_encoder = head_of_encoder(plan, model)
    if of_encoder is not None:
        return of_encoder not in (MASKED_LM, CAUSAL_LM)
    return is_scored(plan) or has_value_head(plan) or plan.objective == "embedding"


def _with_head_of_encoder(plan: LaunchPlan, model: ModelSpec) -> ModelSpec:
    """Return an encoder with its objective's head in the place of the one that its config names."""
    heads: Mapping[str, tuple[ModelUnit, ...]] = model.facts["heads"]
    head = head_of_encoder(plan, model)
    if head is None:
        return model
    behind = {unit.name for units in heads.values() for unit in units}
    rest = tuple(unit for unit in model.units if unit.name not in behind)
    units = (*rest, *heads[head])
    is_tied = model.tied and head in (MASKED_LM, CAUSAL_LM)
    return replace(model, units=units, tied=is_tied, num_params_override=None)


def trains_value_model(plan: LaunchPlan) -> bool:
    """Tell whether a value model of the policy's shapes is trained beside it, in one module with it."""
    return plan.objective == "ppo" and plan.trainer == "trl"


def _with_value_model(model: ModelSpec) -> ModelSpec:
    """Return policy and value model as the one module that TRL trains: everything twice but the head, and a score."""
    if any(unit.name == SCORE for unit in model.units):
        return model
    twice = (u if u.role == "lm_head" else replace(u, count=2 * u.count) for u in model.units)
    weight = ParameterTensor("weight", (1, model.hidden_size), LINEAR)
    units = (*twice, ModelUnit(SCORE, "other", (weight,)))
    return replace(model, units=units, num_params_override=None)


def _with_head_of_its_own(model: ModelSpec) -> ModelSpec:
    """Return a model whose head is a copy of its embedding: litgpt's GPT ties none (model.py lm_head, 0.4.0 to 0.5.13)."""
    weight = ParameterTensor("weight", (model.vocab_size, model.hidden_size), LINEAR)
    return _with_units(model, (*model.units, ModelUnit("lm_head", "lm_head", (weight,))))


def _without_head(model: ModelSpec) -> ModelSpec:
    """Return what AutoModel makes of a decoder: hidden states alone, which are pooled."""
    return _with_units(model, tuple(unit for unit in model.units if unit.role != "lm_head"))


def _with_units(model: ModelSpec, units: tuple[ModelUnit, ...]) -> ModelSpec:
    facts = {name: fact for name, fact in model.facts.items() if name != "headless"}
    return replace(
        model,
        units=units,
        tied=False,
        is_decoder_lm=model.is_decoder_lm or "headless" in model.facts,
        num_params_override=None,
        facts=facts,
    )


def _with_value_head(model: ModelSpec) -> ModelSpec:
    """Return a language model with a value beside its head, which makes logits that no loss reads, and so no gradient.

    trl/models/modeling_value_head.py AutoModelForCausalLMWithValueHead (0.8.6 to 0.24.0).
    """
    if any(unit.name == SCORE for unit in model.units):
        return model
    units = tuple(
        replace(unit, tensors=tuple(replace(t, gets_gradient=False) for t in unit.tensors))
        if unit.role == "lm_head"
        else unit
        for unit in model.units
    )
    head = (
        ParameterTensor("weight", (1, model.hidden_size), LINEAR),
        ParameterTensor("bias", (1,), BIAS),
    )
    return replace(model, units=(*units, ModelUnit(SCORE, "other", head)), num_params_override=None)


SCORE = "score"


def num_labels(config: Mapping[str, Any]) -> int:
    """Return the labels of a config, two where it names none (transformers/configuration_utils.py, 5.24.0)."""
    named = config.get("id2label")
    given = config.get("num_labels")
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    return len(named) if isinstance(named, Mapping) and named else 2


TRACED_LABELS = 2
"""What a config class has by default, and an encoder was traced with (transformers/configuration_utils.py, 5.24.0)."""


def bytes_of_more_labels(plan: LaunchPlan, model: ModelSpec, tokens: int) -> int:
    """Return what an encoder's scores take beyond two labels, as logits would: kept, in fp32 as well, with gradients."""
    head = head_of_encoder(plan, model)
    rows = tokens if head == "token_classification" else num_sequences(plan)
    more = max(0, num_labels(model.config) - TRACED_LABELS)
    return 0 if head == "embedding" else 16 * rows * more


HEAD = "the head of an encoder"
TEXTS = "how many texts a row has"


def left_out_of_encoder(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    """Yield that nothing says what is trained on an encoder, or that what is trained was traced on encoders alone."""
    of_encoders = plan.objective == "masked_lm"
    if plan.is_read and plan.objective == "embedding" and plan.texts_per_row is None:
        yield Problem(
            "every column of the data is a forward of its own, and nothing says how many there are",
            fix="--set texts_per_row=2 for pairs, 3 for triplets",
            id="PF129",
            severity="warning",
            unpriced=TEXTS,
            takes="more",
        )
    is_unsaid = model.is_encoder and head_of_encoder(plan, model) is None
    if is_unsaid or (of_encoders and not model.is_encoder):
        yield Problem(
            f"{model.name} is an encoder, and nothing says what is trained on it"
            if model.is_encoder
            else f"{model.name} is no encoder whose layers are known, and {plan.objective} was traced with these",
            fix="--set objective=masked_lm, sequence_classification or token_classification, where that is so",
            id="PF129",
            severity="warning",
            unpriced=HEAD,
            takes="either",
        )
