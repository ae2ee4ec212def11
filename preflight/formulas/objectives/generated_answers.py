"""What Seq2SeqTrainer holds while an evaluation generates answers: keys and values of both stacks for every beam.

transformers/trainer_seq2seq.py prediction_step, generation/utils.py _expand_inputs_for_generation and _beam_search (5.24.0):
what the encoder made is repeated for every beam, a layer's keys are copied where beams change their order, and scores of
the vocabulary are there four times in fp32. Weights are cast anew at every token under autocast, which wraps forward.
Keys and values that older releases give back as tuples are made fp32 with the logits (_caches_in_an_object).
"""

from __future__ import annotations

from preflight.bool_words import is_true
from preflight.formulas.precision import precision_of, uses_autocast
from preflight.formulas.trainer_arguments import argument
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.units import ceil_div
from preflight.versions.transformers import (
    BART_CACHES_IN_AN_OBJECT,
    T5_CACHES_IN_AN_OBJECT,
    WHISPER_CACHES_IN_AN_OBJECT,
)

BEAMS = ("generation_num_beams", "num_beams")
LENGTHS = ("generation_max_length", "val_max_target_length", "max_target_length")
"""Arguments of Seq2SeqTrainingArguments and of transformers' examples."""
IN_FP32 = 4
CACHES_IN_AN_OBJECT = {
    "t5": T5_CACHES_IN_AN_OBJECT,
    "switch_transformers": T5_CACHES_IN_AN_OBJECT,
    "whisper": WHISPER_CACHES_IN_AN_OBJECT,
}
"""Part of a model's type -> since when its keys and values are no tuple; BART's kin otherwise."""


def generates(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether an evaluation generates answers."""
    asked = is_true(argument(plan, "predict_with_generate").value)
    return model.has_both_stacks and plan.eval_micro_batch_size is not None and asked


def generated_bytes(plan: LaunchPlan, model: ModelSpec, rows: int) -> int:
    """Return what is alive, in bytes, when the last token of `rows` answers is generated, beside the model's states."""
    precision = precision_of(plan, model)
    beams = max(1, *_given(plan, BEAMS))
    length = max(plan.target_len or 1, *_given(plan, LENGTHS)) + 1
    source, every = plan.seq_len or 1, rows * beams
    decoders = [u for u in model.layers if u.layer is not None and ".decoder." in f".{u.name}"]
    num_decoders = sum(unit.count for unit in decoders)
    width = 2 * max(unit.layer.kv_size for unit in decoders if unit.layer is not None)
    size = precision.bytes_of("compute")
    if uses_autocast(plan) and not _caches_in_an_object(plan, model):
        size = IN_FP32
    cache = num_decoders * width * every * (source + length) * size
    moved = ceil_div(cache, 2 * num_decoders)
    encoded = 4 * (rows + every) * source * model.hidden_size
    scores = 4 * IN_FP32 * every * model.vocab_size
    cast = 0
    if uses_autocast(plan) and precision.trainable == "fp32":
        cast = 2 * sum(unit.count * unit.num_params for unit in decoders)
        cast += 2 * model.vocab_size * model.hidden_size
    return cache + moved + encoded + scores + cast


def _caches_in_an_object(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether keys and values stay in the dtype in which they were made."""
    found = (since for word, since in CACHES_IN_AN_OBJECT.items() if word in model.model_type)
    return next(found, BART_CACHES_IN_AN_OBJECT).holds_in(plan.versions)


def _given(plan: LaunchPlan, names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the counts that arguments give; 0 where none does."""
    values = (str(argument(plan, name).value) for name in names)
    return (0, *(int(value) for value in values if value.isdecimal()))
