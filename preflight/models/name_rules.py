"""What the name of a model on the hub says of its shape: the stem, which decides it, and how a copy is packed.

`unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit` has the stem `llama 3.1 8b` and the packing `bnb-4bit`. Two names with one
stem have one shape: of 367 pairs of one owner, and of 690 of two owners, that the model database of llmfit 1.1.17
(PyPI) lists with their sizes, none differs but for draft heads, which `DRAFTS` names. Every number of a name is in its
stem, so names that differ in a size or a version never have one.
"""

from __future__ import annotations

import re
from functools import lru_cache

from preflight.lazy_pattern import lazy_pattern

STAGES = frozenset({"base", "pt", "instruct", "it", "chat", "thinking", "sft", "dpo", "hf", "meta"})
"""Words that say how far a model was trained, or who made it, and nothing of its shape."""

PACKING = lazy_pattern(
    r"[-_.](?:quantized[-_.])?(unsloth-bnb-4bit|bnb-4bit|bnb-8bit|awq|gptq|gguf|mlx|fp8|nvfp4|mxfp4|aqlm|hqq|exl[23]"
    r"|int[48]|w[48]a(?:16|8)|[48]bit)(?:[-_.].*)?$"
)
"""How the weights of a copy are packed, as its name ends, and what else follows that."""

DRAFTS = frozenset(
    {"eagle", "dflash", "dspark", "dflare", "domino", "medusa", "draft", "assistant"}
)
"""Words of small models that guess ahead for a large one, whose name they have."""
PARTS = frozenset({"lora", "qlora", "adapter", "adapters", "projector", "encoder", "tokenizer"})
"""Words of what is no whole model."""
TOWERS = frozenset({"vl", "vision", "omni", "audio", "speech", "llava", "reranker", "moe"})
"""Words of models that have more, or another head, than the one whose name they have."""

_SIZE = lazy_pattern(r"\d+(\.\d+)?[bm]\d?$|\d+x\d+")
"""`7b`, BLOOM's `7b1`, which is 7.1 B, and `8x7b`."""
_NUMBERS = lazy_pattern(r"(?:^| )(?=\d)")


@lru_cache(maxsize=8192)
def stem_of(name: str) -> str:
    """Return the words of a name that decide the model's shape, by spaces: family, version and sizes."""
    last = name.strip().strip("/").lower().rsplit("/", 1)[-1]
    words = re.findall(r"\d[a-z0-9.]*|[^\W\d_]+", PACKING.sub("", last))
    return " ".join(word.rstrip(".") for word in words if word not in STAGES)


def packing_of(name: str) -> str:
    """Return how a name says that its weights are packed: `bnb-4bit`, `awq`, ...; empty where it does not."""
    found = PACKING.search(name.lower())
    return found.group(1) if found else ""


def owner_of(name: str) -> str:
    """Return who owns a model on the hub, in lower case; empty for a name without an owner."""
    return name.strip("/").rpartition("/")[0].lower()


def is_sized(stem: str) -> bool:
    """Tell whether a stem has a number, without which it names a family and no shape."""
    return any(character.isdigit() for character in stem)


def has_size(name: str) -> bool:
    """Tell whether a name says how many parameters its model has."""
    return any(_SIZE.match(word) for word in stem_of(name).split())


def family_of(stem: str) -> str:
    """Return the words of a stem before its first number."""
    return _NUMBERS.split(stem)[0]


def is_unversioned(stem: str) -> bool:
    """Tell whether a stem names a family and a size alone: `qwen 7b`, which people call every version of it."""
    return _SIZE.fullmatch(stem.removeprefix(f"{family_of(stem)} ")) is not None


def versioned(stem: str, version: str) -> bool:
    """Tell whether a stem is an unversioned one of a version: `qwen 2.5 7b` of `qwen 7b`."""
    family = family_of(stem)
    size = re.escape(stem.removeprefix(family))
    return re.fullmatch(rf"{re.escape(family)}(?: \d[\d.]*)+{size}", version) is not None


def shorter_stems(stem: str) -> tuple[str, ...]:
    """Return the beginnings of a stem that a model tuned from another has of it, the longest first.

    A beginning holds a size, what follows holds none, and no word of a draft, a part or another kind of model.
    """
    words = stem.split()
    sized = [place for place, word in enumerate(words) if _SIZE.match(word)]
    if not sized or not DRAFTS.isdisjoint(words):
        return ()
    return tuple(
        " ".join(words[:end])
        for end in range(len(words) - 1, sized[-1], -1)
        if (PARTS | TOWERS).isdisjoint(words[end:])
    )
