"""Where a site keeps what its runs took, and whether they correct anything: asked in every check, so nothing else is here."""

from __future__ import annotations

import os

FOLDER_VARIABLE = "PREFLIGHT_RECORDS"
CORRECTION_FILE = "correction.json"


def records_folder() -> str:
    """Return the folder: PREFLIGHT_RECORDS, else preflight's under XDG_DATA_HOME or ~/.local/share."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return os.path.abspath(os.path.expanduser(named))
    base = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local/share")
    return os.path.join(base, "preflight")


def has_correction() -> bool:
    """Tell whether this site's runs may correct an estimate."""
    return os.path.exists(os.path.join(records_folder(), CORRECTION_FILE))
