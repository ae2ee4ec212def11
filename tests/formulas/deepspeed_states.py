"""Train two steps under DeepSpeed on CPU ranks, then print the bytes of every live tensor on rank 0 as JSON.

Usage (on ranks): deepspeed_states.py STAGE HIDDEN_SIZE [RANKS_OF_A_SECOND_SHARD]
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys

os.environ.setdefault("DS_ACCELERATOR", "cpu")
logging.disable(logging.WARNING)

import torch  # noqa: E402


def live_bytes() -> int:
    """Return the bytes of all storages that some tensor still uses."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def main() -> None:
    stage, hidden = int(sys.argv[1]), int(sys.argv[2])
    import deepspeed
    from transformers import LlamaConfig, LlamaForCausalLM

    deepspeed.init_distributed("gloo")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=False,
        use_cache=False,
    )
    before = live_bytes()
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    num_params = sum(p.numel() for p in model.parameters())
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {
            "stage": stage,
            "reduce_bucket_size": 100_000,
            "allgather_bucket_size": 100_000,
            "stage3_param_persistence_threshold": 0,
            "stage3_prefetch_bucket_size": 0,
            "stage3_max_live_parameters": 0,
            "stage3_max_reuse_distance": 0,
            "overlap_comm": False,
        },
    }
    if len(sys.argv) > 3:
        settings["zero_optimization"]["zero_hpz_partition_size"] = int(sys.argv[3])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    engine, optimizer, _, _ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=settings
    )
    ids = torch.randint(0, 2048, (1, 16))
    for _ in range(2):
        loss = engine(input_ids=ids, labels=ids).loss
        engine.backward(loss)
        seconds = [getattr(p, "ds_secondary_tensor", None) for p in model.parameters()]
        second_bytes = sum(t.numel() * t.element_size() for t in seconds if t is not None)
        del seconds
        engine.step()
        del loss
    if torch.distributed.get_rank() == 0:
        live = live_bytes() - before - buffers
        found = {"live_bytes": live, "num_params": num_params, "second_bytes": second_bytes}
        print(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
