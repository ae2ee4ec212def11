"""Training scripts that read no command line: a flag behind them reaches nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator

from preflight.errors import Problem
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.imported_files import LIBRARIES
from preflight.scripts.python.repository_files import IMPORT, MOST_FILES, repository_files

READS = lazy_pattern(
    r"\bargv\b|\w*[Pp]arser?\b|\bparse_\w+|\bargs\b|\b(?:absl|chz|click|docopt|draccus|fire|getopt|hydra|optparse|"
    r"jsonargparse|simple_parsing|typer|tyro)\b|from_cli|\bcli\b|\w*CLI\b"
)
"""Words of which every script that reads its command line has one."""

QUIET = frozenset(
    [
        "bitsandbytes", "datasets", "dotenv", "einops", "evaluate", "flash_attn", "huggingface_hub", "matplotlib",
        "nltk", "numpy", "pandas", "PIL", "psutil", "rouge_score", "sacrebleu", "safetensors", "scipy",
        "sentencepiece", "sklearn", "tokenizers", "tqdm", "wandb", "yaml",
    ]
)  # fmt: skip
"""Libraries beside LIBRARIES that read no command line of the script that imports them."""

_KEYWORD = lazy_pattern(r"\bargs\s*=(?!=)|\*args\b")
"""`Trainer(args=...)` and `launch(args=...)` name a parameter, and so does `def wrapper(*args)`."""
_SETTINGS = lazy_pattern(
    r"^[ \t]*args\s*(?::[^=\n]+)?=\s*[\w.]*(?:Config|Arguments)\(", re.MULTILINE
)
"""`args = SFTConfig(...)`: what the script calls its arguments was made here, and not of the command line."""
_ARGS = lazy_pattern(r"\bargs\b")


def unheard_flags(words: Iterable[str], command: LaunchCommand, script: str) -> Problem | None:
    """Return that the flags behind a script reach nothing; None where there is none, or the script may read them."""
    flags = [word.partition("=")[0] for word in words if word[:2] == "--"]
    if not flags or not _reads_none(command, script):
        return None
    first, more = flags[0], len(flags) - 1
    named = f"{first} and {more} more flags reach" if more else f"{first} reaches"
    return Problem(
        f"{script} reads no command line: {named} nothing",
        first,
        "set it in the script's own text, or give the script a parser (HfArgumentParser, TrlParser)",
        "PF122",
        "warning",
    )


def _reads_none(command: LaunchCommand, script: str) -> bool:
    """Tell whether neither a script nor a file of its repository that it imports has a word that reads a command line."""
    texts: dict[str, str] = {}
    for path, text in repository_files(command, script):
        if READS.search(_unnamed(text)):
            return False  # most scripts have a parser in their first file: the others are not read
        texts[path] = text
    if not texts or len(texts) == MOST_FILES:
        return False
    stems = {part for path in texts for part in re.split(r"[/\\.]", path)}
    return all(
        module in LIBRARIES
        or module in QUIET
        or module in sys.stdlib_module_names
        or module in stems
        for text in texts.values()
        for module in _modules(text)
    )


def _unnamed(text: str) -> str:
    """Return a text without the word `args` where it is the name of a parameter, or of settings made in the text."""
    return (_ARGS if _SETTINGS.search(text) else _KEYWORD).sub("", text)


def _modules(text: str) -> Iterator[str]:
    """Yield the first parts of the names of the modules that a file imports from outside its package."""
    for package, _, several in IMPORT.findall(text):
        for each in several.split(",") if several else [package]:
            name = each.split()[0] if each.split() else ""
            if not name.startswith("."):
                yield name.partition(".")[0]
