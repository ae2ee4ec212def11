"""What stands for the fields that a config leaves out and its class works out, as expressions in others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.derive.layouts.changed_models import ABSENT, NUM_SOLVED, Seen
from preflight.derive.layouts.common_rows import is_whole, numbers_of
from preflight.derive.layouts.dimension_forms import Dimensions
from preflight.derive.layouts.observed_layouts import Observed
from preflight.derive.layouts.type_configs import DEPTHS


def absent_fields(seen: Seen, names: set[str]) -> dict[str, str]:
    """Return what stands for a field that a config leaves out or says null of, as an expression in others."""
    found: dict[str, str | None] = {}
    for name in sorted(names):
        text = next(
            (
                t
                for t in (f"{name}={ABSENT}", f"{name}=None")
                if t in seen.changed and isinstance(seen.changed[t][0].values.get(name), int)
            ),
            "",
        )
        default = seen.fields.get(name)
        models = seen.changed.get(text, ())
        if (
            len(models) >= 3
        ):  # with fewer nothing changed: it is what the small config gives by itself
            found[name] = _form(numbers_of(models), models, name)
        elif (default is None or isinstance(default, str)) and name not in seen.base[0].config:
            own = [m for m in seen.base[:NUM_SOLVED] if is_whole(m.values.get(name))]
            if len(own) == NUM_SOLVED:
                # fields alone: what a class works out besides may be worked out of this one
                given = {k: v for k, v in numbers_of(own).items() if k in seen.fields}
                found[name] = _form({**given, **_taken_over(own)}, own, name)
    return {name: form for name, form in found.items() if form is not None}


def _form(
    numbers: Mapping[str, tuple[int, ...]], models: Sequence[Observed], name: str
) -> str | None:
    """Return what gives a field of some models of their numbers: not of itself, and of no count of layers, which fits by chance."""
    others = {key: value for key, value in numbers.items() if key not in (name, *DEPTHS)}
    return Dimensions(others).form_of(tuple(each.values[name] for each in models))


def _taken_over(models: Sequence[Observed]) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the small configs that a class keeps under another name, and puts others in the place of."""
    return {
        name: tuple(m.config[name] for m in models)
        for name in models[0].config
        if all(is_whole(m.config[name]) and m.config[name] > 1 for m in models)
    }
