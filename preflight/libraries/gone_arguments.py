"""Releases that a launch's own arguments rule out: those that its parser's classes in transformers or TRL have no more.

gone_arguments.json says for each class which argument left with which release
(`python -m preflight.derive gone_arguments`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise

from preflight.command import LaunchCommand
from preflight.libraries.requirement import Clause
from preflight.own_tables import beside, read_table
from preflight.versions.boundary import release

LIBRARIES = ("transformers", "trl")
ALONE = ("evaluation_strategy", "dispatch_batches")
"""Arguments that no other program has: of transformers' parser, whether a script names that or imports what does."""
SUCCESSORS = {"evaluation_strategy": "eval_strategy"}
"""Argument that a script gives as a keyword too -> its name since: a script that knows both says nothing."""
OF_A_SCRIPT = ("ModelConfig", "ScriptArguments")
"""Classes of TRL whose arguments its own scripts take beside those of the trainer."""
KEY = re.compile(r"^([a-z_]\w*)[ \t]*:", re.M)
"""A key of a file of arguments."""

Gone = Mapping[str, str]
"""Argument -> the first release without it."""


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Mapping[str, Gone]]:
    found: Mapping[str, Mapping[str, Gone]] = read_table(beside(__file__, "gone_arguments.json"))
    return found


def gone_from_trl(method: str) -> dict[str, tuple[str, str]]:
    """Return what the parser of a method of TRL's command line has no more: argument -> library, first release without it."""
    return {
        name: (library, since)
        for library in LIBRARIES
        for each in ("TrainingArguments", *OF_A_SCRIPT, *_classes_of(method))
        for name, since in _table()[library].get(each, {}).items()
    }


def ruled_out(command: LaunchCommand) -> Iterator[tuple[str, Clause, str]]:
    """Yield library, what its release must be, and the argument that says so; the strictest of each library."""
    text = _text(command)
    given = dict(_given(command, text))
    for library in LIBRARIES:
        gone = _gone(library, command, text)
        if library == "transformers":
            ours = _table()[library]["TrainingArguments"]
            gone = {**{name: ours[name] for name in ALONE}, **gone}
        said = {
            name: f"--{name}" if given.get(name) == "" else given.get(name, name)
            for name in gone
            if (name in given and not _is_own(text, name)) or _is_keyword(text, name)
        }
        if said:
            first = min(said, key=lambda name: release(gone[name]))
            yield library, Clause("<", gone[first]), said[first]


def _gone(library: str, command: LaunchCommand, text: str) -> dict[str, str]:
    """Return what the classes of a launch's parser have no more; of several trainers' what each of them lost."""
    table = _table()[library]
    words = [word.rpartition("/")[2].partition(".")[0] for word in command.argv]
    method = next((w for w in _after(command.argv, words) if _classes_of(w)), None)
    classes = {name for name in table if name in text and re.search(rf"\b{name}\b", text)}
    if method is not None:
        classes = {*_classes_of(method), *OF_A_SCRIPT} & set(table)
    if library == "transformers":
        is_trls = method is not None or "TrlParser" in text or "SFTConfig" in text
        return dict(table["TrainingArguments"]) if classes or is_trls else {}
    beside, trainers = classes & {*OF_A_SCRIPT}, sorted(classes - {*OF_A_SCRIPT})
    found = {name: since for each in sorted(beside) for name, since in table[each].items()}
    for name in set.intersection(*(set(table[each]) for each in trainers)) if trainers else ():
        found[name] = max((table[each][name] for each in trainers), key=release)
    return found


def _after(argv: tuple[str, ...], words: list[str]) -> Iterator[str]:
    """Yield what may be the method of TRL's command line: `sft` of `trl sft` and of `-m trl.scripts.sft`."""
    for before, word, whole in zip(words, words[1:], argv[1:], strict=False):
        if before == "trl":
            yield word
        if whole.startswith("trl.scripts."):
            yield whole.rpartition(".")[2]


def _classes_of(method: str) -> tuple[str, ...]:
    """Return the class of the arguments of a method of TRL's: SFTConfig of sft."""
    wanted = f"{method.replace('_', '').replace('-', '')}config"
    return tuple(name for name in _table()["trl"] if name.lower() == wanted)


def _given(command: LaunchCommand, text: str) -> Iterator[tuple[str, str]]:
    """Yield the arguments of a launch: those of a file with where they are, then flags with nothing."""
    words = command.argv
    for flag, path in pairwise(words):
        if flag == "--config" and ("Trl" in text or "trl" in words) and command.exists(path):
            try:
                keys = KEY.finditer(command.read_text(path))
                yield from ((key[1], f"{path}: {key[1]}") for key in keys)
            except (OSError, UnicodeDecodeError):
                continue
    for word in words:
        if word.startswith("--"):
            yield word[2:].partition("=")[0].replace("-", "_"), ""


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
