"""Whole numbers as sums of products of config fields: `2*num_key_value_heads*head_dim + 64`, `hidden_size//num_attention_heads`,
`2*intermediate_size//3^block_multiple_of`, which is rounded up to a multiple."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Value = Callable[[str], int]
"""Config field -> its whole number."""


def evaluate(text: str, value: Value) -> int:
    """Return an expression's number; `//` divides what stands before it in its product, `^` rounds that up to a multiple."""
    return sum(_product(term, value) for term in text.split(" + "))


def _product(term: str, value: Value) -> int:
    term, _, multiple = term.partition("^")
    above, _, below = term.partition("//")
    found = 1
    for factor in above.split("*"):
        found *= _number(factor, value)
    for factor in below.split("*") if below else ():
        found //= max(1, _number(factor, value))
    step = max(1, _number(multiple, value)) if multiple else 1
    return -(-found // step) * step


def _number(factor: str, value: Value) -> int:
    return int(factor) if factor.lstrip("-").isdigit() else value(factor)


def same_number(value: Any) -> Any:
    """Return the number that a list has for every layer; what is no such list as it is."""
    if isinstance(value, (list, tuple)) and value and all(item == value[0] for item in value):
        return value[0]
    return value


def fields_of(text: str) -> Iterator[str]:
    """Yield the config fields that an expression reads."""
    for term in text.split(" + "):
        for factor in term.replace("//", "*").replace("^", "*").split("*"):
            if not factor.lstrip("-").isdigit():
                yield factor
