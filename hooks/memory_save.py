"""Device memory for gathering and writing a checkpoint, and for evaluation."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.precision import precision_of

SAVE = frozenset({Moment.SAVE})
EVALUATION = frozenset({Moment.EVALUATION})


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the gathered parameter of a full checkpoint, and the logits of an evaluation batch."""
    precision = precision_of(plan, model)
    gathers = plan.is_fsdp and plan.state_dict_type != "sharded"
    gathers = gathers or (
        plan.engine == "zero3"
        and plan.deepspeed is not None
        and plan.deepspeed.stage3_gather_16bit_weights_on_model_save
    )
    if gathers:
        size = precision.bytes_of("trainable")
        largest = model.largest_tensor_params
        yield MemoryTerm(
            "one parameter gathered for the checkpoint",
            size * largest,
            SAVE,
            f"{largest:,} x {size}",
            "torch/distributed/checkpoint/state_dict.py; deepspeed/runtime/engine.py:5631",
        )
    if plan.eval_micro_batch_size is not None and plan.seq_len is not None and model.is_decoder_lm:
        tokens = plan.eval_micro_batch_size * plan.seq_len
        size = precision.bytes_of("logits")
        entries = tokens * model.vocab_size
        whole = plan.loss in (None, "full_logits")
        if whole:
            yield MemoryTerm(
                "logits of an evaluation batch",
                (size + 8) * entries,
                EVALUATION,
                f"{tokens:,} x {model.vocab_size:,} x {size + 8}",
                "transformers/loss/loss_utils.py ForCausalLMLoss, nothing saved for backward",
            )
