"""Keys and values of answers that an evaluation generates: in fp32 where the model gives them back as a tuple under autocast."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_stacks import case_of, plan_of

from preflight.formulas.objectives.generated_answers import generated_bytes
from preflight.model import ModelSpec
from preflight.models import describe

ROWS = 8
T5, WHISPER = "flan-t5, eight beams, autocast", "whisper, autocast"


def held(name: str, release: str, precision: str = "bf16") -> int:
    case = case_of(name)
    plan = plan_of(case)
    plan = replace(
        plan, eval_micro_batch_size=ROWS, mixed_precision=precision, versions={"transformers": release}
    )  # fmt: skip
    return generated_bytes(plan, spec(name), ROWS)


def spec(name: str) -> ModelSpec:
    return describe(case_of(name)["config"], "tiny", "test")


@pytest.mark.parametrize(
    ("name", "tuples", "objects"), [(T5, "4.45.2", "4.46.3"), (WHISPER, "4.42.4", "4.43.4")]
)
def test_a_cache_of_tuples_takes_twice_as_much_under_autocast(name, tuples, objects):
    """The cache, and the one layer of it that beams move; without autocast it is what the weights are."""
    case = case_of(name)
    decoders = [u for u in spec(name).layers if u.layer is not None and ".decoder." in f".{u.name}"]
    num_layers, width = sum(u.count for u in decoders), 2 * decoders[0].layer.kv_size
    entries = num_layers * width * ROWS * (case["length"] + case["answer"] + 1)
    more = held(name, tuples) - held(name, objects)

    assert more == pytest.approx(2 * entries * (1 + 1 / (2 * num_layers)), rel=1e-3)
    assert held(name, tuples, "no") == held(name, objects, "no")


def test_accelerate_makes_tuples_fp32_and_leaves_an_object():
    import torch
    from accelerate.utils.operations import convert_to_fp32
    from transformers import DynamicCache, EncoderDecoderCache
    from transformers.modeling_outputs import Seq2SeqLMOutput

    key = torch.zeros(1, 2, 3, 4, dtype=torch.bfloat16)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    cache.self_attention_cache.update(key, key, 0)
    as_tuple = convert_to_fp32(Seq2SeqLMOutput(logits=key, past_key_values=((key, key),)))
    as_object = convert_to_fp32(Seq2SeqLMOutput(logits=key, past_key_values=cache))

    assert as_tuple.past_key_values[0][0].dtype is torch.float32
    assert as_object.logits.dtype is torch.float32
    assert as_object.past_key_values.self_attention_cache.layers[0].keys.dtype is torch.bfloat16
