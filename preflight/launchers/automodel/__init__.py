"""NeMo Automodel: its recipe for next-token training read; and written back; its other recipes named."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher
from preflight.shell.starters.program_names import program_name

PROGRAMS = ("automodel", "am")
MODULES = (
    "nemo_automodel.cli.app",
    "nemo_automodel._cli.app",
    "nemo_automodel.recipes.llm.train_ft",
)
"""The first from 0.4 on, the second before, the third started by hand."""
SCRIPTS = (
    "nemo_automodel/cli/app.py",
    "nemo_automodel/recipes/llm/train_ft.py",
    "examples/llm_finetune/finetune.py",
    "examples/llm_pretrain/pretrain.py",
)
ENDINGS = (".yaml", ".yml")


def is_ours(word: str) -> bool:
    """Tell whether a word is the module or the script that trains."""
    return word in MODULES or word.replace("\\", "/").endswith(SCRIPTS)


def _may_be_ours(command: LaunchCommand) -> bool:
    """Tell whether the words are those of Automodel; `am` is the name of other programs too."""
    argv = command.argv
    has_file = any(word.endswith(ENDINGS) for word in argv)
    return has_file and (program_name(argv[0]) in PROGRAMS or any(map(is_ours, argv)))


LAUNCHER = Launcher(
    name="automodel",
    reader="preflight.launchers.automodel.cli:read_automodel",
    writer="preflight.launchers.automodel.write:write_automodel",
    programs=PROGRAMS[:1],
    modules=MODULES,
    recognises=_may_be_ours,
    ranks_per_node_flag="--nproc-per-node",
    spellings={"seq_len": "--dataset.seq_length "},
)
