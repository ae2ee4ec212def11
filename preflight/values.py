"""`dataclass` and `NamedTuple` as the standard library makes them, without compiling anything.

The standard decorator compiles up to six methods from text for every class, 0.4 ms each time, and looks at every
annotation for what nothing here has; with the 130 classes of a check that took longer than everything else a check does.
Here the methods are closures. These are dataclasses all the same: fields, replace, match, equality, hash, signature
and refusals are the usual ones. Not for `kw_only` fields, `InitVar`, `ClassVar`, or a class with its own
equality: nothing here needs them. A standard NamedTuple compiles its `__new__` and every annotation.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, FrozenInstanceError
from inspect import Parameter, Signature
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the type checker sees the usual ones
    from dataclasses import dataclass as dataclass
    from dataclasses import replace as replace
    from typing import NamedTuple as NamedTuple
else:

    def dataclass(cls: type | None = None, *, frozen: bool = False) -> Any:
        """Make a dataclass, as `dataclasses.dataclass` does with the same arguments."""
        if cls is None:
            return lambda cls: _made(cls, frozen)
        return _made(cls, frozen)

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a value of one of our dataclasses with other fields, as `dataclasses.replace` does."""
        return value.__replace__(**changes)

    class _MakesNamed(type):
        """Makes a NamedTuple of a class whose annotations are its fields."""

        def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> type:
            fields = tuple(space.get("__annotations__", ()))
            defaults = {field: space.pop(field) for field in fields if field in space}
            if list(defaults) != list(fields[len(fields) - len(defaults) :]):
                raise TypeError(f"{name}: a field without a default follows one that has it")
            at = {field: _AT_PLACE(index, field) for index, field in enumerate(fields)}
            named = {"_fields": fields, "_field_defaults": defaults, "__match_args__": fields}
            return type(name, (_Named,), {"__slots__": (), **space, **at, **named})

    NamedTuple = type.__new__(_MakesNamed, "NamedTuple", (), {})


@dataclasses.dataclass(init=False, repr=False, eq=False)
class _Usual:
    """A class of the standard library's: ours keep what it keeps, for its tools."""

    field: int = 0


_USUAL_FIELD: Any = _Usual.__dataclass_fields__["field"]
_OPEN: Any = vars(_Usual)["__dataclass_params__"]
_FROZEN: Any = copy.copy(_OPEN)
_FROZEN.frozen = True


def _fields_of(cls: type) -> dict[str, Field[Any]]:
    """Return the fields of a class and of those that it stands on, each with its name, type and default."""
    fields: dict[str, Field[Any]] = {}
    for base in cls.__mro__[-1:0:-1]:
        fields.update(getattr(base, "__dataclass_fields__", {}))
    for name, annotation in inspect.get_annotations(cls).items():
        made: Any = getattr(cls, name, MISSING)
        if not isinstance(made, Field):
            made = dataclasses.field(default=made)
        elif made.default is not MISSING:
            setattr(cls, name, made.default)
        else:
            delattr(cls, name)
        if made.default.__class__.__hash__ is None:
            raise ValueError(f"mutable default of {name}: use default_factory")
        made.name, made.type, made.kw_only = name, annotation, False
        made._field_type = _USUAL_FIELD._field_type
        fields[name] = made
    return fields


def _made(cls: type, is_frozen: bool) -> type:
    made: Any = cls
    made.__dataclass_fields__ = _fields_of(cls)
    made.__dataclass_params__ = _FROZEN if is_frozen else _OPEN
    fields = tuple(made.__dataclass_fields__.values())
    made.__match_args__ = tuple(made.__dataclass_fields__)  # type: ignore[misc]
    shown = [field.name for field in fields if field.repr]
    compared = [field.name for field in fields if field.compare]
    key: Callable[[object], Any] = attrgetter(*compared) if compared else lambda value: ()

    names = made.__dataclass_fields__.keys()

    def __repr__(self: object) -> str:
        values = ", ".join([f"{name}={getattr(self, name)!r}" for name in shown])
        return f"{type(self).__qualname__}({values})"

    def __eq__(self: object, other: object) -> Any:
        return key(self) == key(other) if type(other) is type(self) else NotImplemented

    def __hash__(self: object) -> int:
        return hash(key(self))

    def __replace__(self: Any, **changes: Any) -> Any:
        if not changes.keys() <= names:
            raise TypeError(f"{cls.__qualname__} has no {', '.join(changes)}")
        other, held = object.__new__(type(self)), self.__dict__
        # what a property has worked out lies there too
        held = held if len(held) == len(names) else {name: held[name] for name in names}
        other.__dict__.update(held)
        other.__dict__.update(changes)
        if hasattr(made, "__post_init__"):
            other.__post_init__()
        return other

    made.__init__, made.__eq__, made.__replace__ = _init(made, fields), __eq__, __replace__
    if "__repr__" not in cls.__dict__:
        made.__repr__ = __repr__
    made.__signature__ = _SignatureOfFields()
    if "__hash__" not in cls.__dict__:
        made.__hash__ = __hash__ if is_frozen else None
    if is_frozen:
        made.__setattr__, made.__delattr__ = _refuse_to_set, _refuse_to_delete
    return cls


def _init(cls: Any, fields: tuple[Field[Any], ...]) -> Callable[..., None]:
    names = tuple(field.name for field in fields)
    num_fields, nameable = len(names), frozenset(names)
    defaults = {f.name: f.default for f in fields if f.default is not MISSING}
    makers = {f.name: f.default_factory for f in fields if f.default_factory is not MISSING}
    is_checked = hasattr(cls, "__post_init__")

    def __init__(self: Any, *args: Any, **given: Any) -> None:
        values = self.__dict__
        if defaults:
            values.update(defaults)
        if args:
            values.update(zip(names, args))  # noqa: B905
        if given:
            values.update(given)
        for name in makers:
            if name not in values:
                values[name] = makers[name]()
        if (
            len(values) != num_fields
            or len(args) > num_fields
            or (given and not given.keys() <= nameable)
            or (args and given and not given.keys().isdisjoint(names[: len(args)]))
        ):
            try:
                type(self).__signature__.bind(*args, **given)
            except TypeError as error:
                raise TypeError(f"{cls.__qualname__}: {error}") from None
        if is_checked:
            self.__post_init__()

    return __init__


class _SignatureOfFields:
    """What `inspect.signature` shows, and what arguments that do not fit are held to."""

    def __get__(self, instance: object, cls: type) -> Signature:
        parameters = []
        for field in dataclasses.fields(cls):
            has_default = field.default is not MISSING
            default = field.default if has_default else field.default_factory
            if default is MISSING:
                default = Parameter.empty
            kind = Parameter.POSITIONAL_OR_KEYWORD
            parameters.append(Parameter(field.name, kind, default=default, annotation=field.type))
        return Signature(parameters, return_annotation=None)


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


_AT_PLACE: Any = type(namedtuple("_Usual", ("field",)).field)  # type: ignore[attr-defined]
"""What reads one place of a tuple by name: made by `(index, doc)`."""


class _Named(tuple[Any, ...]):
    """What every NamedTuple of ours has."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _field_defaults: Mapping[str, Any] = {}

    def __new__(cls, *args: Any, **given: Any) -> Any:
        if given or len(args) != len(cls._fields):
            args = cls._filled(args, given)
        return tuple.__new__(cls, args)

    @classmethod
    def _filled(cls, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, ...]:
        """Return a value for every field: those that are given, and defaults."""
        names, defaults = cls._fields, cls._field_defaults
        values = {**defaults, **dict(zip(names, args)), **given}  # noqa: B905
        is_twice = len(args) > len(names) or not given.keys().isdisjoint(names[: len(args)])
        if is_twice or values.keys() != {*names}:
            raise TypeError(f"{cls.__qualname__} takes {', '.join(names)}, each once")
        return tuple([values[name] for name in names])

    @classmethod
    def _make(cls, values: Iterable[Any]) -> Any:
        return cls(*values)

    def _replace(self, **given: Any) -> Any:
        return type(self)(**{**self._asdict(), **given})

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        values = ", ".join([f"{name}={value!r}" for name, value in self._asdict().items()])
        return f"{type(self).__name__}({values})"
