"""Encoders with a decoder as transformers has them: which configs are some, and their layers in the order they run in."""

from __future__ import annotations

from typing import Any


def has_both_stacks(config: Any) -> bool:
    """Tell whether a config is of an encoder whose words a decoder answers: T5, BART; and not of its decoder alone."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

    is_known = config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES or hears(config)
    both = getattr(config, "is_encoder_decoder", False) and is_known
    return bool(both and not is_decoder_alone(config))


def hears(config: Any) -> bool:
    """Tell whether an encoder with a decoder takes windows of sound, as Whisper does."""
    return bool(config.model_type == "whisper")


def auto_class_of_stacks(config: Any) -> Any:
    """Return the Auto class that builds an encoder with its decoder."""
    import transformers

    if hears(config):
        return transformers.AutoModelForSpeechSeq2Seq
    return transformers.AutoModelForSeq2SeqLM


def is_decoder_alone(config: Any) -> bool:
    """Tell whether a config of an encoder with a decoder names the class that is the decoder alone: BartForCausalLM."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    named = getattr(config, "architectures", None) or ()
    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type) in named


def layers_of_stacks(model: Any) -> Any:
    """Return the layers of the encoder and then those of the decoder, in a list that is no part of the model."""
    import torch

    stacks = (model.get_encoder(), model.get_decoder())
    lists = [
        next(child for child in stack.children() if isinstance(child, torch.nn.ModuleList))
        for stack in stacks
    ]
    return torch.nn.ModuleList([layer for layers in lists for layer in layers])


def first_embedding(model: Any) -> Any:
    """Return the table of words that a model looks its first input up in: the encoder's where it has both stacks."""
    own = model.get_encoder() if has_both_stacks(model.config) else model
    return own.get_input_embeddings()


def untie(model: Any) -> None:
    """Give a model's head a weight of its own, as loading does where a checkpoint has one.

    transformers 5 ties every T5 that it makes from a config, whatever that says (models/t5/configuration_t5.py,
    5.24.0), and one from a checkpoint only where that has no head beside the words (modeling_utils.py tie_weights).
    """
    import torch

    head = model.get_output_embeddings()
    if head.weight is model.get_input_embeddings().weight:
        head.weight = torch.nn.Parameter(torch.empty_like(head.weight))
