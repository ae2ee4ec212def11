"""A model's config.json as transformers would read it: the library's defaults filled in, the problems collected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from preflight.errors import Problem
from preflight.files import readable_text
from preflight.models.families.library_defaults import family_table, library_defaults

MOST = 2**40
MOST_LAYERS = 10_000
"""No model has more; Llama 3.1 405B has 126. A layer is laid out one by one."""


class ConfigView:
    """Reads values of one config section; remembers what was wrong and which sizes the library supplied."""

    def __init__(
        self, values: Mapping[str, Any], model_type: str, where: str = "", section: str = ""
    ) -> None:
        self.values = values
        self.model_type = model_type
        self.where = where
        self.section = section
        self.problems: list[Problem] = []
        self.assumed: list[str] = []
        tables = library_defaults()
        self._defaults: Mapping[str, Any] = tables.config_defaults.get(model_type, {})
        self._spellings: Mapping[str, tuple[str, ...]] = tables.spellings.get(model_type, {})
        table = family_table(model_type)
        if table is not None and model_type not in tables.config_defaults:
            self.use_table(table)

    @property
    def known_keys(self) -> Iterable[str]:
        """The keys that the family's class has a plain default for."""
        return self._defaults

    def use_table(self, table: Mapping[str, Any]) -> None:
        """Take defaults and spellings from a type's own table."""
        self._defaults = table["defaults"]
        self._spellings = {name: tuple(others) for name, others in table["spellings"].items()}

    def get(self, name: str) -> Any:
        """Return a value by any spelling transformers accepts, else its default; None where there is neither."""
        spellings = (name, *self._spellings.get(name, ()))
        for key in spellings:
            if key in self.values:
                return self.values[key]
        for key in spellings:
            if key in self._defaults:
                return self._defaults[key]
        return None

    def is_given(self, name: str) -> bool:
        """Tell whether the file itself says the value."""
        return any(key in self.values for key in (name, *self._spellings.get(name, ())))

    def size(self, name: str) -> int:
        """Return a whole number from 1; note the problem and return 1 where there is none."""
        value = self.get(name)
        if value is None:
            self.complain(name, f"{self.section}{name} is missing, and it has no default")
            return 1
        if not self.is_given(name):
            self.assumed.append(name)
        return self._whole(name, value, least=1)

    def optional_size(self, name: str) -> int | None:
        """Return a whole number from 1, or None where the value is null or absent."""
        value = self.get(name)
        return None if value is None else self._whole(name, value, least=1)

    def count(self, name: str) -> int:
        """Return a whole number from 0; null or absent is 0."""
        value = self.get(name)
        return 0 if value is None else self._whole(name, value, least=0)

    def flag(self, name: str) -> bool:
        """Return a boolean; null or absent is False."""
        value = self.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.complain(name, f"{self.section}{name} must be true or false, not {value!r}")
        return False

    def strings(self, name: str) -> tuple[str, ...] | None:
        """Return a list of strings, or None where the value is null or absent."""
        return self._list(name, str, "names")

    def indexes(self, name: str) -> frozenset[int]:
        """Return a list of layer numbers; null or absent is empty."""
        return frozenset(self._list(name, int, "layer numbers") or ())

    def _list(self, name: str, kind: type, noun: str) -> tuple[Any, ...] | None:
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, (list, tuple)) and all(isinstance(item, kind) for item in value):
            return tuple(value)
        self.complain(name, f"{self.section}{name} must be a list of {noun}, not {value!r}")
        return None

    def complain(self, name: str, message: str) -> None:
        """Remember a problem; the reader goes on and reports all of them at once."""
        problem = Problem(message, place_of_key(self.where, name))
        if problem not in self.problems:
            self.problems.append(problem)

    def _whole(self, name: str, value: Any, least: int) -> int:
        most = MOST_LAYERS if name.endswith(("layers", "depth")) else MOST
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        if isinstance(value, int) and value > most:
            self.complain(name, f"{self.section}{name} cannot be more than {most:,}")
            return max(least, 1)
        self.complain(
            name, f"{self.section}{name} must be a whole number from {least}, not {value!r}"
        )
        return max(least, 1)


def place_of_key(path: str, name: str) -> str:
    """Return `path:line` of a key's first mention; the path alone where it is no readable file or never says it."""
    for number, line in enumerate(readable_text(path).splitlines(), start=1):
        if f'"{name}"' in line:
            return f"{path}:{number}"
    return path
