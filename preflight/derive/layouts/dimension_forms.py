"""Numbers that were seen at several sizes, as the simplest expressions in config fields that give all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from preflight.models.families.expressions import evaluate

Vector = tuple[int, ...]
LARGEST_FACTOR = 8
RATIOS = (2, 3, 4, 5, 6, 7, 8, 16, 32)
SHARES = ((1, 1), (2, 3), (8, 3))
"""Of a field that is rounded up: what a gated MLP has of a plain one's width."""


class Dimensions:
    """What can be said with some fields, by the numbers that it gives at the sizes that were seen."""

    def __init__(self, fields: Mapping[str, Vector]) -> None:
        self.fields = {name: vector for name, vector in fields.items() if min(vector) >= 1}
        self._products: dict[Vector, str] = {}
        for text, vector in self._terms():
            self._products.setdefault(vector, text)
        self._few = [(text, vector) for text, vector in self._singles() if text.count("*") < 2]

    def form_of(self, vector: Vector) -> str | None:
        """Return the simplest expression of a vector; None where there is none."""
        if len(set(vector)) == 1:
            return self._constant(vector)
        found = self._multiple(vector)
        if found is not None:
            return found
        for first, own in self._few:
            for count in range(1, LARGEST_FACTOR // 2 + 1):
                rest = tuple(v - count * c for v, c in zip(vector, own, strict=True))
                if min(rest) < 1:
                    break
                other = str(rest[0]) if len(set(rest)) == 1 else self._multiple(rest)
                if other is not None:
                    return f"{_times(count, first)} + {other}"
        for (first, a), (second, b) in combinations(self._few, 2):
            for left in (1, 2):
                for right in (1, 2):
                    rest = tuple(
                        v - left * x - right * y for v, x, y in zip(vector, a, b, strict=True)
                    )
                    if min(rest) < 1:
                        continue
                    other = str(rest[0]) if len(set(rest)) == 1 else self._multiple(rest)
                    if other is not None:
                        return f"{_times(left, first)} + {_times(right, second)} + {other}"
        return self._rounded(vector)

    def _rounded(self, vector: Vector) -> str | None:
        """Return a field, or a share of it, rounded up to a multiple of another one."""
        for step, steps in self.fields.items():
            if max(steps) < 2 or any(v % s for v, s in zip(vector, steps, strict=True)):
                continue
            for name, own in self.fields.items():
                for above, below in SHARES:
                    shares = [above * x // below for x in own]
                    rounded = tuple(-(-x // s) * s for x, s in zip(shares, steps, strict=True))
                    if name != step and rounded == vector:
                        share = _times(above, name) + (f"//{below}" if below > 1 else "")
                        return f"{share}^{step}"
        return None

    def _constant(self, vector: Vector) -> str:
        """Return a field that has the number everywhere, or the number: no sum or share of fields gives it by chance."""
        own = (name for name, column in self.fields.items() if column == vector)
        return next(own, str(vector[0])) if vector[0] > 1 else str(vector[0])

    def _multiple(self, vector: Vector) -> str | None:
        if vector in self._products:
            return self._products[vector]
        for count in RATIOS:
            if all(v % count == 0 for v in vector):
                found = self._products.get(tuple(v // count for v in vector))
                if found is not None:
                    return _times(count, found)
        for count in RATIOS:
            found = self._products.get(tuple(v * count for v in vector))
            if found is not None:
                return f"{found}*{count}" if "//" in found else f"{found}//{count}"
        return None

    def _singles(self) -> Iterator[tuple[str, Vector]]:
        yield from self.fields.items()
        for (one, a), (two, b) in combinations(self.fields.items(), 2):
            yield f"{one}*{two}", tuple(x * y for x, y in zip(a, b, strict=True))

    def _terms(self) -> Iterator[tuple[str, Vector]]:
        singles = list(self._singles())
        yield from singles
        for name, vector in self.fields.items():
            yield f"{name}*{name}", tuple(v * v for v in vector)
        for below, divisor in self.fields.items():
            for text, vector in singles:
                is_whole = all(not v % d for v, d in zip(vector, divisor, strict=True))
                if below not in text.split("*") and is_whole and max(divisor) > 1:
                    yield (
                        f"{text}//{below}",
                        tuple(v // d for v, d in zip(vector, divisor, strict=True)),
                    )


def _times(count: int, text: str) -> str:
    return text if count == 1 else f"{count}*{text}"


def holds(text: str, values: Sequence[Mapping[str, int]], vector: Vector) -> bool:
    """Tell whether an expression gives a vector at the sizes of some configs."""
    return all(evaluate(text, one.__getitem__) == v for one, v in zip(values, vector, strict=True))
