"""Bytes, dtypes and counts, and how they are written for people."""

from __future__ import annotations

import math

KIB = 1024
MIB = 1024**2
GIB = 1024**3

DTYPE_BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1, "uint8": 1}
"""Bytes of one element, by the short dtype names used in plans."""

DTYPE_ALIASES = {
    "float64": "fp64",
    "float32": "fp32",
    "float": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
}


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide upwards: the fullest rank decides, and float bytes round the wrong way."""
    return -(-numerator // denominator)


def round_up(number: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that holds `number`."""
    return ceil_div(number, multiple) * multiple


def canonical_dtype(name: str) -> str | None:
    """Return the short name of a dtype as torch, YAML or a person spells it; None if unknown."""
    short = name.strip().lower().removeprefix("torch.")
    short = DTYPE_ALIASES.get(short, short)
    return short if short in DTYPE_BYTES else None


def dtype_bytes(name: str) -> int:
    """Return the bytes of one element of a short dtype name."""
    return DTYPE_BYTES[name]


def format_gib(num_bytes: int) -> str:
    """Write bytes as GiB with one decimal, or MiB when that would read 0.0."""
    if abs(num_bytes) < 0.1 * GIB:
        return f"{num_bytes / MIB:.1f} MiB"
    return f"{num_bytes / GIB:.1f} GiB"


def format_count(number: int) -> str:
    """Write a parameter count the way model names do: 8.03 B, 135 M."""
    for limit, suffix in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= limit:
            digits = max(0, 2 - int(math.log10(number / limit)))
            return f"{number / limit:.{digits}f} {suffix}"
    return str(number)
