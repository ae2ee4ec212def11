"""Releases that a launch's own flags rule out: arguments that transformers or TRL no longer take.

Read in training_args.py of transformers 4.44.2, 4.50.0, 4.51.3, 4.56.2, 4.57.3 and 5.0.0, and in sft_config.py of TRL
0.9.6 to 0.24.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from preflight.command import LaunchCommand
from preflight.libraries.requirement import Clause


class Gone(NamedTuple):
    """Arguments of one library that it has no more."""

    library: str
    since: str
    """The first release without them."""
    arguments: tuple[str, ...]
    parsers: str = ""
    """Words of which a script must have one, where arguments of other programs are called so too."""


GONE = (
    Gone("transformers", "4.51.0", ("evaluation_strategy", "dispatch_batches")),
    Gone("transformers", "4.57.0", ("use_ipex",)),
    Gone(
        "transformers",
        "5.0.0",
        (
            "fp16_backend",
            "half_precision_backend",
            "include_inputs_for_metrics",
            "overwrite_output_dir",
            "push_to_hub_model_id",
            "push_to_hub_token",
            "save_safetensors",
            "tpu_num_cores",
        ),
        "TrainingArguments|SFTConfig|TrlParser",
    ),
    Gone("trl", "0.20.0", ("max_seq_length",), "SFTConfig|TrlParser"),
)
"""For each library the oldest release first."""
SUCCESSORS = {"evaluation_strategy": "eval_strategy"}
"""Argument that a script gives as a keyword too -> its name since: a script that knows both says nothing."""


def ruled_out(command: LaunchCommand) -> Iterator[tuple[str, Clause, str]]:
    """Yield library, what its release must be, and the flag or keyword that says so; the strictest of each library."""
    flags = {
        word[2:].partition("=")[0].replace("-", "_")
        for word in command.argv
        if word.startswith("--")
    }
    text, is_trls = _text(command), "trl" in _words(command)
    told: set[str] = set()
    for library, since, arguments, parsers in GONE:
        reads = not parsers or is_trls or re.search(parsers, text) is not None
        for name in arguments if reads and library not in told else ():
            if (name in flags and not _is_own(text, name)) or _is_keyword(text, name):
                told.add(library)
                yield library, Clause("<", since), f"--{name}" if name in flags else name
                break


def _words(command: LaunchCommand) -> set[str]:
    """Return the programs that a command may start, without their folders and modules: `trl` of `trl.scripts.sft`."""
    return {word.rpartition("/")[2].partition(".")[0] for word in command.argv}


def _text(command: LaunchCommand) -> str:
    script = command.named_script()
    try:
        return "" if script is None else command.read_text(script)
    except (OSError, UnicodeDecodeError):
        return ""


def _is_own(text: str, name: str) -> bool:
    """Tell whether a script defines an argument of that name itself."""
    if name not in text:
        return False
    return re.search(rf"""["'](?:--)?{name}["']|^[ \t]+{name}[ \t]*:""", text, re.M) is not None


def _is_keyword(text: str, name: str) -> bool:
    """Tell whether a script gives its TrainingArguments the argument, and knows of no other name for it."""
    return (
        name in SUCCESSORS
        and name in text
        and re.search(rf"^[^#\n]*\b{name}[ \t]*=[^=]", text, re.M) is not None
        and re.search(rf"\b{SUCCESSORS[name]}\b", text) is None
    )
