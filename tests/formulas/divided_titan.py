"""Train a small Llama of torchtitan's on gloo ranks under its own parallelisms, and count what each rank holds, case by case.

Usage (in an environment with torchtitan): torchrun --nproc-per-node RANKS divided_titan.py < CASES.jsonl > ROWS.jsonl
A case says degrees, micro batches and schedule; a row is the case with `ranks`, one object of counts for each.
The model is divided by pipeline_llm and parallelize_llama, and stepped as train.py does (0.2.2).
"""

from __future__ import annotations

import gc
import json
import sys
import types
from importlib.metadata import version
from typing import Any

sys.modules["torchtitan.models.moe.kernels"] = kernels = types.ModuleType("kernels")
kernels.generate_permute_indices = None  # type: ignore[attr-defined]  # needs Triton, and only experts do

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from allocations import Allocations  # noqa: E402
from real_ranks import num_bytes, settle  # noqa: E402
from ring_on_cpu import install  # noqa: E402
from torchtitan.components.loss import cross_entropy_loss  # noqa: E402
from torchtitan.config import JobConfig  # noqa: E402
from torchtitan.distributed import ParallelDims, parallel_dims  # noqa: E402
from torchtitan.distributed import utils as dist_utils  # noqa: E402
from torchtitan.distributed.context_parallel import prepare_context_parallel_input  # noqa: E402
from torchtitan.distributed.pipeline_parallel import pipeline_llm  # noqa: E402
from torchtitan.models.llama3 import Transformer, TransformerModelArgs  # noqa: E402
from torchtitan.models.llama3.infra import parallelize  # noqa: E402
from torchtitan.models.llama3.infra.parallelize import parallelize_llama  # noqa: E402

parallel_dims.device_type = dist_utils.device_type = (
    "cpu"  # without a GPU it takes CUDA for granted
)
parallelize.disable_fsdp_gradient_division = lambda model: None  # whose sum gloo does not have
SIZES = {"dim": 256, "n_heads": 8, "n_kv_heads": 4, "vocab_size": 2048, "multiple_of": 64}


def norm_of_transformers(self: torch.nn.RMSNorm, x: torch.Tensor) -> torch.Tensor:
    """Compute LlamaRMSNorm, which is what a layer's costs have: torch's own keeps more on a CPU, and less on a GPU."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
    return self.weight * wide.to(x.dtype)


torch.nn.RMSNorm.forward = norm_of_transformers  # type: ignore[method-assign]
DEGREES = ("replicate", "shard", "tensor", "context", "pipeline")
NUM_STEPS = 4


def config_of(case: dict[str, Any]) -> JobConfig:
    """Return torchtitan's config of a case."""
    config = JobConfig()
    config.training.local_batch_size = case["batch"]
    config.training.seq_len = case["length"]
    config.activation_checkpoint.mode = case.get("checkpointing", "none")
    parallel = config.parallelism
    parallel.pipeline_parallel_degree = case.get("pipeline", 1)
    parallel.pipeline_parallel_schedule = case.get("schedule", "1F1B")
    parallel.pipeline_parallel_microbatch_size = case.get("microbatch", 1)
    if "first_less" in case:
        parallel.pipeline_parallel_first_stage_less_layers = case["first_less"]
        parallel.pipeline_parallel_last_stage_less_layers = case["last_less"]
    if "layers_per_stage" in case:
        parallel.pipeline_parallel_layers_per_stage = case["layers_per_stage"]
    return config


class Watched(Allocations):
    """Allocations without wrappers of collectives, which claim the bytes of the tensor inside."""

    def track(self, tensor: torch.Tensor) -> None:
        from torch.utils._python_dispatch import is_traceable_wrapper_subclass

        if not is_traceable_wrapper_subclass(tensor):
            super().track(tensor)


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Return what this rank holds between steps, and the most that it held in one."""
    config = config_of(case)
    replicate, shard, tensor, context, pipeline = (case.get(name, 1) for name in DEGREES)
    dims = ParallelDims(
        replicate,
        shard // context,
        context,
        tensor,
        pipeline,
        1,
        1,
        world_size=dist.get_world_size(),
    )
    dims.build_mesh()
    if context > 1:
        install()
    torch.manual_seed(0)
    sizes = SIZES | case.get("titan_sizes", {})
    args = TransformerModelArgs(**sizes, n_layers=case["layers"], max_seq_len=case["length"])
    loss_fn = cross_entropy_loss
    allocations = Watched()
    with allocations:
        with torch.device("cpu"):
            model = Transformer(args)
        if dims.pp_enabled:
            schedule, parts, is_first, is_last = pipeline_llm(
                model, dims, config, torch.device("cpu"), args, parallelize_llama, loss_fn
            )
        else:
            parts = [parallelize_llama(model, dims, config)]
        del model
        gc.collect()
        parameters = [p for part in parts for p in part.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
        for each in (*parameters, *(b for part in parts for b in part.buffers())):
            allocations.track(each.to_local() if hasattr(each, "to_local") else each)
        context_of = dist_utils.get_train_context(dims.tp_enabled)
        steady = []
        for _ in range(NUM_STEPS):
            allocations.peaks = {}
            allocations.mark("step")
            optimizer.zero_grad()
            for _ in range(case.get("accumulation", 1)):
                ids = torch.randint(0, sizes["vocab_size"], (case["batch"], case["length"] + 1))
                inputs, labels = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
                with context_of():
                    if dims.pp_enabled:
                        targets, losses = (labels, []) if is_last else (None, None)
                        given = (inputs,) if is_first else ()
                        schedule.step(*given, target=targets, losses=losses, return_outputs=False)
                        del losses
                    else:
                        more: dict[str, Any] = {}
                        if context > 1:
                            inputs, labels, more = prepare_context_parallel_input(
                                inputs, labels, more, dims.get_mesh("cp"), torch.device("cpu")
                            )
                        pred = parts[0](inputs, **more)
                        loss = loss_fn(pred, labels) / labels.numel()
                        del pred
                        loss.backward()
                        del loss
            allocations.mark("optimizer")
            gradients = num_bytes(p.grad for p in parameters if p.grad is not None)
            dist_utils.clip_grad_norm_(
                parameters, 1.0, foreach=True, pp_mesh=dims.get_optional_mesh("pp")
            )
            optimizer.step()
            allocations.mark("between")
            steady.append(allocations.peaks)
        optimizer.zero_grad()
        settle(allocations)
        states = num_bytes(
            value for state in optimizer.state.values() for value in state.values() if value.dim()
        )
        return {
            "params": num_bytes(parameters),
            "gradients": gradients,
            "states": states,
            "buffers": num_bytes(b for part in parts for b in part.buffers()),
            "between": allocations.now,
            "peaks": {
                part: min(peaks[part] for peaks in steady[1:]) for part in ("step", "optimizer")
            },
        }


def main() -> None:
    dist.init_process_group("gloo")
    sent = [sys.stdin.read() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(sent)
    for line in sent[0].splitlines():
        case = json.loads(line)
        mine, ranks = run(case), [None] * dist.get_world_size()
        dist.all_gather_object(ranks, mine)
        if dist.get_rank() == 0:
            row = {
                **case,
                "torchtitan": version("torchtitan"),
                "torch": torch.__version__.partition("+")[0],
            }
            print(json.dumps({**row, "ranks": ranks}), flush=True)
        gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
