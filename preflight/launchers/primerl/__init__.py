"""prime-rl: its SFT and RL trainers read from their TOML; its own model code is named, and nothing is written back."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher
from preflight.shell.starters.program_names import program_name

PROGRAMS = ("sft", "rl", "trainer")
"""Of its environment, started by `uv run`; only with `@ FILE` are these names surely its own."""
SCRIPTS = ("prime_rl/trainer/sft/train.py", "prime_rl/trainer/rl/train.py")
MODULES = ("prime_rl.trainer.sft.train", "prime_rl.trainer.rl.train")


def is_ours(word: str) -> bool:
    """Tell whether a word is the script or the module that trains."""
    return word in MODULES or word.replace("\\", "/").endswith(SCRIPTS)


def _may_be_ours(command: LaunchCommand) -> bool:
    argv = command.argv
    return "@" in argv and (program_name(argv[0]) in PROGRAMS or any(map(is_ours, argv)))


LAUNCHER = Launcher(
    name="primerl",
    reader="preflight.launchers.primerl.cli:read_primerl",
    modules=MODULES,
    in_texts=rf"\b(?:{'|'.join(PROGRAMS)})[ \t]+@[ \t]",
    recognises=_may_be_ours,
    spellings={"seq_len": "data.seq_len = "},
)
