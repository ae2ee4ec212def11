"""Reading a model from a folder: its config.json, and a parameter count from its weights where that is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from preflight.errors import BadInput, ModelNotKnown
from preflight.files import open_regular
from preflight.formats.load import parse_json, read_text_file
from preflight.model import ModelSpec
from preflight.models import describe, lays_out
from preflight.units import canonical_dtype, dtype_bytes

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
LONGEST_HEADER_BYTES = 100 * 1024**2
"""safetensors refuses longer headers (safetensors/src/tensor.rs, MAX_HEADER_SIZE)."""


def is_path(model: str) -> bool:
    """Tell a spelling that can only be a path from one that may be a hub id (`org/name` or `name`)."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1 or model.endswith(".json")


def describe_folder(
    folder: str, name: str, origin: str, known_count: Callable[[], int | None] = lambda: None
) -> ModelSpec:
    """Describe the model in a folder; raise BadInput for an adapter or a broken config, ModelNotKnown for none.

    `known_count` is asked for the parameters where neither the config nor weights in the folder give them.
    """
    path = os.path.join(folder, CONFIG)
    if not os.path.isfile(path):
        if os.path.isfile(os.path.join(folder, ADAPTER_CONFIG)):
            raise _adapter_alone(folder, name, origin)
        raise ModelNotKnown.one(
            f"the folder {name} has no {CONFIG}",
            origin,
            "give the folder that `save_pretrained` wrote, or `--set model_config=FILE`",
        )
    return describe_file(path, name, known_count)


def describe_file(
    path: str, name: str, known_count: Callable[[], int | None] = lambda: None
) -> ModelSpec:
    """Describe the model of a config.json; weights beside it are read only for a count that the config does not give."""
    config = read_config(path)
    num_params = None
    if not lays_out(config):
        num_params = count_weights(os.path.dirname(path), config) or known_count()
    return describe(config, name, path, num_params)


def read_config(path: str) -> Mapping[str, Any]:
    """Return a config.json's mapping; raise BadInput with the line that breaks it."""
    config = parse_json(read_text_file(path), path)
    if not isinstance(config, dict):
        raise BadInput.of(path, f"must hold a JSON object, not {type(config).__name__}")
    return config


def count_weights(folder: str, config: Mapping[str, Any]) -> int | None:
    """Return the parameters that a folder's safetensors files hold; None where they do not say."""
    index = os.path.join(folder, INDEX)
    if os.path.isfile(index):
        return _count_of_index(read_config(index), config)
    weights = os.path.join(folder, WEIGHTS)
    return _count_of_header(weights) if os.path.isfile(weights) else None


def _count_of_index(index: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    metadata = index.get("metadata")
    if not isinstance(metadata, dict):
        return None
    exact = metadata.get("total_parameters")
    if isinstance(exact, int) and exact > 0:
        return exact
    size = metadata.get("total_size")
    text = config.get("text_config")
    dtypes = [
        section.get(key)
        for section in (config, text if isinstance(text, dict) else {})
        for key in ("dtype", "torch_dtype")
    ]
    dtype = next((canonical_dtype(d) for d in dtypes if isinstance(d, str)), None)
    if not isinstance(size, (int, float)) or dtype is None:
        return None
    return int(size) // dtype_bytes(dtype)


def _count_of_header(path: str) -> int | None:
    """Add up the shapes in a safetensors header: 8 bytes of length, then JSON."""
    from math import prod

    try:
        with open_regular(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= LONGEST_HEADER_BYTES:
                raise BadInput.of(path, "is no safetensors file: its header has no length")
            text = file.read(length)
    except OSError as error:
        raise BadInput.of(path, f"cannot be read: {error.strerror}") from error
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput.of(path, "is no safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise BadInput.of(path, "is no safetensors file: its header lists no tensors")
    shapes = [
        entry["shape"]
        for key, entry in header.items()
        if key != "__metadata__" and isinstance(entry, dict) and "shape" in entry
    ]
    if not all(map(_is_shape, shapes)):
        raise BadInput.of(path, "is no safetensors file: a shape in its header is no list of sizes")
    return sum(prod(shape) for shape in shapes) or None


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 63
        for size in value
    )


def _adapter_alone(folder: str, name: str, origin: str) -> BadInput:
    adapter = read_config(os.path.join(folder, ADAPTER_CONFIG))
    base = adapter.get("base_model_name_or_path")
    fix = f"give its base as the model: {base}" if base else "give its base as the model"
    return BadInput.one(f"{name} is a PEFT adapter without its base model", origin, fix)
