"""The shipped models: configs and exact parameter counts by hub id, and the other names of the same shapes.

`models.tsv` has a model a line, `names.tsv` another name of one a line. Both are sorted by what a name says of its
model's shape (name_rules.py), so a lookup reads a few blocks of each, and finds siblings of an unknown name beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from preflight.lazy_pattern import lazy_pattern
from preflight.model import BY_FOLDER
from preflight.models.name_rules import (
    family_of,
    has_size,
    is_sized,
    is_unversioned,
    owner_of,
    packing_of,
    shorter_stems,
    stem_of,
    versioned,
)
from preflight.own_tables import lines_of
from preflight.values import dataclass, replace

FOLDER = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(FOLDER, "models.tsv")
NAMES = os.path.join(FOLDER, "names.tsv")

EVIDENCE = {
    "count": "it has the same architecture and published parameter count",
    "listed": "a public list of models names it as a copy",
    "stated": "public sources give it the same shapes",
    "name": "by its name alone",
    "sibling": "by the rule that siblings of one name have one shape",
    "folder": BY_FOLDER,
    "output": "this repository says that it is trained from that, or downloaded",
}
"""How it is known that a name has the shapes of a model -> in words."""
GUESSES = ("name", "sibling", "folder")
"""Evidence that nobody looked at: a rule, or a name."""
NO_RULE_FOR = frozenset(
    {
        *("onnx-community", "xenova", "mlx-community", "thebloke", "mobilint"),
        *(
            ".",
            "..",
            "~",
            "model",
            "models",
            "checkpoint",
            "checkpoints",
            "ckpt",
            "ckpts",
            "output",
        ),
        *("outputs", "out", "data", "pretrained", "pretrained_models", "weights", "llm", "llms"),
    }
)
"""Owners whose copies are packed whatever their names say, and words that stand for a folder: no rule is for them."""
TRAINED = frozenset({"out", "output", "outputs", "result", "results", "run", "runs", "saves"})
"""Folders that trainings write to: what lies in them has the name that somebody gave a run."""
_HUB_CACHE = lazy_pattern(r"(?:^|/)models--([^/]+?)--([^/]+)(?:/snapshots(?:/[^/]+)?)?/?$")
"""A folder of the hub's cache, whole or one snapshot of it (huggingface_hub/file_download.py repo_folder_name, 1.0)."""
_ID_IN_NAME = lazy_pattern(r"([a-z\d-]+?)(?:--|__?)([\w.-]+)")
"""An id whose slash a folder's name cannot have."""
_LEFT_OUT = lazy_pattern(r"(?<=\d)-(?=\d(?:-[^/]*)?/?$)|___")
"""What stands for a point: a dash in the last part of a path between what may be the two numbers of a version, and what
ModelScope's cache has (hub/utils/utils.py get_model_masked_directory, 1.40.2)."""
SAME = 0.001
"""Share by which parameter counts of one shape may differ: a few rows of the vocabulary."""


@dataclass(frozen=True)
class RegistryEntry:
    """One model of the registry."""

    id: str
    num_params: int
    checked: str
    """exact: equals the published count; rounded: agrees with the published name; else how far it was checked."""
    is_gated: bool
    source: str
    """Where the sizes were read, in public."""
    config: Mapping[str, Any]


@dataclass(frozen=True)
class OtherName:
    """A name on the hub that has the shapes of a model of the registry."""

    name: str
    model: str
    """The id of the registry's model."""
    evidence: str
    """A key of EVIDENCE."""
    max_positions: int | None = None
    """Its longest position, where that is another."""
    packing: str = ""
    """How its weights are packed, as name_rules.py says it; empty where they are not."""

    @property
    def has_its_dtype(self) -> bool:
        """Whether the weights are stored as the model's: somebody else may have saved a tuned copy in any dtype."""
        return owner_of(self.name) == owner_of(self.model) or self.evidence in ("listed", "stated")


def find_model(name: str) -> RegistryEntry | None:
    """Return the entry of a hub id or of another name of it, in any case; None where there is none."""
    entry, _ = find(name)
    return entry


def find(name: str) -> tuple[RegistryEntry | None, OtherName | None]:
    """Return the entry of a name in any case, and where that is not the entry's own id, why it is the same."""
    wanted = name.strip().strip("/").lower()
    models = _models_beside(stem_of(wanted))
    for entry in models:
        if entry.id.lower() == wanted:
            return entry, None
    names = _names_beside(stem_of(wanted))
    other = next((n for n in names if n.name.lower() == wanted), None)
    if other is None:
        other = _by_rule(wanted, models, names)
    if other is None:
        return None, None
    listed = {entry.id: entry for entry in models}
    return listed.get(other.model) or entry_of(other.model), other


def named_by_folder(path: str) -> OtherName | None:
    """Return what a folder is called by its name, or by that with the points that its writer left out (`vicuna-7b-v1-5`)."""
    named = _named_by_folder(path)
    pointed = _LEFT_OUT.sub(".", path)
    other = _named_by_folder(pointed) if named is None and pointed != path else None
    return named if other is None else replace(other, name=path)


def _named_by_folder(path: str) -> OtherName | None:
    """Return the model whose public name, in any case, a folder has that is not here; None where nobody knows one.

    The name is a model's own, or one with a size that its owner or a public list gives it, or it says as much of a shape
    as such a name (`llama2-7b`, `Qwen2.5-7B-Base`), and belongs to one shape; without a number it is whole a name that the
    hub has had without an owner (`roberta-large`); a folder of the hub's cache has the id in
    its name, and others are called by it (`EleutherAI_pythia-6.9b`). A name that begins with a size has its family in that
    of the folder above.
    """
    cached = _HUB_CACHE.search(path.replace("\\", "/"))
    if cached is not None:
        entry, other = find("/".join(cached.groups()))
        packing = "" if other is None else other.packing
        return None if entry is None else OtherName(path, entry.id, "folder", packing=packing)
    *above, last = ["", *(part for part in path.lower().replace("\\", "/").split("/") if part)]
    if not TRAINED.isdisjoint(above):
        return None
    is_joined = bool(above) and not family_of(stem_of(last))
    if is_joined:  # `vicuna/7B-v1.5`, as the weights of LLaMA came: LLaMA/7B
        last = f"{above[-1]}-{last}"
    by_id = _ID_IN_NAME.fullmatch(last)
    entry, other = find("/".join(by_id.groups())) if by_id is not None else (None, None)
    if entry is not None and (other is None or other.evidence not in ("sibling", "name")):
        packing = "" if other is None else other.packing
        return OtherName(path, entry.id, "folder", packing=packing)
    models, names = _models_beside(stem_of(last)), _names_beside(stem_of(last))
    if not is_sized(stem_of(last)):  # `roberta-large`: what the hub has had without an owner
        own = next((each for each in names if each.name == last), None)
        return None if own is None else replace(own, name=path, evidence="folder")
    of_models = [OtherName(entry.id, entry.id, "folder") for entry in models]
    of_owners = [name for name in names if name.has_its_dtype and has_size(last)]
    beside = (*of_models, *of_owners)
    called = [each for each in beside if _last_of(each.name) == last and not is_joined]
    others: tuple[str, ...] = ()
    if not called and has_size(last) and not packing_of(last):
        called = [each for each in beside if not each.packing]
        others = _other_versions(stem_of(last))
    ids = tuple(dict.fromkeys(each.model for each in called))
    if not ids or not _are_one_shape((*ids, *others), models):
        return None
    return replace(called[0], name=path, evidence="folder")


def models_like(name: str) -> tuple[str, ...]:
    """Return ids of the models that a name says it was made from, three at most, whoever owns them: as sure as the name is true."""
    stem = stem_of(name)
    for one in (stem, *shorter_stems(stem)):
        if not is_sized(one):
            continue
        models, names = _models_beside(one), _names_beside(one)
        unpacked = (other.model for other in names if other.evidence not in GUESSES)
        found = dict.fromkeys((*(entry.id for entry in models), *unpacked))
        if found and _are_one_shape(tuple(found), models):
            return tuple(found)[:3]
    return ()


def are_alike(first: str, second: str) -> bool:
    """Tell whether two names are of one shape, as far as names tell: their own, or the model that they say they were made from."""
    return first.lower() == second.lower() or not _made_from(first).isdisjoint(_made_from(second))


def _made_from(name: str) -> frozenset[str]:
    entry = find_model(name)
    return frozenset(models_like(name) if entry is None else (entry.id,))


def all_models() -> Iterator[RegistryEntry]:
    """Yield every entry, in the order of the file."""
    for line in _lines(MODELS):
        yield _entry(line)


def all_names() -> Iterator[OtherName]:
    """Yield every other name, in the order of the file."""
    for line in _lines(NAMES):
        yield _other_name(line)


@lru_cache(maxsize=1)
def own_names() -> Mapping[str, tuple[str, ...]]:
    """Return the id of each model -> itself, and the other names that its owner has for the same shapes, unpacked."""
    names = {entry.id: [entry.id] for entry in all_models()}
    for other in all_names():
        if owner_of(other.name) == owner_of(other.model) and not other.packing:
            names[other.model].append(other.name)
    return {id: tuple(some) for id, some in names.items()}


def line_key(line: str) -> tuple[str, str]:
    """Return what the lines of both files are sorted by: what the name says of the shape, then the name."""
    name = line.partition("\t")[0]
    return stem_of(name), name.lower()


def _models_beside(stem: str) -> tuple[RegistryEntry, ...]:
    return tuple(_entry(line) for line in lines_of(MODELS, _stem, stem))


def _names_beside(stem: str) -> tuple[OtherName, ...]:
    return tuple(_other_name(line) for line in lines_of(NAMES, _stem, stem))


def _by_rule(
    name: str, models: tuple[RegistryEntry, ...], names: tuple[OtherName, ...]
) -> OtherName | None:
    """Return what the names beside one say of it: base, chat and copies of one family, version and size are one shape."""
    owner = owner_of(name)
    is_of_hub = name.count("/") == 1 and owner not in ("", *NO_RULE_FOR)
    if not is_of_hub or not is_sized(stem_of(name)):
        return None
    looked_at = [(entry.id, entry.id) for entry in models]
    looked_at += [(n.name, n.model) for n in names if n.evidence not in GUESSES]
    of_owner = [model for known, model in looked_at if owner_of(known) == owner]
    found = tuple(dict.fromkeys(of_owner or (model for _, model in looked_at)))
    called = of_owner or any(_last_of(known) == _last_of(name) for known, _ in looked_at)
    others = () if called else _other_versions(stem_of(name))
    if not found or not _are_one_shape((*found, *others), models):
        return None
    evidence = "sibling" if of_owner else "name"
    return OtherName(name, found[0], evidence, packing=packing_of(name))


def _other_versions(stem: str) -> tuple[str, ...]:
    """Return the models of the versions of a family that a name without one may mean too: Qwen2.5-7B by `qwen7b-sft`."""
    if not is_unversioned(stem):
        return ()
    family = family_of(stem)
    beside = lines_of(MODELS, lambda line: family_of(_stem(line)), family)
    return tuple(line.partition("\t")[0] for line in beside if versioned(stem, _stem(line)))


def _are_one_shape(ids: tuple[str, ...], models: tuple[RegistryEntry, ...]) -> bool:
    """Tell whether models that are listed apart differ in no more than rows of the vocabulary."""
    if len(ids) == 1:
        return True
    known = {entry.id: entry for entry in models}
    entries = [known.get(id) or entry_of(id) for id in ids]
    counts = [entry.num_params for entry in entries if entry is not None]
    types = {entry.config.get("model_type") for entry in entries if entry is not None}
    return len(types) == 1 and max(counts) <= min(counts) * (1 + SAME)


def entry_of(id: str) -> RegistryEntry | None:
    """Return the entry of a model's own id; None where the registry has no such."""
    return next((e for e in _models_beside(stem_of(id)) if e.id == id), None)


def _last_of(name: str) -> str:
    return name.lower().rpartition("/")[2]


def _stem(line: str) -> str:
    return stem_of(line.partition("\t")[0])


def _lines(path: str) -> Iterator[str]:
    with open(path, encoding="utf-8") as file:
        yield from (line.rstrip("\n") for line in file if not line.startswith("#"))


def _entry(line: str) -> RegistryEntry:
    identifier, num_params, checked, access, source, config = line.split("\t")
    return RegistryEntry(
        identifier, int(num_params), checked, access == "gated", source, json.loads(config)
    )


def _other_name(line: str) -> OtherName:
    name, model, evidence, positions, packing = line.split("\t")
    return OtherName(name, model, evidence, int(positions) if positions else None, packing)
