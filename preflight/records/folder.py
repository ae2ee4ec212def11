"""Where a site keeps what its runs took, and whether they correct anything: asked in every check, so nothing else is here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from preflight.device import DeviceSpec
    from preflight.records.site_correction import Correction

FOLDER_VARIABLE = "PREFLIGHT_RECORDS"
CORRECTION_FILE = "correction.json"


def records_folder() -> str:
    """Return the folder: PREFLIGHT_RECORDS, else preflight's under XDG_DATA_HOME or ~/.local/share."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return os.path.abspath(os.path.expanduser(named))
    base = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local/share")
    return os.path.join(base, "preflight")


def known_correction(device: DeviceSpec | None) -> Correction | None:
    """Return what this site's runs correct on a device; what reads them is loaded where there are any."""
    if device is None or not os.path.exists(os.path.join(records_folder(), CORRECTION_FILE)):
        return None
    from preflight.records.site_correction import correction_for

    return correction_for(device)
