"""Getting a model's config.json from the hub, into the hub's own cache, where somebody asks for that: `--online`."""

from __future__ import annotations

import logging
import os
from functools import lru_cache

from preflight.deadline import TimeUp, call_within
from preflight.errors import BadInput
from preflight.models import lays_out
from preflight.models.folder import CONFIG, INDEX, read_config
from preflight.models.hub_cache import HUB_ID, cache_folder, find_snapshot

LONGEST_WAIT_S = 15
"""For two small files; the library itself would try five times, for half a minute, where no network is."""


@lru_cache(maxsize=64)
def download_config(model: str | None, folder: str) -> str:
    """Put the config of a model of the hub into the cache, unless it is there; return why that failed, or nothing.

    `folder` is where the launch starts, whose folders are no models of the hub. A family without a layout is counted
    by the index of its weights, which is got too. A launch that is judged again asks once. The library obeys HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.
    """
    if model is None or not HUB_ID.fullmatch(model) or os.path.exists(os.path.join(folder, model)):
        return ""
    if find_snapshot(model) is not None:
        return ""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise BadInput.one(
            "--online needs huggingface_hub, which is not installed beside preflight",
            "--online",
            "pip install huggingface_hub, or download the config: hf download MODEL config.json",
        ) from error

    def download() -> None:
        path = hf_hub_download(model, CONFIG, cache_dir=cache_folder())
        if not lays_out(read_config(path)):
            hf_hub_download(model, INDEX, cache_dir=cache_folder())

    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings of every retry
    try:
        call_within(LONGEST_WAIT_S, download)
    except TimeUp:
        return f"the config of {model} could not be downloaded: no answer in {LONGEST_WAIT_S} s"
    except Exception as error:  # whatever a network does, the check goes on without it
        is_absent = isinstance(error, EntryNotFoundError)
        if is_absent and not isinstance(error, LocalEntryNotFoundError):  # that one: no answer
            if find_snapshot(model) is not None:
                return ""  # one file of weights has no index
            return f"{model} is on the hub without a {CONFIG}: {_first_line(error)}"
        return f"the config of {model} could not be downloaded: {_first_line(error)}"
    return ""


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
