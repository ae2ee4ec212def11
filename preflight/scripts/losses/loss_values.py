"""What the values of a step of somebody's own are, beside tensors: models, functions, constants; and how it ends."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import lru_cache

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.own_losses import MODEL
from preflight.scripts.python.nodes import last_name, unparse, walk

REFERENCE = lazy_pattern(r"(?:^|_)ref(?:erence)?(?:_|$)")
OTHER_MODEL = lazy_pattern(
    r"teacher|reward|critic|value|draft|assistant|vision|audio|embed|encoder"
)
DTYPES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}
LOOKED_AT = frozenset(
    {"print", "len", "isinstance", "hasattr", "type", "id", "accumulate", "no_sync", "unwrap_model", "clip_grad_norm_"}
)  # fmt: skip
OF_MODEL = frozenset(
    {"train", "eval", "parameters", "named_parameters", "zero_grad", "no_sync", "step", "clip_grad_norm_",
     "is_gradient_accumulation_boundary", "get_global_grad_norm", "get_lr"}
)  # fmt: skip
GIVES_NOTHING = frozenset({"shape", "dtype", "device", "ndim", "requires_grad", "is_cuda"})


@lru_cache(maxsize=2048)
def written(node: ast.AST) -> str:
    """Return a part of a script as text: every way through a step asks for the same ones."""
    return unparse(node)


class GivenUp(Exception):
    """A step does something with large tensors that is not known."""


class Impossible(Exception):
    """What was tried cannot be: a loss of a model that was given no labels."""


class Returned(Exception):
    """A function returned."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


class Model:
    """A model that a step calls."""

    def __init__(self, is_reference: bool) -> None:
        self.is_reference = is_reference


class Criterion:
    """An object of CrossEntropyLoss."""


class Partial:
    """A function with some of its arguments."""

    def __init__(self, function: ast.FunctionDef, named: Mapping[str | None, object]) -> None:
        self.function, self.named = function, named


class Constant:
    """A value that the step itself writes."""

    def __init__(self, value: object) -> None:
        self.value = value


class Functions:
    """The functions of the files that run, by name, and the classes that hold them."""

    def __init__(
        self, by_name: Mapping[str, Sequence[ast.FunctionDef]], lines: Mapping[int, frozenset[int]]
    ) -> None:
        self.by_name, self.lines = by_name, lines
        self._calls: dict[int, bool] = {}

    def named(self, name: str) -> Sequence[ast.FunctionDef]:
        """Return the functions of a name."""
        return self.by_name.get(name, ())

    def calls_a_model(self, function: ast.FunctionDef) -> bool:
        """Tell whether a function, or one that it calls, calls a model or goes back."""
        if id(function) not in self._calls:
            self._calls[id(function)] = False  # one that calls itself does so by what else it calls
            self._calls[id(function)] = any(
                MODEL.match(written(node.func)) is not None
                or last_name(node.func) == "backward"
                or any(map(self.calls_a_model, self.named(last_name(node.func))))
                for node in walk(function)
                if isinstance(node, ast.Call)
            )
        return self._calls[id(function)]
