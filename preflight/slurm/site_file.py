"""The file in which a site says how much memory its GPUs have: `preflight-site.yaml` beside slurm.conf.

gpu_memory:
  a100: a100-sxm-40        # a GRES type: a key of the GPU table,
  frobnicator: 23.5        # or the GiB that torch reports as total
feature_memory:
  bigmem: h100-nvl-94      # a node's feature, which beats its type
"""

from __future__ import annotations

from preflight.errors import Problem, raise_if_any
from preflight.formats.load import read_data_file
from preflight.near_names import nearest_fix
from preflight.slurm.gpu_memory import SiteMap, device_of_words

KEYS = {"gpu_memory": "types", "feature_memory": "features"}


def read_site_map(path: str) -> SiteMap:
    """Return a site's map; raise BadInput with every problem of its file."""
    file = read_data_file(path)
    tables: dict[str, dict[str, str]] = {"types": {}, "features": {}}
    origins: dict[str, str] = {}
    problems: list[Problem] = []
    for key, table in file.value.items():
        kind = KEYS.get(key)
        if kind is None or not isinstance(table, dict):
            message = (
                f"no key of a site's file: {key}" if kind is None else f"{key} must hold a mapping"
            )
            fix = nearest_fix(str(key), tuple(KEYS)) or f"one of {', '.join(KEYS)}"
            problems.append(Problem(message, file.place(key), fix))
            continue
        for name, words in table.items():
            place = file.place(key, name)
            plain = str(name).lower() if kind == "types" else str(name)
            try:
                device_of_words(str(words), plain, place)
            except ValueError as error:
                fix = "a key such as a100-sxm-40, or the GiB that torch reports"
                problems.append(Problem(str(error), place, fix))
            tables[kind][plain] = str(words)
            origins[f"{kind}.{plain}"] = place
    raise_if_any(problems)
    return SiteMap(tables["types"], tables["features"], origins)
