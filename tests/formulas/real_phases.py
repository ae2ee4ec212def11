"""Load, prepare, step, evaluate and save on real gloo ranks, and count what each rank holds in every phase, as JSON.

A CPU rank has one memory for host and device, so copies between the two are made visible: what FSDP moves
to the device is cloned, pinned blocks are written down, and a rank's device bytes are counted apart from
the host's by what allocates them. Where only rank 0 gathers on the host, the last rank has device bytes alone.
Usage (on ranks): real_phases.py CASES_JSON CHECKPOINT_FOLDER
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import real_ranks  # first: it prepares accelerate for CPU ranks
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import GradientAccumulationPlugin
from allocations import Allocations
from real_ranks import local, num_bytes, set_libraries_aside, settle
from torch.distributed.fsdp import _init_utils as fsdp1_init
from torch.distributed.fsdp._flat_param import FlatParamHandle
from torch.distributed.fsdp._fully_shard import _fsdp_init as fsdp2_init
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

NUM_ATTEMPTS = 2
"""A thread of gloo's that lets go late makes a peak higher: the least of several counts."""

PINNED: dict[int, int] = {}
"""Storages that would be pinned on a machine with a GPU, and their bytes."""


class Counted(Allocations):
    """Allocations without the wrappers of collectives, which claim the bytes of the tensor inside."""

    def track(self, tensor: torch.Tensor) -> None:
        if not is_traceable_wrapper_subclass(tensor):
            super().track(tensor)


def allow_fp16() -> None:
    """Let DeepSpeed train in fp16 on any CPU: it refuses where the CPU multiplies fp16 in software.

    DeepSpeed asks oneDNN for fast fp16 (accelerator/cpu_accelerator.py:228, 0.19.8); torch computes without.
    """
    from deepspeed.accelerator import get_accelerator

    type(get_accelerator()).is_fp16_supported = lambda self: True


def move_by_clone(params, *_) -> None:
    """Stand in for a copy to another device."""
    for param in params:
        if param.device.type != "meta":
            param.data = param.detach().clone()


def leave(*_) -> None:
    """Stand in for a move of what is on the device already."""


def flat_param_to(self: FlatParamHandle, *_) -> None:
    """FSDP1 copies a gathered unit to the host and frees it; the same storage would be freed here."""
    self.flat_param.data = self.flat_param.detach().clone()
    if self._use_orig_params:
        if self.is_sharded(self.flat_param):
            self._use_sharded_views()
        else:
            self._use_unsharded_views(as_params=True)


def pin(tensor: torch.Tensor, *_, **__) -> torch.Tensor:
    storage = tensor.untyped_storage()
    PINNED[storage._cdata] = storage.nbytes()
    return tensor


def make_copies_visible() -> None:
    FlatParamHandle.flat_param_to = flat_param_to
    torch.cpu.Stream.synchronize = lambda self: None
    torch.Tensor.pin_memory = pin
    torch.Tensor.is_pinned = lambda self, *_: self.untyped_storage()._cdata in PINNED


def accelerator_of(case: dict) -> Accelerator:
    """Return an Accelerator with the engine of a case, whatever the case before it had."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    for name in [n for n in os.environ if n.startswith(("ACCELERATE_", "FSDP_"))]:
        if name != "ACCELERATE_BYPASS_DEVICE_MAP":
            del os.environ[name]
    engine, precision = case["engine"], case.get("mixed_precision", "bf16")
    common: dict = {
        "mixed_precision": precision,
        "gradient_accumulation_plugin": GradientAccumulationPlugin(
            num_steps=case.get("accumulation", 1), sync_each_batch=case.get("sync_each", False)
        ),
    }
    if case.get("replicas"):
        from accelerate.parallelism_config import ParallelismConfig

        shard = dist.get_world_size() // case["replicas"]
        common["parallelism_config"] = ParallelismConfig(
            dp_replicate_size=case["replicas"], dp_shard_size=shard
        )
    if engine.startswith("zero"):
        allow_fp16()
        from accelerate.utils import DeepSpeedPlugin
        from deepspeed.accelerator import get_accelerator

        type(get_accelerator()).pin_memory = lambda self, tensor, *_, **__: pin(tensor)
        settings = {
            "train_micro_batch_size_per_gpu": case["micro"],
            "gradient_accumulation_steps": case.get("accumulation", 1),
            precision: {"enabled": True},
            "zero_optimization": {"stage": int(engine[-1]), **case["zero"], **case["offload"]},
            "zero_force_ds_cpu_optimizer": False,
        }
        return Accelerator(deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=settings), **common)
    from accelerate.utils import FullyShardedDataParallelPlugin

    moves = leave if case.get("storage") else move_by_clone
    fsdp1_init._move_states_to_device = fsdp2_init._move_states_to_device = moves
    # The plugin, PEFT's policy and transformers read what `accelerate launch` exports.
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    os.environ["FSDP_VERSION"] = engine[-1]
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = "LlamaDecoderLayer"
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=int(engine[-1]),
        **{"reshard_after_forward" if engine == "fsdp2" else "sharding_strategy": case["reshard"]},
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["LlamaDecoderLayer"],
        use_orig_params=True,
        cpu_offload=bool(case["offload"]),
        state_dict_type=case.get("state_dict_type", "FULL_STATE_DICT"),
        cpu_ram_efficient_loading=case.get("ram_efficient", False),
    )
    return Accelerator(fsdp_plugin=plugin, **common)


def load(case: dict, accelerator: Accelerator, folder: str):
    """Return the model as a script loads it, adapter included."""
    quantized = {}
    if case.get("storage"):
        quantized["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=case.get("double_quant", False),
            bnb_4bit_quant_storage=getattr(torch, case["storage"]),
        )
    dtype = torch.bfloat16 if case["load"] == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **quantized).train()
    model.config.use_cache = False
    if case.get("lora"):
        import peft

        lora = peft.LoraConfig(r=case["lora"], target_modules=["q_proj", "v_proj"], lora_dropout=0)
        model = peft.get_peft_model(model, lora)
        if case["engine"] == "fsdp1":
            policy = peft.utils.other.fsdp_auto_wrap_policy(model)
            accelerator.state.fsdp_plugin.auto_wrap_policy = policy
    return model


def run(case: dict, folder: str) -> dict:
    """Take a case through its phases; return the peak of each and what is held between them."""
    PINNED.clear()
    accelerator = accelerator_of(case)
    is_zero = case["engine"].startswith("zero")
    result: dict = {}
    torch.manual_seed(0)
    allocations = Counted()
    with allocations:
        allocations.mark("load")
        model = load(case, accelerator, folder)
        whole = [*model.parameters(), *model.buffers()]
        result["loaded"] = num_bytes(whole)
        gc.collect()
        if is_zero or case.get("storage"):
            # on the device already, or moved to it as it is
            for tensor in whole:
                allocations.track(local(tensor))
        else:
            allocations = restart(allocations)
        del whole
        result["num_params"] = sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad], lr=1e-4, foreach=True
        )
        model, optimizer = prepare(case, accelerator, model, optimizer, allocations, result)
        gc.collect()
        for tensor in (*model.parameters(), *model.buffers()):
            allocations.track(local(tensor))
        result["buffers"] = num_bytes(model.buffers())
        step(case, accelerator, model, optimizer, allocations)
        settle(allocations)
        held(case, model, optimizer, allocations, result)
        phases = [evaluate, save] if not is_zero else [save, evaluate]
        for phase in phases:
            for _ in range(NUM_ATTEMPTS):
                settle(allocations)
                earlier, allocations.peaks = allocations.peaks, {}
                phase(case, accelerator, model, optimizer, allocations, folder)
                settle(allocations)
                for part, peak in allocations.peaks.items():
                    earlier[part] = min(peak, earlier.get(part, peak))
                allocations.peaks = earlier
    result["peaks"] = allocations.peaks
    return result


def restart(allocations: Counted) -> Counted:
    """Count from zero: what is loaded so far stays on the host."""
    allocations.live.clear()
    allocations.now = 0
    return allocations


def prepare(case: dict, accelerator, model, optimizer, allocations: Counted, result: dict):
    allocations.mark("prepare")
    if case["engine"] != "fsdp2":
        return accelerator.prepare(model, optimizer)
    from accelerate.utils import fsdp_utils

    stock = fsdp_utils.fsdp2_prepare_auto_wrap_policy

    def marked(*arguments):
        # everything so far was made on the host: fp32 copies, kept to the end by a state dict
        result["upcast"] = 0 if case.get("storage") else allocations.now
        allocations.mark("prepare")
        return stock(*arguments)

    fsdp_utils.fsdp2_prepare_auto_wrap_policy = marked
    try:
        return accelerator.prepare(model, optimizer)
    finally:
        fsdp_utils.fsdp2_prepare_auto_wrap_policy = stock


def step(case: dict, accelerator, model, optimizer, allocations: Counted) -> None:
    """Take one optimizer step, which creates the states."""
    allocations.mark("step")
    if case["engine"].startswith("zero"):
        stock_step = model.step

        def marked_step():
            allocations.mark("optimizer_step")
            stock_step()

        model.step = marked_step
    for _ in range(case.get("accumulation", 1)):
        with accelerator.accumulate(model):
            ids = torch.randint(0, case["config"]["vocab_size"], (case["micro"], case["length"]))
            accelerator.backward(model(input_ids=ids, labels=ids).loss)
            optimizer.step()
            optimizer.zero_grad()


def held(case: dict, model, optimizer, allocations: Counted, result: dict) -> None:
    """Write down what is alive between steps, and which of it an offloading engine keeps on the host."""
    allocations.mark("between")
    result["between"] = allocations.now
    result["shards"] = num_bytes(model.parameters())
    result["pinned"] = [size for key, size in PINNED.items() if key in allocations.live]
    engine = optimizer
    while hasattr(engine, "optimizer") and not hasattr(engine, "reduce_bucket_size"):
        engine = engine.optimizer
    inner = getattr(engine, "optimizer", engine)
    result["states"] = num_bytes(
        value
        for state in inner.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.dim()
    )
    units = [m._flat_param for m in model.modules() if getattr(m, "_flat_param", None) is not None]
    # FSDP1 lets go of a unit's gradient at the next forward pass, not at zero_grad
    result["flat_gradients"] = num_bytes(p.grad for p in units if p.grad is not None)
    if not case["offload"] or not case["engine"].startswith("zero"):
        return
    masters = getattr(engine, "single_partition_of_fp32_groups", None)
    if masters is None:
        masters = engine.fp32_partitioned_groups_flat
    on_host = [*masters, *(p.grad for p in masters if p.grad is not None)]
    on_host += getattr(engine, "param_buffer_of_bit16_for_cpu_offload_groups", [])
    on_host += getattr(engine, "accumulated_grads_in_cpu", {}).values()
    for name in ("temp_grad_buffer_for_cpu_offload", "grad_partitions_flat_buffer"):
        on_host += [t for t in [getattr(engine, name, None)] if t is not None]
    if "offload_param" in case["offload"]:
        on_host += engine.param_groups_fp16_flat_cpu_memory
    result["host"] = num_bytes(on_host) + result["states"]


def evaluate(case: dict, accelerator, model, optimizer, allocations: Counted, folder: str) -> None:
    if not case.get("storage"):  # bitsandbytes repacks weights for inference on a CPU
        model.eval()
    for _ in range(2):  # the first batch leaves gathered what no backward pass will free
        allocations.mark("evaluation")
        ids = torch.randint(0, case["config"]["vocab_size"], (case["micro"], case["length"]))
        with torch.no_grad():
            model(input_ids=ids, labels=ids)
        gc.collect()
    allocations.mark("evaluated")


def save(case: dict, accelerator, model, optimizer, allocations: Counted, folder: str) -> None:
    if not case.get("saves", True):
        return
    gc.collect()  # a step's cycles would count in the save
    allocations.mark("save")
    if not case["engine"].startswith("fsdp"):
        accelerator.get_state_dict(model)
    else:
        from accelerate.utils import save_fsdp_model, save_fsdp_optimizer

        plugin, target = accelerator.state.fsdp_plugin, f"{folder}/saved"
        save_fsdp_model(plugin, accelerator, model, target)
        gc.collect()
        allocations.mark("save_optimizer")
        save_fsdp_optimizer(plugin, accelerator, optimizer, model, target)
        dist.barrier()
        if dist.get_rank() == 0:
            shutil.rmtree(target)
        dist.barrier()
    gc.collect()
    allocations.mark("saved")


def print_every_rank(cases: list[dict], folder: str, run: Callable[[dict, str], object]) -> None:
    """Run the cases, and print on the first rank what each of the ranks has of each."""
    results = {}
    for case in cases:
        mine = run(case, folder)
        gc.collect()
        ranks = [None] * dist.get_world_size()
        dist.all_gather_object(ranks, mine)
        results[case["name"]] = ranks
    if dist.get_rank() == 0:
        print(json.dumps(results))
    dist.barrier()


def main() -> None:
    cases, folder = json.loads(sys.argv[1]), sys.argv[2]
    make_copies_visible()
    set_libraries_aside()
    Accelerator(mixed_precision="bf16")
    if dist.get_rank() == 0 and not Path(folder, "config.json").exists():
        torch.manual_seed(0)
        config = real_ranks.AutoConfig.for_model(**cases[0]["config"])
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    dist.barrier()
    print_every_rank(cases, folder, run)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
