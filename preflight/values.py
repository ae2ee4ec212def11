"""`dataclass` as the standard library makes it, and faster to make: only `__init__` is compiled.

The standard decorator compiles up to six methods from text for every class, 0.4 ms each time; with
the sixty classes of a check that took longer than everything else a check does. These are
dataclasses all the same: fields, replace, match, equality, hash and complaints are the usual ones.
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

    def dataclass(cls: type | None = None, *, frozen: bool = False) -> Any:
        """Make a dataclass, as `dataclasses.dataclass` does with the same arguments."""
        if cls is None:
            return lambda cls: _made(cls, frozen)
        return _made(cls, frozen)


def _made(cls: type, is_frozen: bool) -> type:
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    made.__dataclass_params__.frozen = is_frozen  # what the check of a subclass looks at
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

    made.__init__, made.__repr__, made.__eq__ = _init(made, fields), __repr__, __eq__
    made.__hash__ = __hash__ if is_frozen else None
    if is_frozen:
        made.__setattr__, made.__delattr__ = _refuse_to_set, _refuse_to_delete
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
