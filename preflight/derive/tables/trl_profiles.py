"""launchers/trl/profiles.json: what TRL's own accelerate configs say, by the names that `--accelerate_config` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from preflight.derive.tables.json_rows import in_rows
from preflight.derive.target import Files, Say

PATH = "preflight/launchers/trl/profiles.json"


def derive() -> dict[str, Any]:
    """Return name -> settings of every config that the installed TRL ships."""
    import trl

    folder = Path(trl.__file__).parent / "accelerate_configs"
    return {
        "version": trl.__version__,
        "profiles": {
            path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
            for path in sorted(folder.glob("*.yaml"))
        },
    }


def files(say: Say) -> Files:
    """Yield the file of the installed release."""
    yield PATH, in_rows(derive(), nested=("profiles",))
