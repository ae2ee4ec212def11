"""The dtype of a model that is loaded without one, by the library and the release that loads it."""

from __future__ import annotations

from preflight.reading import Problems
from preflight.trainers.lookup import Given
from preflight.values import NamedTuple

TORCHS = "float32"
"""torch.get_default_dtype(), which from_pretrained takes before transformers 5."""
OF_PACKED = "float16"
"""What it takes then for a model that bitsandbytes packs (quantizers/quantizer_bnb_4bit.py update_torch_dtype, 4.40.0 and
4.48.0; update_dtype, 4.57.0; modeling_utils.py before; none in 5.0.0)."""


class DefaultDtype(NamedTuple):
    """A dtype that nobody said."""

    library: str
    """Whose rule it is."""
    word: str
    """float32, float16, or auto: the checkpoint's own."""


def default_dtype(given: Given, is_by_trl: bool) -> DefaultDtype:
    """Return what a model is loaded in for which no dtype is given, by TRL or by the script's from_pretrained."""
    word = given.versions.default("trl", "load_dtype") if is_by_trl else None
    if word is not None:
        return DefaultDtype("trl", word)
    word = given.versions.default("transformers", "load_dtype")
    return DefaultDtype("transformers", OF_PACKED if word == TORCHS and _is_packed(given) else word)


def _is_packed(given: Given) -> bool:
    problems = Problems()
    said = (problems.take(given.find(f"load_in_{bits}bit")).setting for bits in (4, 8))
    return any(setting is not None and setting.value is True for setting in said)
