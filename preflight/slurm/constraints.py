"""`--constraint`: whether a node with some features may serve in a job.

Source: sbatch(1) of Slurm 24.11, section `--constraint`: `&` and `,` are and, `|` is or, both of one
precedence and read from the left unless parentheses say otherwise; `[a|b]` wants all nodes of a job
to be of one alternative; `a*4` wants so many nodes with a feature and says nothing of the others.
"""

from __future__ import annotations

from collections.abc import Collection

from preflight.lazy_pattern import lazy_pattern
from preflight.values import dataclass

_TOKEN = lazy_pattern(r"\s*([()\[\]&|,]|\*\d+|[^()\[\]&|,*\s]+)")


@dataclass(frozen=True)
class Term:
    """A feature, or several joined by `&` or `|`; a count makes it a number of nodes."""

    feature: str = ""
    operator: str = ""
    parts: tuple[Term, ...] = ()
    count: int | None = None

    def holds(self, features: Collection[str]) -> bool:
        """Tell whether a node with these features is what the term describes, counts aside."""
        if self.operator == "":
            return self.feature in features
        held = [part.holds(features) for part in self.parts]
        return all(held) if self.operator == "&" else any(held)

    def has_count(self) -> bool:
        return self.count is not None or any(part.has_count() for part in self.parts)


@dataclass(frozen=True)
class Constraint:
    """A whole `--constraint`."""

    text: str
    term: Term

    def admits(self, features: Collection[str], num_nodes: int = 1) -> bool:
        """Tell whether a job of so many nodes may get a node with these features."""
        return _admits(self.term, features, num_nodes)


def _admits(term: Term, features: Collection[str], num_nodes: int) -> bool:
    if not term.has_count():
        return term.holds(features)
    if term.count is not None:
        return term.count < num_nodes or term.holds(features)
    if term.operator == "|":
        return any(_admits(part, features, num_nodes) for part in term.parts)
    # `a*2&b*4`: two nodes of one kind and four of another; what has no count is asked of them all.
    counted = [part for part in term.parts if part.has_count()]
    if not all(part.holds(features) for part in term.parts if not part.has_count()):
        return False
    named = sum(part.count or 0 for part in counted)
    return named < num_nodes or any(_admits(part, features, 0) for part in counted)


def read_constraint(text: str) -> Constraint:
    """Return a constraint; raise ValueError where it cannot be read."""
    tokens: list[str] = []
    at = 0
    text = text.strip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"no constraint: {text!r}")
        tokens.append(found.group(1))
        at = found.end()
    term, rest = _expression(tokens, 0)
    if rest != len(tokens):
        raise ValueError(f"no constraint: {text!r}")
    return Constraint(text, term)


def _expression(tokens: list[str], at: int) -> tuple[Term, int]:
    term, at = _operand(tokens, at)
    while at < len(tokens) and tokens[at] in "&|,":
        operator = "|" if tokens[at] == "|" else "&"
        right, at = _operand(tokens, at + 1)
        if term.operator == operator and term.count is None:
            term = Term(operator=operator, parts=(*term.parts, right))
        else:
            term = Term(operator=operator, parts=(term, right))
    return term, at


def _operand(tokens: list[str], at: int) -> tuple[Term, int]:
    if at >= len(tokens):
        raise ValueError("a constraint ends where a feature should stand")
    opening = tokens[at]
    if opening in "([":
        term, at = _expression(tokens, at + 1)
        if at >= len(tokens) or tokens[at] != {"(": ")", "[": "]"}[opening]:
            raise ValueError(f"a constraint has a {opening} that nothing closes")
    elif opening in ")]&|," or opening.startswith("*"):
        raise ValueError(f"a constraint has a {opening} where a feature should stand")
    else:
        term = Term(feature=opening)
    at += 1
    if at < len(tokens) and tokens[at].startswith("*"):
        term = Term(term.feature, term.operator, term.parts, int(tokens[at][1:]))
        at += 1
    return term, at
