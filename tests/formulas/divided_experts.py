"""Train a small Qwen3-MoE of torchtitan's on gloo ranks that share its experts, and count what each rank keeps.

Usage (in an environment with torchtitan): torchrun --nproc-per-node RANKS divided_experts.py < CASES.jsonl > ROWS.jsonl
A case says degrees, experts and rows; a row is the case with `ranks`, one object of counts for each.
The model is divided by parallelize_qwen3 and stepped as train.py does (0.2.2); tokens really go to other ranks.
"""

from __future__ import annotations

import gc
import json
import sys
import types
from importlib.metadata import version
from typing import Any

sys.modules["torchtitan.models.moe.kernels"] = kernels = types.ModuleType("kernels")

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402


def permuted(
    counts: torch.Tensor, num_experts: int, num_ranks: int, most: int, multiple: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return where tokens that came by rank and expert lie by expert, as kernels.py has it in Triton alone."""
    starts = (torch.cumsum(counts, 0) - counts).tolist()
    sizes = counts.view(num_ranks, -1).sum(0).clamp_min(multiple)
    sizes = ((sizes + multiple - 1) // multiple * multiple).to(torch.int32)
    ends = torch.cumsum(sizes, 0)
    found = torch.full((most,), -1, dtype=torch.int32)
    for expert, first in enumerate((ends - sizes).tolist()):
        for rank in range(num_ranks):
            place = rank * num_experts + expert
            length = int(counts[place])
            found[first : first + length] = torch.arange(starts[place], starts[place] + length)
            first += length
    return found, sizes, ends.to(torch.int32)


kernels.generate_permute_indices = permuted  # type: ignore[attr-defined]
from real_ranks import num_bytes  # noqa: E402
from torchtitan.config import JobConfig  # noqa: E402
from torchtitan.distributed import ParallelDims, parallel_dims  # noqa: E402
from torchtitan.distributed import utils as dist_utils  # noqa: E402
from torchtitan.models.llama4.infra import parallelize as of_llama4  # noqa: E402
from torchtitan.models.moe import MoEArgs  # noqa: E402
from torchtitan.models.qwen3.infra.parallelize import parallelize_qwen3  # noqa: E402
from torchtitan.models.qwen3.model.args import Qwen3ModelArgs  # noqa: E402
from torchtitan.models.qwen3.model.model import Qwen3Model  # noqa: E402

parallel_dims.device_type = dist_utils.device_type = (
    "cpu"  # without a GPU it takes CUDA for granted
)
of_llama4.disable_fsdp_gradient_division = lambda model: None  # whose sum gloo does not have
histogram = torch.histc
torch.histc = lambda x, **how: histogram(x.float(), **how).long()  # of whole numbers a CPU has none
SIZES = {"dim": 256, "n_heads": 8, "n_kv_heads": 4, "head_dim": 32, "vocab_size": 2048}
NUM_STEPS = 2


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Return the bytes of this rank's parameters, of their gradients and of what the optimizer keeps of them."""
    world = dist.get_world_size()
    config = JobConfig()
    config.training.local_batch_size = case["batch"]
    config.training.seq_len = case["length"]
    config.parallelism.expert_parallel_degree = case.get("experts_over", 1)
    dims = ParallelDims(
        case.get("replicate", 1), case["shard"], 1, 1, 1, case.get("experts_over", 1), 1, world
    )
    dims.build_mesh()
    torch.manual_seed(0)
    moe = MoEArgs(
        num_experts=case["num_experts"],
        num_shared_experts=0,
        top_k=case["top_k"],
        score_func="softmax",
        route_norm=True,
        score_before_experts=False,
        use_grouped_mm=False,
    )
    args = Qwen3ModelArgs(
        **SIZES,
        n_layers=case["layers"],
        hidden_dim=case["inner"],
        moe_inter_dim=case["inner"],
        moe_enabled=True,
        moe_args=moe,
        max_seq_len=case["length"],
    )
    with torch.device("cpu"):
        model = Qwen3Model(args)
    model = parallelize_qwen3(model, dims, config)
    with torch.no_grad():
        model.init_weights(torch.device("cpu"))
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    gradients = 0
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        ids = torch.randint(0, SIZES["vocab_size"], (case["batch"], case["length"] + 1))
        logits = model(ids[:, :-1].contiguous())
        labels = ids[:, 1:].flatten()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels).backward()
        gradients = num_bytes(p.grad for p in parameters if p.grad is not None)
        optimizer.step()
    states = num_bytes(
        value for state in optimizer.state.values() for value in state.values() if value.dim()
    )
    return {"params": num_bytes(parameters), "gradients": gradients, "states": states}


def main() -> None:
    dist.init_process_group("gloo")
    sent = [sys.stdin.read() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(sent)
    for line in sent[0].splitlines():
        case = json.loads(line)
        mine, ranks = run(case), [None] * dist.get_world_size()
        dist.all_gather_object(ranks, mine)
        if dist.get_rank() == 0:
            titan, torch_version = version("torchtitan"), torch.__version__.partition("+")[0]
            row = {**case, "torchtitan": titan, "torch": torch_version, "ranks": ranks}
            print(json.dumps(row), flush=True)
        gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
