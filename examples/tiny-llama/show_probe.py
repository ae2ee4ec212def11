"""Prints what the ranks of the demo wrote down, and fails where the rewrite did not reach them."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: str) -> int:
    """Print one line per rank; return 1 where a rank was not sharded or did not recompute."""
    ranks = [json.loads(file.read_text()) for file in sorted(Path(folder).glob("rank-*.json"))]
    for rank in sorted(ranks, key=lambda rank: rank["rank"]):
        plan = rank["plan"]
        print(
            f"rank {rank['rank']} of {plan['world_size']}: {plan['engine']},"
            f" holds {rank['num_params_here']:,} of {rank['num_params']:,} parameters,"
            f" activation checkpointing {plan['activation_checkpointing']}"
            f" (each MLP ran {rank['num_mlp_calls'] // rank['num_micro_steps'] // rank['num_layers']}"
            f" times per micro step), micro batch {plan['micro_batch_size']}"
            f" x {plan['gradient_accumulation_steps']} micro steps,"
            f" loss {rank['losses'][0]:.2f} -> {rank['losses'][-1]:.2f}"
        )
    proven = len(ranks) == 2 and all(
        rank["plan"]["engine"] == "fsdp2"
        and rank["plan"]["world_size"] == 2
        and rank["plan"]["activation_checkpointing"] == "full"
        for rank in ranks
    )
    print("the rewrite reached both ranks" if proven else "the rewrite did not reach the ranks")
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
