"""`@dataclass(frozen=True)` that starts fast: only `__init__` is compiled for each class.

The standard decorator compiles six methods from text for every class, 0.4 ms each time; with the
sixty classes of a check that is more than everything else a check does. These are dataclasses all
the same: fields, replace, match, equality, hash and errors are those of the standard library.
Not for `kw_only` fields, `InitVar`, or a class with its own equality: nothing here needs them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # the type checker sees the usual one
else:

    def dataclass(*, frozen: bool) -> Callable[[type], type]:
        """Make a frozen dataclass; only `frozen=True` is possible."""
        assert frozen, "a dataclass that can be changed comes from the standard library"
        return _made


def _made(cls: type) -> type:
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    made.__dataclass_params__.frozen = True  # what the check of a subclass looks at
    fields = dataclasses.fields(made)
    shown = [field.name for field in fields if field.repr]
    compared = [field.name for field in fields if field.compare]
    key: Callable[[object], Any] = attrgetter(*compared) if compared else lambda value: ()

    def __repr__(self: object) -> str:
        values = ", ".join([f"{name}={getattr(self, name)!r}" for name in shown])
        return f"{type(self).__qualname__}({values})"

    def __eq__(self: object, other: object) -> Any:
        return key(self) == key(other) if type(other) is type(self) else NotImplemented

    def __hash__(self: object) -> int:
        return hash(key(self))

    methods = {
        "__init__": _init(made, fields),
        "__repr__": __repr__,
        "__eq__": __eq__,
        "__hash__": __hash__,
        "__setattr__": _refuse_to_set,
        "__delattr__": _refuse_to_delete,
    }
    for name, method in methods.items():
        setattr(made, name, method)
    return cls


def _init(cls: type, fields: tuple[Field[Any], ...]) -> Callable[..., None]:
    """Return `__init__`, compiled so that its signature and its complaints are the usual ones."""
    parameters, body = ["self"], []
    names: dict[str, Any] = {"set_": object.__setattr__, "MISSING": MISSING}
    for field in fields:
        name = field.name
        value = name
        if field.default is not MISSING:
            names[f"default_{name}"] = field.default
            parameters.append(f"{name}=default_{name}")
        elif field.default_factory is not MISSING:
            names[f"make_{name}"] = field.default_factory
            parameters.append(f"{name}=MISSING")
            value = f"make_{name}() if {name} is MISSING else {name}"
        else:
            parameters.append(name)
        body.append(f" set_(self, {name!r}, {value})\n")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()\n")
    exec(f"def __init__({', '.join(parameters)}):\n{''.join(body)}", names)
    init: Callable[..., None] = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
