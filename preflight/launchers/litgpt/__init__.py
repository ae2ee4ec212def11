"""litgpt: its training commands and config files, read and written back."""

from __future__ import annotations

from preflight.launchers.contract import Launcher

LAUNCHER = Launcher(
    name="litgpt",
    reader="preflight.launchers.litgpt.plan:read_litgpt",
    writer="preflight.launchers.litgpt.write:write_litgpt",
    programs=("litgpt",),
    modules=("litgpt",),
    subcommands=("finetune", "finetune_lora", "finetune_full", "pretrain"),
    trains_nothing=(
        *("chat", "download", "evaluate", "merge_lora", "serve", "validate"),
        *("convert_from_litgpt", "convert_pretrained_checkpoint", "convert_to_litgpt"),
        *("generate", "generate_adapter", "generate_adapter_v2", "generate_full"),
        *("generate_sequentially", "generate_speculatively", "generate_tp"),
    ),
    ranks_per_node_flag="--devices",
    trainer="litgpt",
    evaluates_micro_batch=True,
    spellings={"seq_len": "--train.max_seq_length "},
)
