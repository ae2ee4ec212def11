"""Run steps of ms-swift's sequence parallelism on gloo ranks, and print a row of what was alive on the fullest for each case.

Run with ms-swift's modules in PYTHONPATH:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/swift_sequence_steps.py >> swift_sequences.jsonl
"""

from __future__ import annotations

import gc
import json
import os
import socket
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as spawned
from allocations import Allocations

COMMON = {
    "ranks": 2, "rows": 1, "length": 1024, "checkpointed": True, "chunk": 0, "rank": 0, "hidden": 256, "inner": 768, "heads": 8,
    "key_heads": 4, "layers": 4, "words": 2048,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "whole": {},
    "whole, kept": {"checkpointed": False},
    "whole, more words": {"words": 16384},
    "in chunks": {"chunk": 128, "words": 16384},
    "in chunks, kept": {"chunk": 128, "checkpointed": False},
    "four ranks": {"ranks": 4, "length": 2048},
    "four ranks, kept": {"ranks": 4, "length": 2048, "checkpointed": False},
    "as many keys, kept": {"key_heads": 8, "checkpointed": False},
    "adapted": {"rank": 8},
    "adapted, in chunks, kept": {"rank": 8, "chunk": 128, "checkpointed": False, "words": 16384},
}


def case_of(name: str) -> dict[str, Any]:
    """Return everything of a case that its name does not say."""
    return {**COMMON, **CASES[name]}


def config_of(case: dict[str, Any]) -> dict[str, Any]:
    """Return the shapes as a config.json says them."""
    return {
        "model_type": "llama",
        "vocab_size": case["words"],
        "hidden_size": case["hidden"],
        "intermediate_size": case["inner"],
        "num_hidden_layers": case["layers"],
        "num_attention_heads": case["heads"],
        "num_key_value_heads": case["key_heads"],
        "tie_word_embeddings": False,
    }


def model_of(case: dict[str, Any]) -> Any:
    """Return a model that swift has patched."""
    from swift.sequence_parallel import sequence_parallel
    from transformers import AutoConfig, AutoModelForCausalLM, masking_utils

    # flash attention takes no mask of which rows are apart
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    config = AutoConfig.for_model(**config_of(case))
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation="sdpa", dtype=torch.bfloat16
    )
    # what swift reads of its own registry: a language model alone, without experts
    model.model_info = SimpleNamespace(is_moe_model=False)
    model.model_meta = SimpleNamespace(
        model_arch=SimpleNamespace(language_model=None), is_multimodal=False
    )
    sequence_parallel.prepare(case["ranks"], model, SimpleNamespace(pad_token_id=0), False)
    if case["checkpointed"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if case["rank"]:
        from peft import LoraConfig, get_peft_model

        model.enable_input_require_grads()
        names = ["q_proj", "v_proj"]
        model = get_peft_model(
            model, LoraConfig(r=case["rank"], target_modules=names), autocast_adapter_dtype=False
        )
    return model.train()


def counted(case: dict[str, Any]) -> dict[str, int]:
    """Return the most that was alive before the loss, in it, and in its backward, parameters among it."""
    from swift.sequence_parallel import sequence_parallel
    from swift.trainers.utils import per_token_loss_func_sp

    os.environ["CELOSS_PARALLEL_SIZE"] = str(case["chunk"])
    torch.manual_seed(0)
    model = model_of(case)
    ids = torch.randint(1, case["words"], (case["rows"], case["length"]))
    places = torch.arange(case["length"]).repeat(case["rows"], 1)
    with Allocations() as seen:
        for tensor in (*model.parameters(), *model.buffers(), ids, places):
            seen.track(tensor)
        for _ in range(2):
            inputs = {"input_ids": ids, "position_ids": places, "labels": ids.clone()}
            sequence_parallel.prepare_inputs(inputs)
            labels = inputs.pop("labels")
            seen.mark("forward")
            outputs = model(**inputs, use_cache=False)
            gc.collect()
            seen.mark("loss")
            loss = per_token_loss_func_sp(outputs, labels).sum() / case["length"]
            del outputs
            seen.mark("backward")
            loss.backward()
            seen.mark("end")
            for tensor in model.parameters():
                tensor.grad = None
    return {part: seen.peaks[part] for part in ("forward", "loss", "backward")}


def _rank(rank: int, port: int, name: str) -> None:
    case = case_of(name)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(case["ranks"])}
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "LOCAL_WORLD_SIZE": str(case["ranks"]),
    }
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=case["ranks"])
    peaks = counted(case)
    every = [None] * case["ranks"]
    dist.all_gather_object(every, peaks)
    if rank == 0:
        import swift
        import transformers

        fullest = max(every, key=lambda each: max(each.values()))
        version = swift.__version__.removesuffix(".dev0")
        row = {"name": name, "ms_swift": version, "transformers": transformers.__version__}
        print(json.dumps({**row, "peaks": fullest}), flush=True)
    dist.destroy_process_group()


def main() -> None:
    """Print a row for each case."""
    for name in CASES:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            port = bound.getsockname()[1]
        spawned.spawn(_rank, (port, name), nprocs=case_of(name)["ranks"])


if __name__ == "__main__":
    main()
