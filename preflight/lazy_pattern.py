"""`re.compile` for names of a module: compiled when it is first asked, since a check asks a few of some hundred."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from re import compile as lazy_pattern
else:

    def lazy_pattern(pattern: str, flags: int = 0) -> Any:
        """Return what `re.compile` returns of the same arguments, at no cost until it is used."""
        return _LazyPattern(pattern, flags)


__all__ = ["lazy_pattern"]
_OF_PATTERNS = tuple(name for name in dir(re.Pattern) if not name.startswith("_"))


class _LazyPattern:
    """A pattern that is compiled when anything but its text is asked; from then on its names are the compiled one's."""

    def __init__(self, pattern: str, flags: int) -> None:
        self.pattern = pattern
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(self.pattern, self._flags)
        self.__dict__.update({each: getattr(compiled, each) for each in _OF_PATTERNS})
        return getattr(compiled, name)
