"""Python runs this file at the start of every process of a test launch: it is first on PYTHONPATH.

It imports nothing heavy. It writes down that a process started, and patches a library right
after somebody imports it. The training scripts are a user's and stay untouched.
"""

from __future__ import annotations

import os
import sys

from fork_client import HOST, hand_over, is_fork

PATCHES: dict[str, list[tuple[str, str]]] = {}
"""Module that is imported -> (our module, our function that is called with it)."""

if os.environ.get("PREFLIGHT_TEST_CPU_RANKS") == "1":
    PATCHES["accelerate.state"] = [("cpu_ranks", "patch_state")]
    PATCHES["accelerate.utils.dataclasses"] = [("cpu_ranks", "patch_fsdp1_plugin")]
    PATCHES["torch.distributed.fsdp._fully_shard._fsdp_api"] = [
        ("cpu_ranks", "patch_fsdp2_offload")
    ]
    PATCHES["deepspeed.comm.torch"] = [("cpu_ranks", "patch_deepspeed_operator")]
    PATCHES["transformers.training_args"] = [("cpu_ranks", "patch_bf16_check")]
if os.environ.get("PREFLIGHT_TEST_PROBE"):
    PATCHES["torch.autograd.graph"] = [("probe_settings", "patch_graph")]
    PATCHES["accelerate.accelerator"] = [("probe", "patch_accelerator")]
    PATCHES["transformers.trainer"] = [("probe", "patch_trainer")]


class PatchAfterImport:
    """A finder that lets the usual ones find a module and adds our patch to its execution."""

    searching = False

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> object:
        if cls.searching or name not in PATCHES:
            return None
        import importlib.util

        cls.searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            cls.searching = False
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: object) -> None:
            execute(module)
            for ours, function in PATCHES[name]:
                getattr(importlib.import_module(ours), function)(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def start_as(pid: int, argv: list[str]) -> None:
    """Make a fork the process that it stands for; no finder sees the modules that it found imported."""
    import importlib

    if os.environ.get("PREFLIGHT_TEST_PROBE"):
        import probe_process

        probe_process.record(pid, argv)
    for name in [name for name in PATCHES if name in sys.modules]:
        for ours, function in PATCHES[name]:
            getattr(importlib.import_module(ours), function)(sys.modules[name])


if HOST in os.environ and not is_fork():
    hand_over()

for hidden in filter(None, os.environ.get("PREFLIGHT_TEST_HIDDEN", "").split(",")):
    sys.modules.setdefault(hidden, None)  # type: ignore[arg-type]

if PATCHES:
    sys.meta_path.insert(0, PatchAfterImport)  # type: ignore[arg-type]

if os.environ.get("PREFLIGHT_TEST_PROBE") and not is_fork():
    import probe_process

    probe_process.record(os.getpid(), sys.orig_argv)
