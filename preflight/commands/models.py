"""`models`: the models that are known by name, and whether a training of one is priced by formula."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.errors import BadInput
from preflight.formulas.precision import missing_inputs
from preflight.launch import LaunchPlan
from preflight.models.families.description import describe_config
from preflight.models.registry import RegistryEntry, all_models, all_names, find_model, models_like
from preflight.render.page import page_for
from preflight.render.words import counted
from preflight.report import SCHEMA_VERSION
from preflight.values import dataclass

EPILOG = """\
A launch may name any other model too: a folder with a config.json is read where it is, the local
Hugging Face cache after it, and `--online` downloads a config. `formula` says whether training is
priced from a config alone; where it is not, the parameters are counted and the answer is unknown.

examples:
  preflight models                 all of them
  preflight models qwen2.5 coder   those whose name or type has all the words
  preflight models gemma3 --format json
"""


ONE_ROW = LaunchPlan(micro_batch_size=1, seq_len=1)


@dataclass(frozen=True)
class KnownModel:
    """A model of the registry, as a list shows it."""

    name: str
    """Its id, or the other name that was asked for."""
    entry: RegistryEntry
    missing: tuple[str, ...]
    """What no formula has, in words; empty where a training on text is priced."""
    also: tuple[str, ...]
    """Other names of the same shapes."""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "List the models that are known by name: parameters, type, whether formulas price them.",
        "preflight models [WORD ...]",
        EPILOG,
    )
    parser.add_argument("words", nargs="*", metavar="WORD")
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Print the list, or the rows that every word is in."""
    options = parser(name).parse_args(args)
    found = list(_found(options.words))
    if not found:
        raise _no_model(" ".join(options.words))
    if options.format == "json":
        value = {"schema_version": SCHEMA_VERSION, "models": [_to_dict(model) for model in found]}
        print_json(value, sys.stdout)
        return FITS
    page = page_for(sys.stdout, options.color)
    head = ("parameters", "formula", "type", "model")
    rows = [head, *(_row(model) for model in found)]
    lines = [f"preflight: {counted(len(found), 'model')}"]
    lines += page.table(rows, right=(0,))
    if options.verbose:
        for model in found:
            notes = "; ".join((*model.missing, f"also {', '.join(model.also) or 'nothing else'}"))
            lines += page.wrap(f"{model.entry.id}: {notes}", "  ", "    ")
    lines.append(f"next: preflight size {found[0].entry.id}")
    print_lines(lines, sys.stdout)
    return FITS


def _found(words: list[str]) -> Iterator[KnownModel]:
    """Yield the models that have all words in their id or type; where there is none, the other names that have."""
    names = tuple(all_names())
    entries = sorted(all_models(), key=lambda entry: entry.id.lower())
    shown = [(entry.id, entry) for entry in entries if _has(words, f"{entry.id} {_type(entry)}")]
    if not shown:
        by_id = {entry.id: entry for entry in entries}
        named = [other for other in names if _has(words, other.name)]
        own = [other for other in named if [other.name.lower()] == [word.lower() for word in words]]
        shown = [(other.name, by_id[other.model]) for other in own or named]
    if not shown and len(words) == 1:
        entry = find_model(words[0])  # by rule: a sibling, whose name stands nowhere
        shown = [] if entry is None else [(words[0], entry)]
    for name, entry in shown:
        model = describe_config(entry.config, entry.id, entry.source, entry.num_params)
        also = tuple(other.name for other in names if other.model == entry.id)
        yield KnownModel(name, entry, missing_inputs(ONE_ROW, model), also)


def _has(words: list[str], text: str) -> bool:
    return all(word.lower() in text.lower() for word in words)


def _type(entry: RegistryEntry) -> str:
    return str(entry.config.get("model_type", ""))


def _no_model(name: str) -> BadInput:
    like = models_like(name)
    near = f"like it: {', '.join(like)}; " if like else ""
    return BadInput.one(
        f"no model here has {name!r} in its name or type",
        fix=f"{near}a folder with a config.json does as well: preflight size FOLDER",
    )


def _row(model: KnownModel) -> tuple[str, ...]:
    is_other = model.name != model.entry.id
    name = f"{model.name} = {model.entry.id}" if is_other else model.name
    num_params = f"{model.entry.num_params / 1e9:.2f} B"
    return num_params, "no" if model.missing else "yes", _type(model.entry), name


def _to_dict(model: KnownModel) -> dict[str, Any]:
    entry = model.entry
    return {
        "name": model.name,
        "id": entry.id,
        "num_params": entry.num_params,
        "model_type": _type(entry),
        "is_priced": not model.missing,
        "missing": list(model.missing),
        "is_gated": entry.is_gated,
        "checked": entry.checked,
        "source": entry.source,
        "also": list(model.also),
    }
