"""Our dataclasses behave as those of the standard library do."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pickle
import typing
from collections.abc import Mapping

import pytest

from preflight.values import NamedTuple, dataclass, replace


@dataclass(frozen=True)
class Ours:
    """Has every kind of field that the repository uses."""

    name: str
    size: int = 3
    facts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    note: str = dataclasses.field(default="", compare=False, repr=False)


@dataclasses.dataclass(frozen=True)
class Theirs:
    """The same, made by the standard library."""

    name: str
    size: int = 3
    facts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    note: str = dataclasses.field(default="", compare=False, repr=False)


@pytest.fixture(params=[Ours, Theirs], ids=["ours", "theirs"])
def kind(request):
    return request.param


def test_values_come_from_arguments_defaults_and_factories(kind):
    first, second = kind("a", facts={"x": 1}), kind("a")

    assert (first.name, first.size, first.facts, first.note) == ("a", 3, {"x": 1}, "")
    assert second.facts == {} and second.facts is not kind("a").facts


def test_equality_leaves_out_fields_that_do_not_compare(kind):
    assert kind("a", note="x") == kind("a", note="y")
    assert kind("a") != kind("b")
    assert kind("a") != "a"


def test_a_value_of_another_class_is_never_equal():
    assert Ours("a") != Theirs("a")


def test_equal_values_hash_alike(kind):
    assert hash(kind("a", facts=(), note="x")) == hash(kind("a", facts=(), note="y"))
    with pytest.raises(TypeError, match="unhashable"):
        hash(kind("a", facts={}))


def test_nothing_can_be_set_or_deleted(kind):
    value = kind("a")
    for change in (
        lambda: setattr(value, "name", "b"),
        lambda: setattr(value, "other", 1),
        lambda: delattr(value, "name"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()

    assert value.name == "a"


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ((), {}),
        (("a", 1, {}, "", 5), {}),
        (("a",), {"other": 1}),
        (("a",), {"name": "b"}),
        ((), {"other": 1}),
    ],
)
def test_wrong_arguments_are_refused(kind, arguments, keywords):
    with pytest.raises(TypeError) as refusal:
        kind(*arguments, **keywords)

    assert kind.__name__ in str(refusal.value)


def test_the_text_of_a_value_is_the_usual_one():
    assert repr(Ours("a", facts={"x": 1})) == repr(Theirs("a", facts={"x": 1})).replace(
        "Theirs", "Ours"
    )


def test_the_tools_for_dataclasses_take_it(kind):
    value = kind("a", 5)

    assert dataclasses.is_dataclass(value)
    assert [f.name for f in dataclasses.fields(kind)] == ["name", "size", "facts", "note"]
    assert dataclasses.replace(value, name="b") == kind("b", 5)
    assert dataclasses.asdict(value) == {"name": "a", "size": 5, "facts": {}, "note": ""}
    assert copy.copy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
    assert list(inspect.signature(kind).parameters) == ["name", "size", "facts", "note"]
    assert inspect.signature(kind).parameters["size"].default == 3
    match value:
        case Ours(name, size) | Theirs(name, size):
            assert (name, size) == ("a", 5)


def test_a_frozen_dataclass_of_the_standard_library_can_extend_it():
    @dataclasses.dataclass(frozen=True)
    class Longer(Ours):
        """One field more."""

        more: int = 0

    assert Longer("a", more=1).more == 1
    assert Longer("a") != Longer("a", more=1)


def test_checks_after_init_run():
    @dataclass(frozen=True)
    class Positive:
        """A number that must not be negative."""

        number: int

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("negative")

    with pytest.raises(ValueError, match="negative"):
        Positive(-1)
    assert Positive(1).number == 1


def test_without_frozen_values_can_be_set_and_are_not_hashable():
    @dataclass
    class Open:
        """A value that is filled step by step."""

        name: str
        found: list[int] = dataclasses.field(default_factory=list)

    value = Open("a")
    value.name = "b"

    assert value == Open("b")
    assert value.found is not Open("b").found
    with pytest.raises(TypeError, match="unhashable"):
        hash(value)


class OursNamed(NamedTuple):
    """Has every kind of field that the repository uses."""

    name: str
    size: int = 3
    note: str = ""

    @property
    def is_small(self) -> bool:
        """Whether it is."""
        return self.size < 5


class TheirsNamed(typing.NamedTuple):
    """The same, made by the standard library."""

    name: str
    size: int = 3
    note: str = ""

    @property
    def is_small(self) -> bool:
        """Whether it is."""
        return self.size < 5


@pytest.fixture(params=[OursNamed, TheirsNamed], ids=["ours", "theirs"])
def named(request):
    return request.param


def test_a_named_tuple_is_made_of_arguments_and_defaults(named):
    for made in (named("a", 3), named("a"), named(name="a"), named("a", note="", size=3)):
        assert made == ("a", 3, "")
        assert (made.name, made.size, made.note, made.is_small) == ("a", 3, "", True)


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ((), {}),
        (("a", 1, "", 5), {}),
        (("a",), {"other": 1}),
        (("a",), {"name": "b"}),
        ((), {"other": 1}),
        ((), {"size": 1, "note": "", "other": 1}),
    ],
)
def test_wrong_arguments_of_a_named_tuple_are_refused(named, arguments, keywords):
    with pytest.raises(TypeError) as refusal:
        named(*arguments, **keywords)

    assert named.__name__ in str(refusal.value)


def test_a_named_tuple_is_one_for_every_tool(named):
    value = named("a", 9)
    name, *rest = value

    assert (name, rest) == ("a", [9, ""])
    assert isinstance(value, tuple) and hash(value) == hash(("a", 9, ""))
    assert sorted([named("b"), value]) == [("a", 9, ""), ("b", 3, "")]
    assert value._replace(size=4) == ("a", 4, "") and value._asdict()["size"] == 9
    assert named._fields == ("name", "size", "note") and named._make("abc") == ("a", "b", "c")
    assert named._field_defaults == {"size": 3, "note": ""}
    assert copy.copy(value) == pickle.loads(pickle.dumps(value)) == value
    assert repr(value) == f"{named.__name__}(name='a', size=9, note='')"
    assert named.__doc__ and named.__module__ == __name__
    with pytest.raises(AttributeError):
        value.size = 1
    with pytest.raises(AttributeError):
        value.other = 1
    with pytest.raises((TypeError, ValueError), match="name"):
        value._replace(other=1)
    match value:
        case OursNamed(name, size) | TheirsNamed(name, size):
            assert (name, size) == ("a", 9)


@pytest.mark.parametrize("base", [NamedTuple, typing.NamedTuple], ids=["ours", "theirs"])
def test_a_field_without_a_default_stands_before_those_that_have_one(base):
    with pytest.raises(TypeError, match="default"):

        class Wrong(base):
            """The second has none."""

            name: str = ""
            size: int


@dataclass(frozen=True)
class Rows:
    """Has what is checked when it is made, and what is worked out once."""

    count: int
    length: int = 2

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("fewer than none")

    @functools.cached_property
    def tokens(self) -> int:
        return self.count * self.length


@pytest.mark.parametrize("changed", [dataclasses.replace, replace])
def test_another_value_has_the_other_fields_and_nothing_that_was_worked_out(changed):
    rows = Rows(3)
    assert rows.tokens == 6
    other = changed(rows, length=5)

    assert (other, other.tokens, rows.tokens) == (Rows(3, 5), 15, 6)
    with pytest.raises(ValueError, match="fewer"):
        changed(rows, count=-1)
    with pytest.raises(TypeError, match="width"):
        changed(rows, width=1)
