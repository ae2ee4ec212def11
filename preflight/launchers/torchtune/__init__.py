"""torchtune: its recipes and configs, what it makes of them, and writing them back."""

from __future__ import annotations

from preflight.launchers.contract import Launcher

LAUNCHER = Launcher(
    name="torchtune",
    reader="preflight.launchers.torchtune.cli:read_torchtune",
    writer="preflight.launchers.torchtune.write:write_torchtune",
    programs=("tune",),
    modules=("torchtune._cli.tune",),
    subcommands=("run",),
    trains_nothing=("ls", "cp", "download", "validate", "cat"),
    ranks_per_node_flag="--nproc-per-node",
    trainer="torchtune",
    spellings={
        "chunked_loss": "loss._component_=torchtune.modules.loss.CEWithChunkedOutputLoss",
        "offload_optimizer": "fsdp_cpu_offload=True",
        "seq_len": "tokenizer.max_seq_len=",
    },
)
