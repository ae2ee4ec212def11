"""Train small Llamas under FSDP1 on real gloo ranks; print what rank 0 held, case by case, as JSON.

Usage (on ranks): fsdp1_reentrant.py PEAKS_JSON GATHERS_JSON. The first is a list of [around, reentrant, layers,
tokens, adapted], answered by the peaks of backward; the second of [around, reentrant, adapted, prefetch],
answered by the layers gathered or still read in forward and backward, step by step.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = "LlamaDecoderLayer"

import functools  # noqa: E402

import peft  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import torch.utils.checkpoint  # noqa: E402
from allocations import Allocations  # noqa: E402
from gathers import Gathers  # noqa: E402
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (  # noqa: E402
    CheckpointImpl,
    apply_activation_checkpointing,
    checkpoint_wrapper,
)
from torch.distributed.fsdp import BackwardPrefetch, FullyShardedDataParallel  # noqa: E402
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402
from transformers.models.llama.modeling_llama import LlamaDecoderLayer  # noqa: E402

WRAPPED = "wrapped"
SIZES = {"hidden_size": 64, "intermediate_size": 176, "num_attention_heads": 2, "vocab_size": 128}


class Around(torch.nn.Module):
    """A checkpoint around FSDP's wrapper of a layer, as transformers had it before 4.53."""

    def __init__(self, layer: torch.nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.layer, self.reentrant = layer, reentrant

    def forward(self, hidden: torch.Tensor, **kwargs):
        call = functools.partial(self.layer.__call__, **kwargs)
        return torch.utils.checkpoint.checkpoint(call, hidden, use_reentrant=self.reentrant)


def model_of(
    around: bool | str,
    reentrant: bool,
    layers: int,
    adapted: bool,
    prefetch: str | None = "BACKWARD_PRE",
) -> tuple[torch.nn.Module, int]:
    """Return the wrapped model and the bytes of one of its layers; `around` is WRAPPED for torch's own module."""
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, num_hidden_layers=layers, use_cache=False)
    model = LlamaForCausalLM(config).to(torch.bfloat16).train()
    decoder = model.model
    layer_bytes = sum(p.numel() * p.element_size() for p in decoder.layers[0].parameters())
    if not around:
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    policy = functools.partial(
        transformer_auto_wrap_policy, transformer_layer_cls={LlamaDecoderLayer}
    )
    if adapted:
        lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0)
        model = peft.get_peft_model(model, lora, autocast_adapter_dtype=False)
        policy = peft.utils.other.fsdp_auto_wrap_policy(model)
    model = FullyShardedDataParallel(
        model,
        auto_wrap_policy=policy,
        use_orig_params=True,
        device_id=torch.device("cpu"),
        backward_prefetch=None if prefetch is None else BackwardPrefetch[prefetch],
    )
    if around == WRAPPED:
        kind = CheckpointImpl.REENTRANT if reentrant else CheckpointImpl.NO_REENTRANT
        apply_activation_checkpointing(
            model,
            checkpoint_wrapper_fn=functools.partial(checkpoint_wrapper, checkpoint_impl=kind),
            check_fn=lambda module: isinstance(module, LlamaDecoderLayer),
        )
    elif around:
        decoder.layers = torch.nn.ModuleList(Around(layer, reentrant) for layer in decoder.layers)
    return model, layer_bytes


def loss_of(model: torch.nn.Module, tokens: int) -> torch.Tensor:
    ids = torch.randint(0, SIZES["vocab_size"], (1, tokens))
    return model(input_ids=ids, labels=ids).loss


def peak_of(around: bool | str, reentrant: bool, layers: int, tokens: int, adapted: bool) -> int:
    model, _ = model_of(around, reentrant, layers, adapted)
    peaks = []
    allocations = Allocations()
    with allocations:
        for tensor in model.parameters():
            allocations.track(tensor)
        for _ in range(2):
            loss = loss_of(model, tokens)
            allocations.mark("backward")
            loss.backward()
            del loss
            model.zero_grad()
            peaks.append(allocations.peaks["backward"])
    return peaks[-1]


def gathers_of(
    around: bool, reentrant: bool, adapted: bool, prefetch: str | None
) -> list[dict[str, int]]:
    model, layer_bytes = model_of(around, reentrant, 6, adapted, prefetch)
    found = []
    with Gathers(layer_bytes) as gathers:
        for _ in range(2):
            gathers.synchronize()
            gathers.peaks, gathers.part = {}, "forward"
            loss = loss_of(model, 8)
            gathers.part = "backward"
            loss.backward()
            model.zero_grad()
            found.append(gathers.peaks)
    return found


def main() -> None:
    gc.freeze()  # what imports left need not be gone through at every collection
    dist.init_process_group("gloo")
    found = []
    for function, cases in zip((peak_of, gathers_of), sys.argv[1:], strict=True):
        found.append([])
        for case in json.loads(cases):
            found[-1].append(function(*case))
            gc.collect()
    if dist.get_rank() == 0:
        print(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
