"""What torch.compile keeps from forward to backward, from the partitioner itself: nothing is generated or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

NUM_TOKENS = 128


def kept_bytes(run: Callable[[], Any]) -> int:
    """Return the bytes that graphs compiled in `run` keep for backward, parameters and inputs aside.

    The graphs are partitioned as inductor does it, with its decompositions, and then run as they are.
    """
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table

    kept: dict[int, int] = {}

    def partition(graph: Any, inputs: Any, *, num_fwd_outputs: int, **rest: Any) -> Any:
        forward, backward = min_cut_rematerialization_partition(
            graph, inputs, num_fwd_outputs=num_fwd_outputs, **rest
        )
        output = next(node for node in forward.graph.nodes if node.op == "output")
        for node in output.args[0][num_fwd_outputs:]:
            value = node.meta.get("val")
            if node.op != "placeholder" and isinstance(value, torch.Tensor):
                # views keep the whole storage, and share it
                storage = value.untyped_storage()
                kept[storage._cdata] = storage.nbytes()
        return forward, backward

    def as_it_is(graph: Any, inputs: Any) -> Any:
        return graph.forward

    backend = aot_autograd(
        fw_compiler=as_it_is,
        bw_compiler=as_it_is,
        partition_fn=partition,
        decompositions=select_decomp_table,
    )
    torch._dynamo.reset()
    compiled = torch.compile(run, backend=backend, fullgraph=True)
    compiled()
    torch._dynamo.reset()
    return sum(kept.values())


def small_model(family: str, num_layers: int, adapter: bool, **config: Any) -> Any:
    """Return a causal language model in bf16 without dropout."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 512,
    }
    if family == "gpt2":
        sizes = {
            "n_embd": 256,
            "n_layer": num_layers,
            "n_head": 8,
            "vocab_size": 512,
            "n_inner": 704,
        }
    settings = AutoConfig.for_model(family, **{**sizes, **config})
    for name in list(vars(settings)):
        if name.endswith(("pdrop", "dropout")):
            setattr(settings, name, 0.0)
    settings._attn_implementation = "sdpa"
    model = AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    if adapter:
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(r=8, lora_dropout=0.0, target_modules="all-linear")
        model = get_peft_model(model, lora, autocast_adapter_dtype=False).base_model.model
    return model.train()


def kept_by_one_layer(family: str, adapter: bool, **config: Any) -> tuple[float, dict[str, Any]]:
    """Return bytes per token that one more layer keeps, and the config."""
    found = []
    for num_layers in (1, 2):
        model = small_model(family, num_layers, adapter, **config)
        hidden = torch.zeros(1, NUM_TOKENS, 256, dtype=torch.bfloat16, requires_grad=True)
        base = model.base_model
        found.append(kept_bytes(lambda b=base, x=hidden: b(inputs_embeds=x, use_cache=False)))
    return (found[1] - found[0]) / NUM_TOKENS, model.config.to_dict()
