"""The local cache of the Hugging Face hub: which snapshot a load would use, whether it is whole, and the token."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from preflight.bool_words import HUB_VARIABLE
from preflight.files import read_bytes, read_text, readable_text
from preflight.lazy_pattern import lazy_pattern
from preflight.models.folder import ADAPTER_CONFIG, CONFIG

HUB_ID = lazy_pattern(r"[\w.-]+(/[\w.-]+)?")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WEIGHTS = (
    "model.safetensors",
    "pytorch_model.bin",
    "adapter_model.safetensors",
    "adapter_model.bin",
)


def home_folder(env: Mapping[str, str]) -> str:
    """Return HF_HOME as huggingface_hub finds it (constants.py, 1.0)."""
    cache = env.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return os.path.expanduser(env.get("HF_HOME") or os.path.join(cache, "huggingface"))


def cache_folder(env: Mapping[str, str] | None = None) -> str:
    """Return the hub cache as huggingface_hub finds it (constants.py, 1.0)."""
    env = os.environ if env is None else env
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return os.path.expanduser(env[name])
    return os.path.join(home_folder(env), "hub")


def find_snapshot(model: str, env: Mapping[str, str] | None = None) -> str | None:
    """Return the folder of the `main` snapshot that holds a config; None where none was downloaded."""
    repository = os.path.join(cache_folder(env), "models--" + model.replace("/", "--"))
    commit = readable_text(os.path.join(repository, "refs", "main")).strip()
    if not commit:
        return None
    snapshot = os.path.join(repository, "snapshots", commit)
    # A tokenizer may have been downloaded alone.
    if any(os.path.isfile(os.path.join(snapshot, name)) for name in (CONFIG, ADAPTER_CONFIG)):
        return snapshot
    return None


def missing_weights(snapshot: str) -> tuple[str, ...]:
    """Return the weight files that a snapshot should have and does not; a broken link counts as missing."""
    for index in INDEXES:
        try:
            listed = json.loads(read_text(os.path.join(snapshot, index)))
            names = sorted(set(map(str, listed["weight_map"].values())))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue
        return tuple(n for n in names if not os.path.isfile(os.path.join(snapshot, n)))
    if any(os.path.isfile(os.path.join(snapshot, name)) for name in WEIGHTS):
        return ()
    return (WEIGHTS[0],)


def is_offline(env: Mapping[str, str]) -> str | None:
    """Return the variable that keeps huggingface_hub from the network; None where none does (constants.py:194, 1.0)."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if env.get(name):
            return name if HUB_VARIABLE.read(env[name]) is True else None
    return None


def has_token(env: Mapping[str, str]) -> bool:
    """Tell whether huggingface_hub will send a token (get_token in utils/_auth.py, 1.0)."""
    if any(
        env.get(name, "").strip()
        for name in ("HF_OIDC_RESOURCE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    ):
        return True
    path = env.get("HF_TOKEN_PATH") or os.path.join(home_folder(env), "token")
    try:
        return bool(read_bytes(os.path.expanduser(path)).strip())
    except OSError:
        return False
