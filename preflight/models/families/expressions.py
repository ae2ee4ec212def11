"""Whole numbers as sums of products of config fields: `2*num_key_value_heads*head_dim + 64`, `hidden_size//num_attention_heads`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

Value = Callable[[str], int]
"""Config field -> its whole number."""


def evaluate(text: str, value: Value) -> int:
    """Return an expression's number; `//` divides what stands before it in its product."""
    return sum(_product(term, value) for term in text.split(" + "))


def _product(term: str, value: Value) -> int:
    above, _, below = term.partition("//")
    found = 1
    for factor in above.split("*"):
        found *= _number(factor, value)
    for factor in below.split("*") if below else ():
        found //= max(1, _number(factor, value))
    return found


def _number(factor: str, value: Value) -> int:
    return int(factor) if factor.lstrip("-").isdigit() else value(factor)


def fields_of(text: str) -> Iterator[str]:
    """Yield the config fields that an expression reads."""
    for term in text.split(" + "):
        for factor in term.replace("//", "*").split("*"):
            if not factor.lstrip("-").isdigit():
                yield factor
