"""formulas/costs/RELEASE/*.json: layers of an older transformers, where formulas made from the newest are off.

What `python -m preflight.derive FAMILY --python VENV/bin/python` makes in an environment whose transformers is one of
those in preflight/formulas/releases.py. A method is kept where a trace says that no rule about versions does.
"""

from __future__ import annotations

import gc
import os
from importlib.metadata import version

import preflight
from preflight.derive.costs.cost_files import both_ways, known_costs, rendered, together, without
from preflight.derive.costs.costs import CANNOT_RUN, derive
from preflight.derive.costs.formula_table import compare
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.target import ROOT, Chosen, Files, Say
from preflight.formulas.adapters.adaptations import (
    ADAPTATIONS,
    ALL_LINEAR,
    USUAL,
    Adaptation,
    targets_of,
)
from preflight.formulas.cost_tables import METHODS, family_costs
from preflight.formulas.releases import Release, releases_of
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
            and (method in known or is_off(name, method, adaptation, plugins, say))
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
    worst = 0.0
    for checkpointing in (False, True):
        adapter = small_launch(name, method, checkpointing, adaptation).adapter
        try:
            found = compare(
                name, method, checkpointing, plugins, adapter=adapter, versions=installed()
            )
        except CANNOT_RUN:
            continue
        worst = max(worst, *(abs(compared.error) for compared in found))
    if worst > MOST_OFF:
        say(f"{name} {adaptation.folder} {method}: {100 * worst:.1f} % off")
    return worst > MOST_OFF
