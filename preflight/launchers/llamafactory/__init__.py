"""LLaMA-Factory: its arguments, what it makes of them, and writing them back."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher


def _may_be_named(command: LaunchCommand) -> bool:
    return any(_names_it(command, word) for word in command.argv)


def _names_it(command: LaunchCommand, word: str) -> bool:
    """Tell whether a word names LLaMA-Factory, or a script that does; asked of every launch, so nothing is imported."""
    if "llamafactory" in word or word.endswith("lmf"):
        return True
    return word.endswith(".py") and "llamafactory" in command.readable_text(word)


LAUNCHER = Launcher(
    name="llamafactory",
    reader="preflight.launchers.llamafactory.cli:read_llamafactory",
    writer="preflight.launchers.llamafactory.write:write_llamafactory",
    programs=("llamafactory-cli", "lmf"),
    modules=("llamafactory.cli", "llamafactory"),
    subcommands=("train",),
    trains_nothing=("version", "env", "chat", "webchat", "api", "export", "help", "webui"),
    recognises=_may_be_named,
    packs_base=True,  # configure_quantization of LLaMA-Factory 0.9.5
    loads_as_checkpoint=True,
    offloads_activations="nothing",  # use_unsloth_gc forgets the random state of dropout
    spellings={
        "lora": "finetuning_type: lora, lora_rank: 16, lora_alpha: 32, lora_target: all",
        "qlora": "quantization_bit: 4, finetuning_type: lora, lora_rank: 16, lora_alpha: 32, lora_target: all",
        "seq_len": "cutoff_len: ",
    },
)
