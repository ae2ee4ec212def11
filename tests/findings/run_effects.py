"""Show on real gloo ranks what the libraries do with settings that checks name; print experiment -> result as JSON.

Usage (on two ranks): run_effects.py [EXPERIMENT ...]
"""

from __future__ import annotations

import gc
import json
import sys
import traceback

import deepspeed_effects
import fsdp_effects
import quantized_effects
import torch.distributed as dist
import trainer_effects
from effect_ranks import EXPERIMENTS, clean

MODULES = (fsdp_effects, quantized_effects, trainer_effects, deepspeed_effects)


def main() -> None:
    gc.freeze()  # what imports left need not be gone through at every collection
    results = {}
    for name in sys.argv[1:] or EXPERIMENTS:
        try:
            results[name] = EXPERIMENTS[name]()
        except Exception:  # one that fails must not take the others' results with it
            results[name] = {"failed": traceback.format_exc()}
        clean()
        gc.collect()
    if dist.get_rank() == 0:
        print(json.dumps(results))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
