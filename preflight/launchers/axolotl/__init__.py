"""axolotl: its config, what it makes of it, and writing it back."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher


def _is_named(command: LaunchCommand) -> bool:
    return any("axolotl" in word for word in command.argv)


LAUNCHER = Launcher(
    name="axolotl",
    reader="preflight.launchers.axolotl.cli:read_axolotl",
    writer="preflight.launchers.axolotl.write:write_axolotl",
    programs=("axolotl",),
    modules=("axolotl.cli.main", "axolotl.cli", "axolotl"),
    subcommands=("train",),
    trains_nothing=("preprocess", "fetch", "merge-lora", "inference", "evaluate", "vllm-serve"),
    recognises=_is_named,
    packs_base=True,  # _set_quantization_config of axolotl 0.19.0 (loaders/model.py)
    shards_int8_base=True,  # axolotl/monkeypatch/fsdp2_qlora.py, 0.19.0
    offloads_activations="full_training",  # recomputation goes where it is on beside an adapter
    spellings={
        "chunked_loss": "chunked_cross_entropy: true",
        "lora": "adapter: lora, lora_r: 16, lora_alpha: 32, lora_target_linear: true",
        "qlora": "adapter: qlora, load_in_4bit: true, lora_r: 16, lora_alpha: 32, lora_target_linear: true",
        "seq_len": "sequence_len: ",
        "sharding": "deepspeed: deepspeed_configs/zero{stage}.json",
    },
)
