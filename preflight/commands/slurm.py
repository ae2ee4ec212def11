"""`slurm`: what preflight does for a whole cluster; each of its words is a module of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from preflight.commands.options import add_output_options, first_positional
from preflight.commands.parser import Parser
from preflight.errors import BadInput
from preflight.near_names import nearest_fix

WORDS: dict[str, tuple[str, str]] = {
    "install": ("slurm_guard", "put the guard of sbatch in place: on clients, on the controller"),
    "uninstall": ("slurm_guard", "take it away again"),
    "hook": ("slurm_hook", "inside a job: check every srun launch before its first rank starts"),
    "audit": (
        "slurm_audit",
        "what the guard would have done about a folder of scripts, or recent jobs",
    ),
    "status": ("slurm_guard", "what is in place, what slurm.conf says, and whether it works"),
}
"""Word -> its module in `preflight.commands`, and one line about it."""


def parser(name: str) -> Parser:
    """Return what stands before the word."""
    listed = "\n".join(f"  {word:10} {about}" for word, (_, about) in WORDS.items())
    parser = Parser(
        name,
        f"Check jobs where they are submitted, for a whole cluster.\n\n{listed}",
        "preflight slurm WORD [options]",
        "`preflight slurm WORD --help` says more about one word;\n"
        "the page slurm-site.md of the documentation has all of it.\n",
    )
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Run one word of `slurm`; return its exit code."""
    declared = parser(name)
    at = first_positional(declared, args)
    if at >= len(args):
        declared.parse_args(args or ["--help"])
        raise BadInput.one("`slurm` needs a word", fix=f"one of {', '.join(WORDS)}")
    word = args[at]
    if word not in WORDS:
        fix = nearest_fix(word, tuple(WORDS)) or f"one of {', '.join(WORDS)}"
        raise BadInput.one(f"`slurm` has no word {word!r}", fix=fix)
    module = importlib.import_module(f"preflight.commands.{WORDS[word][0]}")
    started: Callable[[str, list[str]], int] = module.run
    return started(word, [*args[:at], *args[at + 1 :]])
