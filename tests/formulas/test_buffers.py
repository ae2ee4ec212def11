"""Tables that modules register: what is counted is what torch holds of a real model, at sizes that nothing was made from."""

import pytest

from preflight.derive.layouts.type_configs import small_type_config
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.models import describe
from preflight.plugins import load_plugins

NAME = "tables of all positions"


def counted(config, load_dtype):
    plan = LaunchPlan(
        model_config=config, micro_batch_size=1, seq_len=64, load_dtype=load_dtype, versions={}
    )
    model = describe(config, "own", "a test")
    terms = estimate_memory(plan, model, None, load_plugins("."), ()).terms
    return sum(term.num_bytes for term in terms if term.name == NAME)


@pytest.mark.parametrize("load_dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("model_type", ["gpt_neo", "xglm", "openai-gpt", "codegen", "gptj"])
def test_tables_are_those_that_a_real_model_registers(model_type, load_dtype):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    positions = {"gptj": "n_positions", "openai-gpt": "n_positions", "codegen": "n_positions"}
    more = {positions.get(model_type, "max_position_embeddings"): 1344}
    config = {**small_type_config(model_type, 5, 4), **more}
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[load_dtype]
    own = {name: value for name, value in config.items() if name != "model_type"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **own), dtype=dtype)
    held = sum(b.numel() * b.element_size() for b in model.buffers())

    assert held > 0
    assert abs(counted(config, load_dtype) - held) < 2048
