"""The model that a folder holds which is not here yet, where the repository says what is trained or downloaded into it.

Recipes of several stages name the output of one as the model of the next. Training changes no shape, so the folder has
those of what the first stage starts from; and that may be a folder which a line of the recipe says to download it to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache

from preflight.files import read_text
from preflight.lazy_pattern import lazy_pattern
from preflight.models.registry import OtherName, find, named_by_folder

MOST_STAGES = 16
MOST_SCRIPTS = 200
ENDINGS = (".sh", ".bash", ".slurm", ".sbatch", "README.md")
_CONTINUED = lazy_pattern(r"\\\s*\n")
_OUTPUT = lazy_pattern(r"--(?:output|save)[-_](?:dir|path|folder)[ =]+[\"']?([^\s\"']+)")
_TRAINS = lazy_pattern(
    r"\b(?:accelerate|torchrun|deepspeed|torch\.distributed\.\w+|axolotl|llamafactory-cli|swift|trl|tune)\b(?! export)"
    r"|(?i:\w*(?:train|fine_?tun)\w*\.py\b|-m [\w.]*train|--(?:num|per_device)_train)"
)
"""A launch that trains: what expands, prunes or converts a model writes another one."""
_MODEL = lazy_pattern(
    r"--(?:base[-_])?(?:model|model[-_]name|model[-_]name[-_]or[-_]path|model[-_]path|pretrain)[ =]+[\"']?([^\s\"']+)"
)
_DOWNLOADS = lazy_pattern(r"(?i)(?<![a-z])download|\bgit clone\b")
_LOCAL = lazy_pattern(r"\blocal[-_]dir[ =]+[\"']?([^\s\"',)]+)")
_WORD = lazy_pattern(r"[^\s\"'`=<>(),]+")
_HUB = lazy_pattern(r"^https?://(?:huggingface\.co|hf\.co|hf-mirror\.com)/")


def named_elsewhere(path: str, cwd: str) -> OtherName | None:
    """Return the model of a folder that is not here: by its public name, else by the launch that writes it."""
    return named_by_folder(path) or named_by_launch(path, cwd)


def named_by_launch(path: str, cwd: str) -> OtherName | None:
    """Return the registry's model from which a launch of the repository trains what it writes to a folder.

    `path` is the folder as spelled, seen from `cwd`; None where no launch says that it writes there, or two differ.
    """
    stages = _stages(os.path.abspath(cwd))
    current = _plain(path)
    for _ in range(MOST_STAGES):
        bases = {_named(base) for base in stages.get(current, ())}
        if len(bases) != 1:
            return None
        (base,) = bases
        entry, _other = find(base)
        named = None if entry is not None else named_by_folder(base)
        model = entry.id if entry is not None else named.model if named is not None else ""
        if model:
            return OtherName(path, model, "output")
        current = _plain(base)
    return None


@lru_cache(maxsize=8)
def _stages(cwd: str) -> dict[str, set[tuple[str, ...]]]:
    """Return folder -> the models from which launches in the scripts of a repository train what they write there.

    Launches whose folder or model a variable gives are passed over. A line that downloads may name its model by any of
    its words: which is one, is asked where somebody wants that folder.
    """
    found: dict[str, set[tuple[str, ...]]] = {}
    for text in _scripts(_top(cwd)):
        for line in _CONTINUED.sub(" ", text).splitlines():
            output = _OUTPUT.search(line) if _TRAINS.search(line) else None
            model = _MODEL.search(line)
            if output is not None and model is not None and "$" not in output[1] + model[1]:
                found.setdefault(_plain(output[1]), set()).add((model[1].rstrip("/"),))
            elif _DOWNLOADS.search(line):
                for folder, words in _downloaded(line):
                    found.setdefault(folder, set()).add(words)
    return found


def _downloaded(line: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each folder that a line which downloads speaks of, with the words that may name a model."""
    words = dict.fromkeys(_HUB.sub("", word).rstrip(".:") for word in _WORD.findall(line))
    local = _LOCAL.search(line)
    folders = [word for word in words if "/" in word and "$" not in word]
    for folder in (*folders, *([] if local is None else [local[1]])):
        yield _plain(folder), tuple(each for each in words if each.count("/") == 1)


def _named(words: tuple[str, ...]) -> str:
    """Return the one of some words that names a model; empty where none does, or several do."""
    if len(words) == 1:
        return words[0]
    known = [word for word in words if find(word)[0] is not None]
    return known[0] if len(known) == 1 else ""


def _top(folder: str) -> str:
    """Return the top of the repository that a folder lies in; the folder itself where it lies in none."""
    above = folder
    while not os.path.exists(os.path.join(above, ".git")):
        parent = os.path.dirname(above)
        if parent == above:
            return folder
        above = parent
    return above


def _scripts(top: str) -> Iterator[str]:
    num_read = 0
    for root, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name[0] != "." and name != "node_modules")
        for name in sorted(name for name in names if name.endswith(ENDINGS)):
            num_read += 1
            if num_read > MOST_SCRIPTS:
                return
            try:
                yield read_text(os.path.join(root, name))
            except (OSError, ValueError):
                continue


def _plain(path: str) -> str:
    return os.path.normpath(path)
