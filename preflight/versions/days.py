"""What `pip install` gave on some days: releases that came together, where nobody says which ones a launch will have."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.versions.installed import KNOWN_VERSIONS

_LIBRARIES = (
    "accelerate", "bitsandbytes", "deepspeed", "litgpt", "peft", "torch", "torchtune", "transformers", "trl",
)  # fmt: skip
_ROWS = {
    "2024-08-31": "0.33.0 0.43.3 0.15.0 0.4.11 0.12.0 2.4.0 0.2.1 4.44.2 0.10.1",
    "2025-01-25": "1.3.0 0.45.1 0.16.3 0.5.6 0.14.0 2.5.1 0.5.0 4.48.1 0.13.0",
    "2025-06-10": "1.7.0 0.46.0 0.17.1 0.5.8 0.15.2 2.7.1 0.6.1 4.52.4 0.18.1",
    "2025-07-24": "1.9.0 0.46.1 0.17.2 0.5.9 0.16.0 2.7.1 0.6.1 4.53.3 0.19.1",
    "2025-08-25": "1.10.1 0.47.0 0.17.5 0.5.10 0.17.1 2.8.0 0.6.1 4.55.4 0.21.0",
    "2025-12-01": "1.12.0 0.48.2 0.18.2 0.5.11 0.18.0 2.9.1 0.6.1 4.57.3 0.25.1",
    "2026-01-10": "1.12.0 0.49.1 0.18.4 0.5.12 0.18.1 2.9.1 0.6.1 4.57.3 0.26.2",
    "2026-02-10": "1.12.0 0.49.1 0.18.5 0.5.12 0.18.1 2.10.0 0.6.1 5.1.0 0.28.0",
    "2026-06-20": "1.14.0 0.49.2 0.19.2 0.5.12 0.19.1 2.12.1 0.6.1 5.12.1 1.6.0",
    "2026-09-20": "1.15.0 0.50.2 0.19.7 0.5.13 0.21.0 2.13.0 0.6.1 5.17.0 1.13.0",
}
"""Day -> the newest releases of it (upload times of pypi.org, read 2026-11-27); torch no newer than what was read."""

DAYS: Mapping[str, Mapping[str, str]] = {
    **{
        day: dict(zip(_LIBRARIES, releases.split(), strict=True)) for day, releases in _ROWS.items()
    },
    "2026-12-02": {name: KNOWN_VERSIONS[name] for name in _LIBRARIES},
}
"""Day -> library -> its release, oldest first; the last has what preflight was checked against.

A day for every change of a default that memory depends on: the test of this table asks preflight/scripts for them.
"""

_OLDER = {
    "2023-03-12": "0.17.0 0.37.1 0.8.2 - 0.2.0 1.13.1 - 4.26.1 0.4.0",
    "2023-07-01": "0.20.3 0.39.1 0.9.5 - 0.3.0 2.0.1 - 4.30.2 0.4.6",
    "2023-12-01": "0.25.0 0.41.2.post2 0.12.4 - 0.6.2 2.1.1 - 4.35.2 0.7.4",
    "2024-03-10": "0.27.2 0.43.0 0.14.0 - 0.9.0 2.2.1 - 4.38.2 0.7.11",
}
"""The same of the days before (`uv pip compile --exclude-newer DAY`, read 2026-11-29); what there was not yet is `-`."""

OLDER_DAYS: Mapping[str, Mapping[str, str]] = {
    day: {
        name: oldest if release == "-" else release
        for (name, oldest), release in zip(
            next(iter(DAYS.values())).items(), releases.split(), strict=True
        )
    }
    for day, releases in _OLDER.items()
}
"""Days on which only a launch was installed whose libraries, or words, rule out the newer ones."""

NEEDS = (
    ("transformers", "5.20", "torch", "2.6"),
    ("transformers", "5.15", "torch", "2.5"),
    ("transformers", "5.1", "torch", "2.4"),
    ("transformers", "5", "torch", "2.2"),
    ("transformers", "4.52", "torch", "2.1"),
    ("accelerate", "1.16", "torch", "2.6"),
    ("accelerate", "1.3", "torch", "2"),
    ("trl", "0.26", "transformers", "4.56.1"),
    ("trl", "0.21", "transformers", "4.55"),
    ("trl", "0.19", "transformers", "4.51"),
    ("trl", "0.12", "transformers", "4.46"),
)
"""From this release on, a library asks for another of at least that release: what asks of a library is behind what that
asks itself (Requires-Dist of trl 0.9.6 to 1.15.0 and accelerate 1.0.1 to 1.16.0). transformers takes an older torch for none
at all (utils/import_utils.py is_torch_available, 4.47.1 to 5.24.0)."""
