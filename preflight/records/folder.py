"""Where a site keeps what its runs took."""

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
