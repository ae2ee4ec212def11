"""Send tokens to experts of torchtitan's on gloo ranks that share them, and count what a rank keeps that is sent all of them.

Run beside a checkout of torchtitan, in an environment with what that needs (spmd_types, triton), with torch's CPU build:
    PYTHONPATH=CHECKOUT:ROOT/tests/formulas torchrun --nproc-per-node RANKS ROOT/tests/formulas/sent_tokens.py >> sent_tokens.jsonl
Every rank has the same number of tokens; a row is of rank 0 with as many as every other one is sent, and with all that it can be.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import torch.distributed as dist
import torchtitan.tools.utils as tools
from allocations import Allocations

tools.device_type = "cpu"  # it takes CUDA for granted where it finds no device
from torchtitan.distributed.utils import set_spmd_backend  # noqa: E402
from torchtitan.models.common.moe import GroupedExperts, RoutedExperts  # noqa: E402
from torchtitan.models.common.token_dispatcher import AllToAllTokenDispatcher  # noqa: E402

CASES = {
    "small": {"tokens": 256, "hidden": 256, "inner": 128, "experts": 8, "top_k": 2},
    "wide": {"tokens": 256, "hidden": 128, "inner": 512, "experts": 8, "top_k": 2},
    "narrow": {"tokens": 512, "hidden": 512, "inner": 64, "experts": 16, "top_k": 4},
    "few": {"tokens": 256, "hidden": 256, "inner": 256, "experts": 4, "top_k": 4},
    "long": {"tokens": 2048, "hidden": 256, "inner": 176, "experts": 64, "top_k": 6},
}


def counted(case: dict[str, int], sends_all: bool) -> dict[str, int]:
    """Return what this rank keeps of a forward, and the most that is alive in forward and backward, its weights apart."""
    ranks = dist.get_world_size()
    torch.manual_seed(0)
    local = case["experts"] // ranks
    experts = RoutedExperts.Config(
        inner_experts=GroupedExperts.Config(
            dim=case["hidden"], hidden_dim=case["inner"], num_experts=local
        ),
        token_dispatcher=AllToAllTokenDispatcher.Config(
            num_experts=case["experts"], top_k=case["top_k"]
        ),
    ).build()
    experts.to(torch.bfloat16)
    for weight in experts.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    mesh = dist.device_mesh.init_device_mesh("cpu", (ranks,), mesh_dim_names=("ep",))
    experts.token_dispatcher.wire_meshes(ep_mesh=mesh["ep"])
    num, top_k = case["tokens"], case["top_k"]
    places = torch.arange(num * top_k).view(num, top_k)
    first = min(top_k, local)
    ids = places % case["experts"]
    if sends_all:  # the first experts are rank 0's; a token goes to each at most once
        ids[:, :first] = torch.arange(first)
        ids[:, first:] = local + places[:, first:] % max(1, case["experts"] - local)
    scores = torch.rand(num, top_k)
    counts = torch.bincount(ids.flatten(), minlength=case["experts"])
    x = torch.randn(num, case["hidden"], dtype=torch.bfloat16, requires_grad=True)
    seen = Allocations()
    with seen:
        for tensor in (*experts.parameters(), x, scores, ids, counts):
            seen.track(tensor)
        start = seen.now
        seen.mark("forward")
        out = experts(x, scores, ids, counts)
        kept = seen.now - start
        loss = out.float().sum()
        seen.mark("backward")
        loss.backward()
    return {"kept": kept, **{part: seen.peaks[part] - start for part in ("forward", "backward")}}


def main() -> None:
    """Print a row for each case."""
    dist.init_process_group("gloo")
    set_spmd_backend("partial_dtensor")
    for name, case in CASES.items():
        rows: dict[str, Any] = {word: counted(case, word == "all") for word in ("even", "all")}
        if dist.get_rank() == 0:
            print(json.dumps({"name": name, **case, "ranks": dist.get_world_size(), **rows}))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
