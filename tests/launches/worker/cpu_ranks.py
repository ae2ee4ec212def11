"""The patches that let accelerate shard on a machine without an accelerator, the first one above all.

Stock accelerate (1.15, `PartialState._prepare_backend`) knows no distributed type for ranks that
have neither a GPU nor `use_cpu`, and `use_cpu` switches FSDP and DeepSpeed off. So an FSDP or DDP
launch exits 0 as several unsharded trainings. Said to be ("gloo", MULTI_GPU) on the CPU, the rest
of accelerate, torch and DeepSpeed does what it does with a GPU.
"""

from __future__ import annotations

import os
from typing import Any


def patch_state(state: Any) -> None:
    """Make a rank without a GPU a member of a gloo group."""
    stock = state.PartialState._prepare_backend

    def prepare_backend(
        self: Any, cpu: bool = False, sagemaker_dp: bool = False, backend: str | None = None
    ) -> tuple[str, Any]:
        import torch

        is_rank = int(os.environ.get("LOCAL_RANK", "-1")) != -1
        if cpu or sagemaker_dp or not is_rank or torch.cuda.is_available():
            return stock(self, cpu, sagemaker_dp, backend)
        # Without it DDP is given device_ids=[rank], which a CPU module refuses.
        os.environ["ACCELERATE_BYPASS_DEVICE_MAP"] = "true"
        self.device = torch.device("cpu")
        return "gloo", state.DistributedType.MULTI_GPU

    state.PartialState._prepare_backend = prepare_backend


def patch_fsdp1_plugin(dataclasses: Any) -> None:
    """Turn FSDP1's weight broadcast off: torch refuses it for CPU parameters.

    Ranks start equal all the same, because the scripts seed before they build the model.
    """
    plugin = dataclasses.FullyShardedDataParallelPlugin
    stock = plugin.__post_init__

    def post_init(self: Any) -> None:
        if self.fsdp_version in (None, 1) and os.environ.get("FSDP_VERSION", "1") == "1":
            self.sync_module_states = False
            os.environ["FSDP_SYNC_MODULE_STATES"] = "false"
            os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        stock(self)

    plugin.__post_init__ = post_init


def patch_bf16_check(training_args: Any) -> None:
    """Let `--bf16` through: the check asks for a GPU, gloo and CPU kernels do bf16."""
    training_args.is_torch_bf16_gpu_available = lambda: True


def patch_deepspeed_operator(comm: Any) -> None:
    """Let DeepSpeed do without its shared-memory operator: a minute of compiling, and gloo does what it does."""
    comm.build_shm_op = lambda: None


def patch_fsdp2_offload(api: Any) -> None:
    """Let FSDP2 keep its shards on the host without pinning them, which takes an accelerator."""
    api.CPUOffloadPolicy.__init__.__defaults__ = (False,)
