"""Peaks of small launches in several releases of transformers, of shapes and ways that no table was solved from.

`PYTHONPATH=. VENV/bin/python -m tests.formulas.release_peaks` prints a line for every case, traced with what is
installed in that environment; tests/formulas/release_peaks.jsonl keeps them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from preflight.derive.costs.release_costs import installed
from preflight.derive.layouts.small_models import plan_of, small_config
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.models import describe

ONE_KEY_HEAD = {"num_key_value_heads": 1}
GROUPED = {"num_key_value_heads": 3, "num_attention_heads": 12}
WINDOW = GROUPED | {"sliding_window": 400}
FALCON_GROUPS = {"new_decoder_architecture": True, "num_kv_heads": 3, "num_attention_heads": 12}
SDPA, EAGER, FLASH = ({"attention": name} for name in ("sdpa", "eager", "flash_attention_2"))
SHORT, LONG = {"micro_batch_size": 3, "seq_len": 320}, {"micro_batch_size": 2, "seq_len": 640}
ALONE = {"micro_batch_size": 1, "seq_len": 640}
PADDED = {"sequence_kind": "padded"}
Case = tuple[str, dict[str, Any], str, bool, dict[str, Any]]
CASES: dict[str, Case] = {
    "one key head": ("gemma", ONE_KEY_HEAD, "LoRA", False, SDPA | SHORT),
    "one key head, padded": ("gemma", ONE_KEY_HEAD, "full", False, SDPA | SHORT | PADDED),
    "one key head, eager": ("gemma", ONE_KEY_HEAD, "LoRA, autocast", False, EAGER | SHORT),
    "one key head, eager, one sequence": ("gemma", ONE_KEY_HEAD, "LoRA", False, EAGER | ALONE),
    "one key head, window": ("gemma3_text", ONE_KEY_HEAD, "full", False, SDPA | LONG),
    "one key head, window, eager": ("gemma3_text", ONE_KEY_HEAD, "LoRA", False, EAGER | LONG),
    "fp32 queries by flash": ("llama", {}, "full, autocast", False, FLASH | SHORT),
    "rotary in part, eager": ("phi3", GROUPED, "LoRA, autocast", False, EAGER | SHORT | PADDED),
    "fused projection, eager": ("gpt_neox", {}, "LoRA", False, EAGER | SHORT),
    "fused projection, padded": ("gpt_neox", {}, "full", False, SDPA | SHORT | PADDED),
    "softmax in fp32": ("gpt_bigcode", {}, "LoRA", False, EAGER | LONG),
    "scripted softmax": ("gpt_bigcode", {}, "LoRA, autocast", False, EAGER | LONG),
    "scores under a floor": ("opt", {}, "full, fp32", False, EAGER | LONG),
    "keys laid out for every query": (
        "falcon",
        FALCON_GROUPS,
        "LoRA, autocast",
        False,
        SDPA | LONG,
    ),
    "norms of queries, eager": ("olmo2", {}, "LoRA, autocast", False, EAGER | LONG),
    "groups, eager": ("qwen2", GROUPED, "LoRA", False, EAGER | LONG),
    "falcon, eager": ("falcon", {}, "LoRA", False, EAGER | SHORT),
    "capped scores by sdpa": ("gemma2_flash", WINDOW, "LoRA", False, SDPA | SHORT),
    "capped scores by sdpa, window": ("gemma2_flash", WINDOW, "full, autocast", False, SDPA | LONG),
    "capped scores by sdpa, padded": ("gemma2_flash", WINDOW, "QLoRA", False, SDPA | LONG | PADDED),
    "capped scores by flash": ("gemma2_flash", WINDOW, "LoRA", False, FLASH | LONG | PADDED),
    "capped scores, checkpointed": ("gemma2_flash", WINDOW, "full", True, SDPA | LONG),
    "window": ("gemma3_text", WINDOW, "LoRA, autocast", False, SDPA | LONG | PADDED),
    "window that is not left": ("gemma3_text", WINDOW, "LoRA", False, SDPA | SHORT),
}
"""Family, what its small config has otherwise, method, whether it is checkpointed, and what its plan has otherwise."""


def launch_of(name: str, versions: dict[str, str]) -> tuple[LaunchPlan, ModelSpec]:
    """Return the plan and the model of a case in some releases."""
    family, config, method, checkpointing, changes = CASES[name]
    spec = describe({**small_config(family, NUM_VARIANTS), **config}, family, "small_models.py")
    return plan_of(method, checkpointing, **changes, versions=versions), spec


def traced_peak(name: str) -> int:
    """Return the most bytes that a case has alive in its first two steps, with what is installed."""
    from preflight.trace.job import job_of
    from preflight.trace.run import trace

    return max(level.peak_bytes for level in trace(job_of(*launch_of(name, installed()))).levels)


def main() -> None:
    """Print a line for every case that the installed transformers can run."""
    for name in sys.argv[1:] or CASES:
        try:
            row = {"case": name, **installed(), "peak_bytes": traced_peak(name)}
        except Exception as error:  # a release without the type
            print(f"{name}: {error}", file=sys.stderr)
            continue
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
