"""formulas/costs/RELEASE/*.json: layers of an older transformers, where formulas made from the newest are off.

What `python -m preflight.derive FAMILY --python VENV/bin/python` makes in an environment whose transformers is one of
those in preflight/formulas/releases.py. A method is kept where a trace says that no rule about versions does; of a type
that scans states, every one that the newest has, in what the type's layers are counted in there and in that release.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import preflight
from preflight.derive.costs import families
from preflight.derive.costs.cost_files import both_ways, known_costs, rendered, together, without
from preflight.derive.costs.costs import CANNOT_RUN, derive
from preflight.derive.costs.formula_table import compare
from preflight.derive.layouts.layouts import layout_of
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.target import ROOT, Chosen, Files, Say, read
from preflight.formulas.adapters.adaptations import (
    ADAPTATIONS,
    ALL_LINEAR,
    USUAL,
    Adaptation,
    targets_of,
)
from preflight.formulas.cost_tables import CHECKPOINTED, METHODS, family_costs
from preflight.formulas.layers.installed_kernels import scans_states
from preflight.formulas.releases import Release, releases_of
from preflight.model import MASKED_LM
from preflight.models import describe
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins

MOST_OFF = 0.01
"""Of a trace, at the moment at which formulas without a table of the release are off most."""
LIBRARIES = ("transformers", "peft", "torch")


def installed() -> dict[str, str]:
    """Return the releases that traces here are of."""
    return {name: version(name).partition("+")[0] for name in LIBRARIES}


def release_here() -> Release | None:
    """Return the older releases that the installed transformers is one of; None for those that all tables are of."""
    return next(iter(releases_of(installed())), None)


def files_of(name: str, release: Release, chosen: Chosen, say: Say) -> Files:
    """Yield a family's files of a release, for every way of adapting that it is kept in."""
    preflight.__path__.append(str(ROOT))  # hooks, where nothing is installed
    plugins = load_plugins(str(ROOT))
    scans = scans_states(describe(small_config(name), name, "small_models.py"))
    if scans and read(f"{families.LAYOUTS}/{name}.json"):
        yield from _files_of_scans(name, release, chosen, plugins, say)
        return
    for adaptation in ADAPTATIONS:
        is_kept = adaptation is USUAL or family_costs(name, adaptation.folder) is not None
        is_chosen = not chosen.adapters or (adaptation.folder or ALL_LINEAR) in chosen.adapters
        model = describe(small_config(name), name, "small_models.py")
        if not (is_kept and is_chosen) or targets_of(adaptation, model) is None:
            continue
        own = os.path.join(release.folder, adaptation.folder)
        file = known_costs(name, own)
        known = file["shared"] if file else {}
        usual = [m for m in METHODS if adaptation is USUAL or "adapter" in METHODS[m]]
        wanted = [
            method
            for method in chosen.methods or usual
            if method in usual
            and (scans or method in known or is_off(name, method, adaptation, plugins, say))
        ]
        entry = derive(name, wanted, adaptation)
        gc.collect()
        if file and chosen.methods:
            entry = together(without(file, both_ways(wanted)), entry)
        text = rendered(entry) if entry["kinds"] else ""
        if text or known:
            yield os.path.join("preflight/formulas/costs", own, f"{name}.json"), text


def is_off(
    name: str, method: str, adaptation: Adaptation, plugins: PluginManager, say: Say
) -> bool:
    """Tell whether formulas are off in the installed release, with or without checkpointing."""
    ways = (_worst(name, method, checked, adaptation, plugins) for checked in (False, True))
    worst = max(error or 0.0 for error in ways)
    if worst > MOST_OFF:
        say(f"{name} {adaptation.folder} {method}: {100 * worst:.1f} % off")
    return worst > MOST_OFF


def _worst(
    name: str, method: str, checkpointing: bool, way: Adaptation, plugins: PluginManager
) -> float | None:
    """Return the share by which formulas are off in the installed release where they are off most; None where it cannot
    be told."""
    adapter = small_launch(name, method, checkpointing, way).adapter
    try:
        found = compare(name, method, checkpointing, plugins, adapter=adapter, versions=installed())
    except CANNOT_RUN:
        return None
    return max((abs(compared.error) for compared in found), default=None)


def _files_of_scans(
    name: str, release: Release, chosen: Chosen, plugins: PluginManager, say: Say
) -> Files:
    """Yield the files of a type that scans states, and its table with what they are counted in.

    All lie where they belong while they are compared with traces, and then again what lay there before.
    """
    layout = f"{families.LAYOUTS}/{name}.json"
    ways = [
        (variant, way)
        for variant in (
            name,
            *(beside for beside, head in families.beside(name) if head == MASKED_LM),
        )
        for way in ADAPTATIONS
        if family_costs(variant, way.folder) is not None
        and (not chosen.adapters or (way.folder or ALL_LINEAR) in chosen.adapters)
    ]
    paths = [_path(variant, release, way) for variant, way in ways]
    before = [read(path) for path in (layout, *paths)]
    table = json.loads(before[0])
    usual = set(table["widths"])
    try:
        wide = {**table, "widths": sorted(usual.union(layout_of(name)["widths"]))}
        families.put(layout, families.in_rows(wide))
        made = [_of_way(variant, release, chosen, way, plugins, say) for variant, way in ways]
        usual |= set().union(*map(families.used, made)).intersection(wide["widths"])
        texts = [rendered(entry) if entry["shared"] else "" for entry in made]
    finally:
        for path, text in zip((layout, *paths), before, strict=True):
            families.put(path, text)
    yield layout, families.in_rows({**table, "widths": sorted(usual)})
    yield from ((path, text) for path, text in zip(paths, texts, strict=True) if text)


def _path(name: str, release: Release, way: Adaptation) -> str:
    return os.path.join("preflight/formulas/costs", release.folder, way.folder, f"{name}.json")


def _of_way(
    name: str,
    release: Release,
    chosen: Chosen,
    way: Adaptation,
    plugins: PluginManager,
    say: Say,
) -> dict[str, Any]:
    """Write the costs of one way of adapting without the methods whose formulas are off; return what is left."""
    own = os.path.join(release.folder, way.folder)
    newest, known = known_costs(name, way.folder), known_costs(name, own)
    assert newest is not None
    had = known["shared"] if known is not None and chosen.only_missing else ()
    wanted = [m for m in chosen.methods or METHODS if m in newest["shared"] and m not in had]
    entry = derive(name, wanted, way)
    gc.collect()
    if known is not None and (chosen.methods or chosen.only_missing):
        entry = together(without(known, both_ways(wanted)), entry)
    path = _path(name, release, way)
    families.put(path, rendered(entry) if entry["shared"] else "")
    off = _off(name, [m for m in wanted if m in entry["shared"]], way, plugins, say)
    entry = without(entry, off)
    families.put(path, rendered(entry) if entry["shared"] else "")
    return entry


def _off(
    name: str, methods: Sequence[str], way: Adaptation, plugins: PluginManager, say: Say
) -> set[str]:
    """Return the methods whose formulas are off in the installed release: with checkpointing alone, or in both ways."""
    found = set()
    for method in methods:
        for checkpointing in (True, False):
            worst = _worst(name, method, checkpointing, way, plugins)
            said = "not compared" if worst is None else f"{100 * worst:.2f} % off"
            say(f"{name} {way.folder} {method}{CHECKPOINTED * checkpointing}: {said}")
            if worst is None or worst > MOST_OFF:
                found |= {method + CHECKPOINTED} if checkpointing else both_ways([method])
    return found
