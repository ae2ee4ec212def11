"""Train a small Llama on real gloo ranks through accelerate and count what rank 0 holds, case by case, as JSON.

So few tokens that parameters, gradients and states are nearly all of it: what is compared is sharding.
Usage (on ranks): real_ranks.py CASES_JSON, a list of objects with the fields that `run` reads.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("DS_ACCELERATOR", "cpu")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
sys.path.insert(0, str(Path(__file__).parents[1] / "launches" / "worker"))

import accelerate.state  # noqa: E402
import accelerate.utils.dataclasses  # noqa: E402
import cpu_ranks  # noqa: E402

cpu_ranks.patch_state(accelerate.state)
cpu_ranks.patch_fsdp1_plugin(accelerate.utils.dataclasses)

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from accelerate import Accelerator  # noqa: E402
from accelerate.state import AcceleratorState, GradientState  # noqa: E402
from allocations import Allocations  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

NUM_STEPS = 5


def local(tensor):
    """Return this rank's part of a tensor."""
    tensor = getattr(tensor, "ds_tensor", tensor)
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def settle(allocations: Allocations) -> None:
    """Wait until gloo's threads have let go of their tensors: they do when they happen to run."""
    gc.collect()
    deadline = time.monotonic() + 10
    still_since, held = time.monotonic(), -1
    while time.monotonic() < min(deadline, still_since + 0.2):
        if allocations.now != held:
            still_since, held = time.monotonic(), allocations.now
        time.sleep(0.005)


def num_bytes(tensors) -> int:
    """Return the bytes of the storages of some tensors, each once."""
    storages = {}
    for tensor in map(local, tensors):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
    return sum(storages.values())


def accelerator_of(case: dict) -> Accelerator:
    """Return an Accelerator with the engine of a case, whatever the case before it had."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    for name in [n for n in os.environ if n.startswith(("ACCELERATE_", "FSDP_"))]:
        if name != "ACCELERATE_BYPASS_DEVICE_MAP":
            del os.environ[name]
    common = {"mixed_precision": case.get("mixed_precision", "bf16")}
    common["gradient_accumulation_steps"] = case.get("accumulation", 1)
    engine = case["engine"]
    if engine.startswith("zero"):
        from accelerate.utils import DeepSpeedPlugin

        settings = {
            "train_micro_batch_size_per_gpu": case["micro"],
            "gradient_accumulation_steps": case.get("accumulation", 1),
            "bf16": {"enabled": True},
            "zero_optimization": {"stage": int(engine[-1]), **case["zero"]},
            "zero_force_ds_cpu_optimizer": False,
        }
        return Accelerator(deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=settings), **common)
    from accelerate.utils import FullyShardedDataParallelPlugin

    if case["reshard"] == "HYBRID_SHARD":
        # FSDP1 shards within a node, whose size it takes from the devices it sees.
        torch.cpu.device_count = lambda: dist.get_world_size() // 2
    # The plugin and PEFT's policy read what `accelerate launch` exports.
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    os.environ["FSDP_VERSION"] = engine[-1]
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = "LlamaDecoderLayer"
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=int(engine[-1]),
        **{"reshard_after_forward" if engine == "fsdp2" else "sharding_strategy": case["reshard"]},
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["LlamaDecoderLayer"],
        use_orig_params=True,
        backward_prefetch=case.get("prefetch", "BACKWARD_PRE"),
        cpu_ram_efficient_loading=False,
    )
    return Accelerator(fsdp_plugin=plugin, **common)


def run(case: dict) -> dict:
    """Train two optimizer steps; return states between steps and the peaks of the second step."""
    accelerator = accelerator_of(case)
    torch.manual_seed(0)
    config = AutoConfig.for_model(**case["config"])
    config.use_cache = False
    kind = AutoModelForSequenceClassification if case.get("in_turn") else AutoModelForCausalLM
    config.num_labels = 1
    model = kind.from_config(config, dtype=torch.float32).train()
    if case.get("lora"):
        import peft

        lora = peft.LoraConfig(r=case["lora"], target_modules=["q_proj", "v_proj"], lora_dropout=0)
        model = peft.get_peft_model(model, lora)
        if case["engine"] == "fsdp1":
            # Trainer does this: trained leaves become units of their own, the base stays without gradients
            policy = peft.utils.other.fsdp_auto_wrap_policy(model)
            accelerator.state.fsdp_plugin.auto_wrap_policy = policy
    if case.get("checkpointing"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    layers = (model.get_base_model() if case.get("lora") else model).model.layers
    embedding = model.get_input_embeddings()
    num_params = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=1e-4,
        fused=case.get("fused", False),
        foreach=not case.get("fused", False),
    )
    allocations = Allocations()
    with allocations:
        model, optimizer = accelerator.prepare(model, optimizer)
        gc.collect()
        allocations.peaks.clear()
        for tensor in (*model.parameters(), *model.buffers()):
            allocations.track(local(tensor))
        buffers = num_bytes(model.buffers())
        watch(layers, embedding, allocations)
        if case["engine"].startswith("zero"):
            # accelerator.backward steps too
            stock_step = model.step

            def marked_step():
                allocations.mark("optimizer_step")
                stock_step()

            model.step = marked_step
        result = steps(case, accelerator, model, optimizer, allocations)
    result["num_params"] = num_params
    result["buffers"] = buffers
    return result


def watch(layers, embedding, allocations: Allocations) -> None:
    """Mark the parts of a step as the model enters and leaves them."""
    last = len(layers) - 1

    def hook(index: int):
        def leave(module, inputs, output):
            if output.requires_grad:
                output.register_hook(lambda _: allocations.mark(f"backward {index}"))
            if index == last:
                allocations.mark("loss_forward")

        return leave

    for index, layer in enumerate(layers):
        layer.register_forward_pre_hook(
            lambda *_, index=index: allocations.mark(f"forward {index}")
        )
        layer.register_forward_hook(hook(index))
    embedding.register_forward_hook(
        lambda module, inputs, output: (
            (
                output.register_hook(lambda _: allocations.mark("embedding_backward"))
                if output.requires_grad
                else None
            )
            and None
        )
    )


def predicted(model, ids):
    """Return the loss of the next token."""
    return model(input_ids=ids, labels=ids).loss


def scored_in_turn(model, ids):
    """Return the loss of two answers that go through the model one after the other."""
    chosen, rejected = (model(input_ids=row).logits for row in ids.split(len(ids) // 2))
    return -torch.nn.functional.logsigmoid(chosen - rejected).mean()


def steps(case: dict, accelerator, model, optimizer, allocations: Allocations) -> dict:
    result = {}
    vocab = case["config"]["vocab_size"]
    steady: list[dict[str, int]] = []
    for step in range(NUM_STEPS):
        allocations.peaks = {}
        for _ in range(case.get("accumulation", 1)):
            with accelerator.accumulate(model):
                ids = torch.randint(0, vocab, (case["micro"], case["length"]))
                allocations.mark("forward")
                loss = (scored_in_turn if case.get("in_turn") else predicted)(model, ids)
                allocations.mark("loss_backward")
                accelerator.backward(loss)
                del loss
                result["gradients"] = num_bytes(
                    p.grad for p in model.parameters() if p.grad is not None
                )
                if not case["engine"].startswith("zero"):
                    allocations.mark("optimizer_step")
                optimizer.step()
                optimizer.zero_grad()
                allocations.mark("between")
        if step:
            steady.append(allocations.peaks)
    settle(allocations)
    result["between"] = allocations.now
    result["params"] = num_bytes(model.parameters())
    # A thread of gloo's that is late makes a peak higher: the least of several steps.
    result["peaks"] = {part: min(peaks[part] for peaks in steady) for part in steady[0]}
    inner = optimizer
    while hasattr(inner, "optimizer"):
        inner = inner.optimizer
    result["states"] = num_bytes(
        value
        for state in inner.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.dim()
    )
    return result


def set_libraries_aside() -> None:
    """Keep what imports left out of every later collection: to go through it takes half a second a time."""
    import deepspeed  # noqa: F401
    import peft  # noqa: F401

    gc.collect()
    gc.freeze()


def main() -> None:
    set_libraries_aside()
    results = {}
    for case in json.loads(sys.argv[1]):
        results[case["name"]] = run(case)
        gc.collect()
    if dist.get_rank() == 0:
        print(json.dumps(results))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
